"""Batches of a data set, loaded by processes of their own if asked; what goes wrong in one of them is one line."""
from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from spic.errors import SpicError
from spic.machine import cores

MOST_PER_BATCH = 2 ** 16


def check_workers(workers: int) -> int:
    """`workers` if this machine can bear so many processes: 4 for each core, and 16 anywhere."""
    most = max(16, 4 * cores())
    if not 0 <= workers <= most:
        raise SpicError(f"--workers {_short(workers)}: this machine has {cores()} cores, so choose 0 to {most}")
    return workers


def batches(dataset: Dataset, batch_size: int, workers: int = 0, indices: Sequence[int] | None = None,
            pin: bool = False) -> Iterator[tuple[Tensor, Tensor | None, list[int]]]:
    """(images [B, 3, H, W], targets or None, indices) for the items `indices` (all of them) in order, the last part too.

    `workers`: processes that load, 0 for none; `pin`: into memory that a GPU copies fast from. A SpicError of the data set
    and the death of a worker are one line; the latter is found out within 5 seconds.
    """
    check_workers(workers)
    if not 1 <= batch_size <= MOST_PER_BATCH:
        raise SpicError(f"--batch_size {_short(batch_size)}: choose 1 to {MOST_PER_BATCH}")
    indices = list(range(len(dataset)) if indices is None else indices)
    needed = min(workers, -(-len(indices) // batch_size))  # torch would start all of them for a single batch
    loader = DataLoader(Subset(dataset, indices), batch_size, num_workers=needed, pin_memory=pin)
    start = 0
    for batch in _one_line_errors(loader):
        images, targets = batch if isinstance(batch, (list, tuple)) else (batch, None)
        yield images, targets, indices[start:start + len(images)]
        start += len(images)


def _one_line_errors(loader: DataLoader) -> Iterator:
    """What the loader gives; only its own errors are caught, not those of who uses the batches."""
    iterator = None
    while True:
        try:
            iterator = iterator or _without_signal(loader)
            batch = next(iterator)
        except StopIteration:
            return
        except SpicError as error:
            raise type(error)(_last_line(str(error.args[0]))) from None
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise SpicError(f"a process that loads images died ({str(error).splitlines()[0]}), perhaps for lack of memory; "
                            "try --workers 0, or fewer workers") from None
        yield batch


def _without_signal(loader: DataLoader) -> Iterator:
    """The loader's iterator, without torch's signal handler for dead workers.

    That handler raises in the main thread wherever it happens to be, where nobody can catch it for what it is. Without it
    the loader itself finds the dead worker when it has waited 5 seconds for a batch, and raises out of next().
    """
    before = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    if threading.current_thread() is threading.main_thread():
        of_torch = getattr(before, "__module__", "") == "torch.utils.data._utils.signal_handling"
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None or of_torch else before)
    return iterator


def _last_line(message: str) -> str:
    """A worker's exception comes back with the text of its traceback, "Caught ... Original Traceback ...", as message."""
    if not message.startswith("Caught "):
        return message
    return message.strip().splitlines()[-1].partition(": ")[2]


def _short(number: int) -> str:
    return str(number) if abs(number) < 10 ** 12 else f"of {len(str(abs(number)))} digits"
