"""`spic scenes`: draw a set of the embedded benchmark's pictures, for other programs or a look at them."""
from __future__ import annotations

import argparse
from pathlib import Path

from spic.commands import Parser, guarded, natural, positive
from spic.datasets.scenes import TASKS, ensure_scenes


def main(argv: list[str] | None = None) -> int:
    """Draw the set and print its folder; returns the exit code."""
    parser = Parser("spic scenes", formatter_class=argparse.HelpFormatter, description="Draw a set of scenes.")
    add = parser.add_argument
    add("--task", choices=TASKS, required=True, help="which kind of pictures")
    add("--split", choices=("train", "val"), default="val", help="which of its pictures (default: %(default)s)")
    add("--count", type=positive, help="how many (default: the size of the validation set)")
    add("--root", type=Path, help="folder to write into (default: the cache folder)")
    add("--seed", type=natural, default=0, help="another seed, other pictures (default: %(default)s)")
    add("--workers", type=positive, help="processes that draw (default: one per core)")
    args = parser.parse_args(argv)
    return guarded(lambda: print(ensure_scenes(**vars(args))))
