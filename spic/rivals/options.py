"""What the commands that measure rivals share: options, and the file of reports that `python -m spic.curves` reads."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from spic.benchmarks import EMBEDDED, PUBLISHED, Benchmark, find
from spic.files import write_whole
from spic.commands import boolean, positive


def add_options(add: Callable) -> None:
    """``add``: a parser's ``add_argument``."""
    add("--valdir", type=Path, help="data folder (default: the generated scenes)")
    add("--limit", type=positive, help="use only N images, evenly spread over the set")
    add("--batch_size", type=positive, default=16, help="images per step of the network (default: %(default)s)")
    add("--workers", type=positive, default=len(os.sched_getaffinity(0)), help="cores for the codecs (default: all)")
    add("--gpu", type=boolean, default=False, metavar="True|False", help="run the networks on the GPU (default: False)")
    add("--cache", type=Path, help="folder of finished points, one file each (default: spic's cache folder)")
    add("--output", type=Path, required=True, help="write the reports to FILE.json")


def benchmark_of(args: argparse.Namespace, data: Path | None) -> Benchmark:
    """The one that was named, else the published one where there is data, else the embedded one."""
    return find(args.task, args.benchmark or (PUBLISHED[args.task] if data else EMBEDDED))


def publish(output: Path, reports: list[dict], missing: dict[str, str]) -> None:
    """Write the reports, and for each rival that could not be measured the reason, which is told as well."""
    for reason in missing.values():
        print(f"left out: {reason}", file=sys.stderr)
    write_whole(output, (json.dumps({"reports": reports, "missing": missing}, indent=1) + "\n").encode())
    print(output)
