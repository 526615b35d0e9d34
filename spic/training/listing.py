"""Lists and checks the pictures that bottlenecks of a benchmark would learn from: the command `spic pictures`.

    spic pictures --benchmark photos --data TRAINING --apart_from photos-1000 imagenette2-160/val
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from spic.benchmarks import Benchmark, find, names
from spic.commands import Parser, guarded
from spic.datasets.apart import require_apart
from spic.datasets.imagenet import pictures
from spic.files import check_writable, write_json
from spic.training.curve import Pictures, open_pictures


def _parser() -> argparse.ArgumentParser:
    parser = Parser("spic pictures", description="List the pictures that bottlenecks would learn from, without labels, "
                    "and refuse those that are tested on.")
    add = parser.add_argument
    add("--task", default="classification", help="of the benchmark")
    add("--benchmark", default="photos", help=f"one of {', '.join(names('classification'))}, or of the other tasks")
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
    paths = training_list(benchmark, args.data)
    require_apart(paths, args.apart_from)
    left = len(pictures(args.data)) - len(paths)
    print(f"{len(paths)} pictures in {args.data}, {left} left out ({', '.join(benchmark.source.left_out) or 'by no rule'})")
    for name, count in sorted(Counter(_part(path, args.data) for path in paths).items()):
        print(f"  {name:<30} {count:>8}")
    for folder in args.apart_from:
        print(f"none of them is one of the {len(pictures(folder))} in {folder}")
    if args.output:
        write_json(args.output, {"pictures": [str(path.relative_to(args.data)) for path in paths]})


def training_list(benchmark: Benchmark, data: Path) -> list[Path]:
    """What bottlenecks of the benchmark learn from in that folder, without labels."""
    return open_pictures(benchmark, Pictures(data, unlabelled=True), labelled=False).paths


def _part(path: Path, data: Path) -> str:
    """The folder right in ``data`` that the picture lies in."""
    inside = path.relative_to(data).parts
    return inside[0] if inside[1:] else "."


if __name__ == "__main__":
    raise SystemExit(main())
