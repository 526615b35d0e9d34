"""The study: trains what is compared, measures it, and writes what the papers' claims are worth here.

    spic study train --benchmark imagenette --data imagenette-160 --processes 3
    spic study measure --benchmark imagenette --data imagenette-160
    spic study report

All three go on where they were stopped, and the report covers what there is so far.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from spic.benchmarks import EMBEDDED
from spic.commands import Parser, guarded, natural, positive
from spic.machine import cores
from spic.points import DICT_FILE, ROOT
from spic.study.evaluation import VARIANTS, measure
from spic.study.report import report
from spic.study.train import train
from spic.tasks import TASKS


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("spic study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, (command, add_arguments, purpose) in VERBS.items():
        verb = verbs.add_parser(name, help=purpose, description=purpose)
        verb.add_argument("--runs", type=Path, default=Path("runs/study"), help="folder of trainings and measurements")
        add_arguments(verb)
        verb.set_defaults(command=command)
    return parser.parse_args(argv)


def _add_benchmark(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--benchmark", default=EMBEDDED)
    verb.add_argument("--data", type=Path, help="folder of the public data set; scenes are drawn")


def _add_train(verb: argparse.ArgumentParser) -> None:
    _add_benchmark(verb)
    verb.add_argument("--only", nargs="+", default=[], metavar="S1[/l1]", help="some split points or curves")
    verb.add_argument("--seeds", nargs="+", type=natural, help="instead of those of study.yaml")
    verb.add_argument("--processes", type=positive, default=cores(), help="trainings at a time, one core each")


def _add_measure(verb: argparse.ArgumentParser) -> None:
    _add_benchmark(verb)
    verb.add_argument("--task", nargs="+", dest="tasks", choices=TASKS, default=list(TASKS))
    verb.add_argument("--only", nargs="+", default=[], metavar="S1[/l1]", help="some split points, trained and shipped, or trained curves")
    verb.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="coders and tables")
    verb.add_argument("--limit", type=positive, help="use only N images, evenly spread over the set")
    verb.add_argument("--workers", type=natural, default=2, help="processes that load images")
    verb.add_argument("--rivals", action="store_true", help="measure codecs, learned rivals and the answer itself, too")


def _add_report(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--output", type=Path, default=ROOT / "docs" / "reproduction.md", help="the page to complete")
    verb.add_argument("--figures", type=Path, default=ROOT / "Figures", help="folder of the figures")
    verb.add_argument("--points", type=Path, default=DICT_FILE, help="lists the imported published points")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parse(argv)
    return guarded(lambda: args.command(args))


def _train(args: argparse.Namespace) -> None:
    train(args.runs, args.benchmark, args.data, only=args.only, seeds=args.seeds, processes=args.processes)


def _measure(args: argparse.Namespace) -> None:
    measure(args.runs, args.benchmark, args.data, tasks=list(dict.fromkeys(args.tasks)), only=args.only,
            variants=list(dict.fromkeys(args.variants)), limit=args.limit, workers=args.workers,
            rivals=args.rivals)


def _report(args: argparse.Namespace) -> None:
    report(args.runs, args.output, args.figures, args.points)


VERBS = {
    "train": (_train, _add_train, "train every curve of the study that is not trained yet"),
    "measure": (_measure, _add_measure, "accuracy, coded bytes and costs of the shipped and the trained points"),
    "report": (_report, _add_report, "judge the claims, draw the figures, complete docs/reproduction.md"),
}
