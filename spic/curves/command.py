"""Rate-accuracy curves from results, or from scratch.

    spic curves figure runs/scenes --output Figures/scenes-classification
    spic curves bd runs/scenes --anchor HEVC
    spic curves ratios runs/scenes
    spic curves links runs/scenes
    spic curves cost runs/scenes
    spic curves run --task classification --output Figures/scenes-classification
    spic curves redraw Figures/scenes-classification.csv
    spic curves paper
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from spic.coding import CODERS
from spic.coding.counting import KINDS
from spic.commands import Parser, boolean, guarded, positive
from spic.curves import factors, paper, summaries
from spic.curves.bootstrap import Bootstrap
from spic.curves.comparison import ANSWER, RATES, Comparison, compare, read
from spic.curves.figure import draw, rendered
from spic.curves.redraw import read_csv, read_notes
from spic.curves.samples import Rows
from spic.errors import SpicError
from spic.files import check_writable, write_whole
from spic.report import aligned, csv_of

ENDINGS = (".png", ".svg", ".csv", ".txt")  # a figure's name may be given with one of these


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("spic curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, (command, add_arguments, purpose) in VERBS.items():
        verb = verbs.add_parser(name, help=purpose, description=purpose, formatter_class=argparse.HelpFormatter)
        add_arguments(verb)
        verb.set_defaults(command=command)
    return parser.parse_args(argv)


def _add_results(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("results", nargs="+", type=Path, help="JSON files of val.py or spic rivals, or their folders")
    _add_rate(verb)


def _add_rate(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--rate", choices=RATES, default="bpp", help="which bits count (default: %(default)s)")


def _add_table(verb: argparse.ArgumentParser) -> None:
    _add_results(verb)
    verb.add_argument("--output", type=Path, help="also write a CSV file")


def _add_ratios(verb: argparse.ArgumentParser) -> None:
    _add_table(verb)
    verb.add_argument("--below", type=positive, default=1, metavar="POINTS", help="under the uncompressed network, where bits are "
                      "compared (default: %(default)s)")


def _add_anchor(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--anchor", nargs="+", default=[], help="compare with these curves only (default: all)")


def _add_deltas(verb: argparse.ArgumentParser) -> None:
    _add_table(verb)
    _add_anchor(verb)


def _add_picture(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--output", type=Path, required=True, help="name of the figure's files, without an ending")
    _add_title(verb)
    _add_anchor(verb)


def _add_title(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--title", default="", help="above the figure (default: task, benchmark, images)")


def _add_figure(verb: argparse.ArgumentParser) -> None:
    _add_results(verb)
    _add_picture(verb)


def _add_run(verb: argparse.ArgumentParser) -> None:
    from spic.rivals.options import add_choice

    add = verb.add_argument
    add_choice(add)
    add("--valdir", "--data", type=Path, help="data folder (default: the generated scenes)")
    add("--split_point", nargs="+", default=["all"], help="S1 S2 S3 US1 US2 (default: all)")
    add("--coder", choices=CODERS, default="rans", help="default: %(default)s")
    add("--tables", choices=KINDS, help="kind of frequency table of the points (default: each one's own, as dict.yaml says)")
    add("--codecs", nargs="+", help="rivals (default: all that work here)")
    add("--features", nargs="+", default=[], metavar="SPLIT", help="also plain compression of the features here")
    add("--limit", type=positive, help="use only N images, evenly spread over the set")
    add("--gpu", type=boolean, default=False, metavar="True|False", help="run the networks on the GPU")
    add("--workers", type=positive, default=2, help="image loaders, cores for codecs (default: %(default)s)")
    add("--runs", type=Path, help="folder of the results, completed when it exists (default: runs/<benchmark>-<task>)")
    _add_rate(verb)
    _add_picture(verb)


def _add_redraw(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("csv", nargs="+", type=Path, help="NAME.csv of figures, which are drawn anew, and their tables with them")
    _add_title(verb)


def _add_folder(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--output", type=Path, default=Path("Figures"), help="folder (default: %(default)s)")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parse(argv)
    return guarded(lambda: args.command(args))


def _comparison(args: argparse.Namespace) -> Comparison:
    comparison = read(args.results, args.rate)
    _check_anchors(comparison, getattr(args, "anchor", []))
    return comparison


def _check_anchors(comparison: Comparison, anchors: Sequence[str]) -> None:
    names = [curve.name for curve in comparison.curves]
    unknown = [name for name in anchors if name not in names]
    if unknown:
        raise SpicError(f"unknown anchor {unknown[0]!r}: the curves are {', '.join(names)}")


def write_figure(comparison: Comparison, output: Path, anchors: Sequence[str] = (), rows: Rows | None = None) -> None:
    """PNG, SVG, CSV of points, of deltas and, where they were measured, of intervals, edge costs and times to answer; the
    caption. rows: of each image, where the records have them.

    Prints the names of the files.
    """
    deltas = summaries.deltas(comparison, anchors)
    equal = summaries.rates_at_equal_accuracy(comparison)
    ratios, scores = _intervals(comparison, rows)
    answers = [curve.name for curve in comparison.curves if curve.kind == ANSWER]
    short = [row for row in ratios if row["against"] in (factors.CHEAPEST, *answers)]
    texts = [*comparison.notes, aligned(equal), *([aligned(short), factors.NOTE] if short else []), aligned(deltas)]
    caption = "\n\n".join(texts) + "\n"
    parts = {**_pictures(comparison), ".csv": csv_of(summaries.points(comparison)),
             ".bd.csv": csv_of(deltas), ".txt": caption.encode()}
    parts |= {ending: csv_of(table) for ending, table in ((".ratios.csv", ratios), (".intervals.csv", scores))
              if table}
    if summaries.costs_are_known(comparison):
        parts |= {".cost.csv": csv_of(summaries.edge_cost(comparison)),
                  ".links.csv": csv_of(summaries.time_to_answer(comparison))}
    _write_parts(output, parts)


def _intervals(comparison: Comparison, rows: Rows | None, drop: float = 1) -> tuple[summaries.Table, summaries.Table]:
    """Times fewer bits, where there are rivals; accuracies of points that have rows."""
    bootstrap = Bootstrap(comparison, rows) if rows else None
    known = bootstrap if bootstrap and bootstrap.names else None
    ratios = factors.times_fewer(comparison, known, drop)
    return ratios, factors.accuracies(comparison, known) if known else []


def _pictures(comparison: Comparison) -> dict[str, bytes]:
    return {f".{kind}": data for kind, data in rendered(draw(comparison)).items()}


def _write_parts(output: Path, parts: dict[str, bytes]) -> None:
    for ending, data in parts.items():
        print(write_whole(output.with_name(output.name + ending), data))


def _figure_name(output: Path) -> Path:
    """The name without an ending; checked, so that nothing measured is lost for want of a place."""
    name = output.with_suffix("") if output.suffix in ENDINGS else output
    if not name.name:
        raise SpicError(f"--output {str(output)!r}: name the figure, as in Figures/mine")
    for ending in ENDINGS:
        check_writable(name.with_name(name.name + ending))
    return name


def figure(args: argparse.Namespace) -> None:
    output = _figure_name(args.output)
    write_figure(dataclasses.replace(_comparison(args), title=args.title), output, args.anchor, Rows(args.results))


def run(args: argparse.Namespace) -> None:
    from spic.curves.run import Pictures, measure
    from spic.points import load_points, select
    from spic.rivals.options import benchmark_of

    output = _figure_name(args.output)
    benchmark = benchmark_of(args.task, args.benchmark, args.valdir)
    points = select(load_points(), args.task, benchmark.name, args.split_point, ["all"], args.tables)
    folder = args.runs if args.runs is not None else Path("runs") / f"{benchmark.name}-{args.task}"
    pictures = Pictures(args.valdir, args.limit, args.backbone_weights, args.gpu, args.workers)
    results = measure(benchmark, points, pictures, folder, coder=args.coder, codecs=args.codecs, features=args.features)
    comparison = compare(results, args.rate)
    _check_anchors(comparison, args.anchor)
    write_figure(dataclasses.replace(comparison, title=args.title), output, args.anchor, Rows([folder]))


def redraw(args: argparse.Namespace) -> None:
    for path in args.csv:
        comparison = dataclasses.replace(read_csv(path), title=args.title, notes=read_notes(path.with_suffix(".txt")))
        write_figure(comparison, path.with_suffix(""))


def redraw_paper(args: argparse.Namespace) -> None:
    for name, comparison in paper.comparisons().items():
        write_figure(comparison, args.output / name)


def _show(table: summaries.Table, output: Path | None) -> None:
    print(aligned(table))
    if output is not None:
        write_whole(output, csv_of(table))


def bd(args: argparse.Namespace) -> None:
    check_writable(args.output)
    comparison = _comparison(args)
    print(aligned(summaries.rates_at_equal_accuracy(comparison)), end="\n\n")
    _show(summaries.deltas(comparison, args.anchor), args.output)


def ratios(args: argparse.Namespace) -> None:
    check_writable(args.output)
    comparison = _comparison(args)
    found, scores = _intervals(comparison, Rows(args.results), args.below)
    if not found:
        raise SpicError("no rival among these results: measure some with spic rivals, or spic curves run")
    if scores:
        print(aligned(scores), end="\n\n")
    print(factors.NOTE, end="\n\n")
    _show(found, args.output)


def links(args: argparse.Namespace) -> None:
    check_writable(args.output)
    _show(summaries.time_to_answer(_comparison(args)), args.output)


def cost(args: argparse.Namespace) -> None:
    check_writable(args.output)
    _show(summaries.edge_cost(_comparison(args)), args.output)


VERBS = {
    "figure": (figure, _add_figure, "all points as CSV, the figure as PNG and SVG, Bjøntegaard deltas, a caption"),
    "bd": (bd, _add_deltas, "Bjøntegaard deltas, and the bits at one point under the uncompressed network"),
    "ratios": (ratios, _add_ratios, "how many times fewer bits than each rival, and accuracies, with intervals over the pictures"),
    "links": (links, _add_table, "time to answer over links of 50 kbit/s to 100 Mbit/s"),
    "cost": (cost, _add_table, "bits, accuracy and edge cost of every point"),
    "run": (run, _add_run, "measure all points and rivals, then draw the figure; what is done already is kept"),
    "redraw": (redraw, _add_redraw, "draw figures anew from their own CSV files, tables and captions, too"),
    "paper": (redraw_paper, _add_folder, "the paper's four figures, from the numbers read off them"),
}
