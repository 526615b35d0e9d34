"""The operating points that a command works on: the options that name them, and what those name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from spic.benchmarks import EMBEDDED
from spic.coding import CODERS
from spic.coding.counting import KINDS
from spic.points import DICT_FILE, OperatingPoint, load_points, select
from spic.tasks import TASKS


def add_points(add: Callable) -> None:
    """Points of one task and benchmark, their network and how they are coded. ``add``: a parser's ``add_argument``."""
    add("--task", choices=TASKS, default="classification", help="default: %(default)s")
    add("--benchmark", default=EMBEDDED, help="whose network and points (default: %(default)s)")
    add("--points", type=Path, default=DICT_FILE, help="a dict.yaml, such as train.py writes (default: the project's)")
    add("--split_point", nargs="+", default=["S1"], help="S1 S2 ... or all (default: S1)")
    add("--compress_factor", nargs="+", default=["0"], help="0 1 2 ... or all (default: 0)")
    add("--coder", choices=CODERS, default="rans", help="default: %(default)s")
    add("--tables", choices=KINDS, help="the kind of frequency table (default: the point's own, as dict.yaml says, else shared)")


def chosen(args: argparse.Namespace) -> list[OperatingPoint]:
    """What the options name; SpicError as ``select`` says it."""
    return select(load_points(args.points.resolve()), args.task, args.benchmark, args.split_point, args.compress_factor, args.tables)
