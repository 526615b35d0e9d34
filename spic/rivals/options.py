"""What the commands that measure rivals share: their options, the benchmark asked for, the file of results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from spic.benchmarks import EMBEDDED, Benchmark, default_name, every_name, find
from spic.commands import boolean, positive
from spic.machine import cores
from spic.record import Record, Results
from spic.tasks import TASKS


def add_choice(add: Callable) -> None:
    """The task, the benchmark and its network. ``add``: a parser's ``add_argument``."""
    add("--task", choices=TASKS, required=True)
    add("--benchmark", help=f"one of {every_name()} (default: the published one where data is given, else {EMBEDDED})")
    add("--backbone_weights", type=Path, help="a torchvision state dict (default: torchvision's or the shipped one)")


def add_options(add: Callable) -> None:
    """Data, machine and output. ``add``: a parser's ``add_argument``."""
    add("--valdir", "--data", type=Path, help="data folder (default: the generated scenes)")
    add("--limit", type=positive, help="use only N images, evenly spread over the set")
    add("--batch_size", type=positive, default=16, help="images per step of the network (default: %(default)s)")
    add("--workers", type=positive, default=cores(), help="cores for the codecs (default: all)")
    add("--gpu", type=boolean, default=False, metavar="True|False", help="run the networks on the GPU (default: False)")
    add("--cache", type=Path, help="folder of finished points, one file each (default: spic's cache folder)")
    add("--output", type=Path, required=True, help="write the records to FILE.json")


def benchmark_of(task: str, name: str | None, data: Path | None) -> Benchmark:
    """The one that was named, else the published one where there is data, else the embedded one."""
    return find(task, name if name is not None else default_name(task, data))


def publish(output: Path, records: list[Record], missing: Mapping[str, str]) -> None:
    """Write the records, and say of each rival that could not be measured why; the reason is written, too."""
    for reason in missing.values():
        print(f"left out: {reason}", file=sys.stderr)
    Results(tuple(records), missing).write(output)
    print(output)
