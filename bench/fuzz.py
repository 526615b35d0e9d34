"""Damaged input of every kind: each must end in one line of a SpicError, or in a right result.

    python bench/fuzz.py --cases 100000
    python bench/fuzz.py --only records annotations --cases 2000 --seed 7
    python bench/fuzz.py --only records --seed 7 --first 1234 --cases 1      one case again

A case depends on (seed, target, number) alone. Each target runs in a process of its own, which may take a few GB and seconds
of a case, so that a crash, a hang and a flood of memory count as what they are. Ends with code 1 and the seed and number of
the first case that is neither refused nor right; of a target, that case is the last.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import multiprocessing
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from fuzz_targets import TARGETS, Case, Offence

from spic.commands import Parser, natural, positive
from spic.errors import SpicError
from spic.report import aligned

GROWTH = 4 << 30  # bytes of address space that a target may take beyond what it begins with
SLOWEST_S = 20.0
LONGEST_LINE = 2000
WARM_UP = 100


class TooSlow(BaseException):
    """Not an Exception: what is attacked may turn any of those into an error of ours."""


# ---- cases of one target -----------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What the cases of a target came to. worst: the number of the slowest case. peak_mb: memory beyond the
    first."""

    cases: int = 0
    refused: int = 0
    accepted: int = 0
    seconds: float = 0.0
    worst_ms: float = 0.0
    worst: int = 0
    peak_mb: float = 0.0


def attack(name: str, numbers: Iterable[int], seed: int, folder: Path,
           note: Callable[[int], None] = lambda number: None) -> Tally:
    """Run the cases with these numbers; an Offence for the first that is neither refused in one line nor right."""
    case, tally = TARGETS[name](folder), Tally()
    with contextlib.suppress(Offence):  # what is compiled at its first use is no case's time
        for number in range(WARM_UP):
            _refuses(case, random.Random(f"warm {name} {number}"), name)
    begun = time.perf_counter()
    for number in numbers:
        note(number)
        start = time.perf_counter()
        refused = _refuses(case, random.Random(f"{seed} {name} {number}"), f"{name}, --seed {seed}, case {number}")
        spent = 1000 * (time.perf_counter() - start)
        tally.cases, tally.refused = tally.cases + 1, tally.refused + refused
        tally.worst_ms, tally.worst = max((tally.worst_ms, tally.worst), (spent, number))
    tally.accepted, tally.seconds = tally.cases - tally.refused, time.perf_counter() - begun
    return tally


def _refuses(case: Case, rng: random.Random, where: str) -> bool:
    try:
        case(rng)
        return False
    except SpicError as error:
        message = str(error)
        if not message or len(message.splitlines()) > 1 or len(message) > LONGEST_LINE:
            raise Offence(f"{where}: refused in {len(message.splitlines())} lines of {len(message)} characters: "
                          f"{message[:300]!r}") from error
        return True
    except (Exception, TooSlow) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        raise Offence(f"{where}: {type(error).__name__}: {str(error)[:300]} ({place})") from error


# ---- a process of its own ----------------------------------------------------------------------------------------------


def guarded_attack(name: str, numbers: range, seed: int) -> Tally:
    """As ``attack``, in a forked process with limits; its death is an Offence, too."""
    at, context = mmap.mmap(-1, 8), multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(False)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        process = context.Process(target=_child, args=(sender, at, name, numbers, seed, Path(folder)))
        process.start()
        sender.close()
        _watch(process, at, receiver)
        where = f"{name}, --seed {seed}, case {_number(at)}"
        try:
            result = receiver.recv()
        except EOFError:
            raise Offence(f"{where}: the process ended with code {process.exitcode}") from None
        process.join()
    if isinstance(result, str):
        raise Offence(result)
    return result


def _watch(process, at: mmap.mmap, receiver) -> None:
    """Until there is an answer, or the process has stood still for far longer than a case may take."""
    seen, since = -1, time.monotonic()
    while process.is_alive() and not receiver.poll(0.2):
        if _number(at) != seen:
            seen, since = _number(at), time.monotonic()
        elif time.monotonic() - since > 6 * SLOWEST_S:
            process.kill()
    if not process.is_alive():
        process.join()


def _number(at: mmap.mmap) -> int:
    return struct.unpack("q", at[:8])[0]


def _child(sender, at: mmap.mmap, name: str, numbers: range, seed: int, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    resident, virtual = (_of_status(key) for key in ("VmRSS", "VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (virtual + GROWTH,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _too_slow)

    def note(number: int) -> None:
        at[:8] = struct.pack("q", number)
        signal.setitimer(signal.ITIMER_REAL, SLOWEST_S)

    try:
        tally = attack(name, numbers, seed, folder, note)
        tally.peak_mb = (_of_status("VmHWM") - resident) / (1 << 20)
        sender.send(tally)
    except Offence as error:
        sender.send(str(error))


def _too_slow(*_) -> None:
    raise TooSlow(f"not done after {SLOWEST_S:g} s")


def _of_status(key: str) -> int:
    """Bytes of one of the kernel's counts of this process's memory."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) << 10


def row(name: str, tally: Tally) -> dict:
    return {"target": name, "cases": tally.cases, "refused": tally.refused, "accepted": tally.accepted,
            "seconds": f"{tally.seconds:.1f}", "worst ms": f"{tally.worst_ms:.0f}", "case": tally.worst,
            "peak MB": f"{tally.peak_mb:.0f}"}


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=positive, default=100_000, help="of each target (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="TARGET",
                        help=", ".join(TARGETS))
    parser.add_argument("--seed", type=natural, default=0, help="default: %(default)s")
    parser.add_argument("--first", type=natural, default=0, help="number of the first case (default: %(default)s)")
    args = parser.parse_args(argv)
    rows, offences = [], []
    for name in args.only:
        try:
            rows.append(row(name, guarded_attack(name, range(args.first, args.first + args.cases), args.seed)))
            print(aligned(rows[-1:]).splitlines()[1], flush=True)
        except Offence as error:
            offences.append(str(error))
            print(f"OFFENCE: {error}", flush=True)
    print(aligned(rows))
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
