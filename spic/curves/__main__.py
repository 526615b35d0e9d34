"""Curves from result files.

    python -m spic.curves figure runs/scenes --output Figures/scenes-classification
    python -m spic.curves bd runs/scenes --anchor HEVC
    python -m spic.curves links runs/scenes
    python -m spic.curves cost runs/scenes
    python -m spic.curves paper
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from spic.cli import check_writable, guarded
from spic.curves import paper, tables
from spic.curves.figure import draw, rendered
from spic.curves.results import RATES, Comparison, read
from spic.errors import SpicError
from spic.points import write_atomically


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m spic.curves", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    told = {
        "figure": (figure, "all points as CSV, the figure as PNG and SVG, Bjøntegaard deltas, a caption"),
        "bd": (bd, "Bjøntegaard deltas between the curves, and bits at one point under the uncompressed network"),
        "links": (links, "time to answer over links of 50 kbit/s to 100 Mbit/s"),
        "cost": (cost, "bits, accuracy and edge cost of every point"),
    }
    for name, (run, help_text) in told.items():
        verb = verbs.add_parser(name, help=help_text, description=help_text)
        verb.add_argument("results", nargs="+", type=Path, help="JSON files of val.py or spic.baselines, or folders of them")
        verb.add_argument("--rate", choices=RATES, default="bpp", help="which bits count (default: %(default)s)")
        verb.set_defaults(run=run)
        if name in ("figure", "bd"):
            verb.add_argument("--anchor", nargs="+", default=[], help="compare with these curves only (default: all)")
        needed = name == "figure"
        verb.add_argument("--output", type=Path, required=needed,
                          help="name of the figure's files, without an ending" if needed else "also write a CSV file")
        if needed:
            verb.add_argument("--title", default="", help="above the figure (default: task, benchmark, images)")
    verb = verbs.add_parser("paper", help="the paper's four figures, from the numbers read off them")
    verb.add_argument("--output", type=Path, default=Path("Figures"), help="folder (default: %(default)s)")
    verb.set_defaults(run=redraw_paper)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return guarded(lambda: args.run(args))


def _comparison(args: argparse.Namespace) -> Comparison:
    comparison = read(args.results, args.rate)
    names = [curve.name for curve in comparison.curves]
    unknown = [name for name in getattr(args, "anchor", []) if name not in names]
    if unknown:
        raise SpicError(f"unknown anchor {unknown[0]!r}: the curves are {', '.join(names)}")
    return comparison


def write_figure(comparison: Comparison, output: Path, anchors: list[str] = []) -> list[Path]:
    """PNG, SVG, CSV of points, CSV of deltas and caption; returns the files."""
    deltas = tables.deltas(comparison, anchors)
    equal = tables.rates_at_equal_accuracy(comparison)
    caption = "\n\n".join([*comparison.notes, tables.as_text(equal), tables.as_text(deltas)]) + "\n"
    parts = {**{f".{kind}": data for kind, data in rendered(draw(comparison)).items()},
             ".csv": tables.as_csv(tables.points(comparison)).encode(), ".bd.csv": tables.as_csv(deltas).encode(),
             ".txt": caption.encode()}
    files = [output.with_name(output.name + ending) for ending in parts]
    for file, data in zip(files, parts.values()):
        check_writable(file)
        write_atomically(file, data)
    return files


def figure(args: argparse.Namespace) -> None:
    comparison = _comparison(args)
    if args.title:
        comparison = dataclasses.replace(comparison, title=args.title)
    for file in write_figure(comparison, args.output, args.anchor):
        print(file)


def redraw_paper(args: argparse.Namespace) -> None:
    for name, comparison in paper.comparisons().items():
        for file in write_figure(comparison, args.output / name):
            print(file)


def _show(table: tables.Table, output: Path | None) -> None:
    print(tables.as_text(table))
    if output:
        check_writable(output)
        write_atomically(output, tables.as_csv(table).encode())


def bd(args: argparse.Namespace) -> None:
    comparison = _comparison(args)
    print(tables.as_text(tables.rates_at_equal_accuracy(comparison)), end="\n\n")
    _show(tables.deltas(comparison, args.anchor), args.output)


def links(args: argparse.Namespace) -> None:
    _show(tables.time_to_answer(_comparison(args)), args.output)


def cost(args: argparse.Namespace) -> None:
    _show(tables.edge_cost(_comparison(args)), args.output)


if __name__ == "__main__":
    sys.exit(main())
