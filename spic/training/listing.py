"""Lists and checks the pictures that bottlenecks of a benchmark would learn from: the command `spic pictures`.

    spic pictures --benchmark photos --data TRAINING --apart_from photos-1000 imagenette2-160/val
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from spic.benchmarks import every_name, find
from spic.commands import Parser, guarded
from spic.datasets.apart import require_apart
from spic.files import check_writable, write_json
from spic.tasks import TASKS
from spic.training.curve import Pictures, open_pictures


def _parser() -> argparse.ArgumentParser:
    parser = Parser("spic pictures", description="List the pictures that bottlenecks would learn from, without labels, "
                    "and refuse those that are tested on.")
    add = parser.add_argument
    add("--task", choices=TASKS, default="classification", help="of the benchmark (default: %(default)s)")
    add("--benchmark", default="photos", help=f"one of {every_name()} (default: %(default)s)")
    add("--data", type=Path, required=True, help="folder of the pictures, nested or flat")
    add("--apart_from", type=Path, nargs="+", default=[], metavar="DIR", help="folders of pictures that are tested on; one of "
        "them among the others, by its content, is an error")
    add("--output", type=Path, metavar="FILE", help="also write all names as a JSON file")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = _parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    benchmark = find(args.task, args.benchmark)
    learned = open_pictures(benchmark, Pictures(args.data, unlabelled=True), labelled=False)
    compared = require_apart(learned.paths, args.apart_from)
    print(f"{len(learned)} pictures in {args.data}, {learned.passed_over} left out "
          f"({', '.join(benchmark.training.left_out) or 'by no rule'})")
    for name, count in sorted(Counter(_part(path, args.data) for path in learned.paths).items()):
        print(f"  {name:<30} {count:>8}")
    for folder, count in compared.items():
        print(f"none of them is one of the {count} in {folder}")
    if args.output:
        write_json(args.output, {"pictures": [str(path.relative_to(args.data)) for path in learned.paths]})


def _part(path: Path, data: Path) -> str:
    """The folder right in ``data`` that the picture lies in."""
    inside = path.relative_to(data).parts
    return inside[0] if inside[1:] else "."


if __name__ == "__main__":
    raise SystemExit(main())
