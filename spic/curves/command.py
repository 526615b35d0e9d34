"""Rate-accuracy curves from result files, or from scratch.

    python -m spic.curves figure runs/scenes --output Figures/scenes-classification
    python -m spic.curves bd runs/scenes --anchor HEVC
    python -m spic.curves links runs/scenes
    python -m spic.curves cost runs/scenes
    python -m spic.curves run --task classification --output Figures/scenes-classification
    python -m spic.curves paper
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from spic.cli import guarded
from spic.curves import measure, paper, tables
from spic.curves.figure import draw, rendered
from spic.curves.results import RATES, Comparison, read
from spic.errors import SpicError
from spic.files import check_writable, write_whole
from spic.report import aligned


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m spic.curves", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, (command, add_arguments, told) in VERBS.items():
        verb = verbs.add_parser(name, help=told, description=told)
        add_arguments(verb)
        verb.set_defaults(command=command)
    return parser.parse_args(argv)


def _add_results(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("results", nargs="+", type=Path, help="JSON files of val.py or spic.rivals, or their folders")
    verb.add_argument("--rate", choices=RATES, default="bpp", help="which bits count (default: %(default)s)")


def _add_table(verb: argparse.ArgumentParser) -> None:
    _add_results(verb)
    verb.add_argument("--output", type=Path, help="also write a CSV file")


def _add_anchor(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--anchor", nargs="+", default=[], help="compare with these curves only (default: all)")


def _add_deltas(verb: argparse.ArgumentParser) -> None:
    _add_table(verb)
    _add_anchor(verb)


def _add_picture(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--output", type=Path, required=True, help="name of the figure's files, without an ending")
    verb.add_argument("--title", default="", help="above the figure (default: task, benchmark, images)")
    _add_anchor(verb)


def _add_figure(verb: argparse.ArgumentParser) -> None:
    _add_results(verb)
    _add_picture(verb)


def _add_run(verb: argparse.ArgumentParser) -> None:
    measure.add_arguments(verb)
    verb.add_argument("--rate", choices=RATES, default="bpp", help="which bits count (default: %(default)s)")
    _add_picture(verb)


def _add_folder(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--output", type=Path, default=Path("Figures"), help="folder (default: %(default)s)")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return guarded(lambda: args.command(args))


def _comparison(args: argparse.Namespace) -> Comparison:
    comparison = read(args.results, args.rate)
    names = [curve.name for curve in comparison.curves]
    unknown = [name for name in getattr(args, "anchor", []) if name not in names]
    if unknown:
        raise SpicError(f"unknown anchor {unknown[0]!r}: the curves are {', '.join(names)}")
    return comparison


def write_figure(comparison: Comparison, output: Path, anchors: Sequence[str] = ()) -> None:
    """PNG, SVG, CSV of points, of deltas and, where they were measured, of edge costs and times to answer; the caption.

    Prints the names of the files.
    """
    deltas = tables.deltas(comparison, anchors)
    equal = tables.rates_at_equal_accuracy(comparison)
    caption = "\n\n".join([*comparison.notes, aligned(equal), aligned(deltas)]) + "\n"
    parts = {**{f".{kind}": data for kind, data in rendered(draw(comparison)).items()},
             ".csv": tables.as_csv(tables.points(comparison)).encode(), ".bd.csv": tables.as_csv(deltas).encode(),
             ".txt": caption.encode()}
    if tables.costs_are_known(comparison):
        parts |= {".cost.csv": tables.as_csv(tables.edge_cost(comparison)).encode(),
                  ".links.csv": tables.as_csv(tables.time_to_answer(comparison)).encode()}
    for ending, data in parts.items():
        file = output.with_name(output.name + ending)
        check_writable(file)
        write_whole(file, data)
        print(file)


def figure(args: argparse.Namespace) -> None:
    write_figure(dataclasses.replace(_comparison(args), title=args.title), args.output, args.anchor)


def run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    args.results = measure.measure(args)
    figure(args)


def redraw_paper(args: argparse.Namespace) -> None:
    for name, comparison in paper.comparisons().items():
        write_figure(comparison, args.output / name)


def _show(table: tables.Table, output: Path | None) -> None:
    print(aligned(table))
    if output:
        check_writable(output)
        write_whole(output, tables.as_csv(table).encode())


def bd(args: argparse.Namespace) -> None:
    comparison = _comparison(args)
    print(aligned(tables.rates_at_equal_accuracy(comparison)), end="\n\n")
    _show(tables.deltas(comparison, args.anchor), args.output)


def links(args: argparse.Namespace) -> None:
    _show(tables.time_to_answer(_comparison(args)), args.output)


def cost(args: argparse.Namespace) -> None:
    _show(tables.edge_cost(_comparison(args)), args.output)


VERBS = {
    "figure": (figure, _add_figure, "all points as CSV, the figure as PNG and SVG, Bjøntegaard deltas, a caption"),
    "bd": (bd, _add_deltas, "Bjøntegaard deltas, and the bits at one point under the uncompressed network"),
    "links": (links, _add_table, "time to answer over links of 50 kbit/s to 100 Mbit/s"),
    "cost": (cost, _add_table, "bits, accuracy and edge cost of every point"),
    "run": (run, _add_run, "measure all points and rivals, then draw the figure; what is done already is kept"),
    "paper": (redraw_paper, _add_folder, "the paper's four figures, from the numbers read off them"),
}


if __name__ == "__main__":
    sys.exit(main())
