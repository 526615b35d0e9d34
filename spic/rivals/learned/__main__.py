"""Learned rivals: train them on a benchmark's training pictures, measure them like the other rivals.

    python -m spic.rivals.learned train --model variational --task classification --benchmark imagenette --data DIR
    python -m spic.rivals.learned train --model student --task segmentation --benchmark camvid --data DIR
    python -m spic.rivals.learned evaluate --task classification --output runs/scenes/learned.json

variational: a picture codec before the uncompressed network; hyperprior: the same with a scale hyperprior; student:
Entropic Student, which replaces the first stages of the network. `pip install -e .[learned]` brings compressai.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from spic.rivals.learned import require_compressai
from spic.rivals.learned.recipes import CURVES, EXPECTED, FINETUNED, RECIPES, Recipe
from spic.rivals.options import add_options, benchmark_of, publish
from spic.benchmarks import BENCHMARKS, PUBLISHED
from spic.cli import guarded, natural, positive
from spic.errors import SpicError
from spic.files import check_writable
from spic.points import ROOT
from spic.training.sources import SOURCES

TUNABLE = {
    "lambdas": (float, "one per rate, from the rate that is trained first; others start from their neighbour"),
    "epochs": (positive, "of the first rate"), "refine": (positive, "epochs of every other rate"),
    "finetune_epochs": (natural, "of the student's second stage"), "epoch_size": (positive, "crops in an epoch"),
    "batch_size": (positive, "crops in a step"), "crop": (positive, "side of a crop in pixels"),
    "lr": (float, "peak learning rate"), "finetune_lr": (float, "the same in the student's second stage"),
    "limit": (positive, "pictures, evenly spread over the set"),
    "hidden": (positive, "channels of the inner layers"), "latent": (positive, "channels that are coded"),
    "station": (str, "module of the network up to which the student replaces it"),
    "taps": (str, "later modules where the student is judged"), "seed": (natural, ""),
}
SEVERAL = ("lambdas", "taps")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m spic.rivals.learned", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, add, command in (("train", _add_train, _train), ("evaluate", _add_evaluate, _evaluate)):
        verb = verbs.add_parser(name)
        verb.add_argument("--task", choices=PUBLISHED, required=True)
        verb.add_argument("--benchmark", help=f"one of {', '.join(sorted({n for _, n in BENCHMARKS}))}")
        verb.add_argument("--backbone_weights", type=Path, help="a torchvision state dict (default: the shipped one)")
        add(verb.add_argument)
        verb.set_defaults(command=command)
    return parser.parse_args(argv)


def _add_train(add) -> None:
    add("--model", choices=CURVES, required=True)
    add("--data", type=Path, help="folder of the public data set; scenes are drawn")
    add("--runs", type=Path, default=Path("runs"), help="folder of the checkpoints (default: %(default)s)")
    add("--output", type=Path, default=ROOT, help="root whose Weights/ is written to (default: the project)")
    add("--finetune", choices=FINETUNED, help="what the student's second stage changes; all: files of the whole rest")
    for name, (kind, told) in TUNABLE.items():
        add(f"--{name}", type=kind, nargs="*" if name in SEVERAL else None, help=f"{told} (default: the recipe's)")


def _add_evaluate(add) -> None:
    add("--models", nargs="+", choices=CURVES, default=EXPECTED, help="default: %(default)s")
    add("--weights", type=Path, default=ROOT, help="root whose Weights/ is read (default: the project)")
    add_options(add)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return guarded(lambda: args.command(args))


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The recipe of the model and task, with what the command line says instead."""
    given = {name: getattr(args, name) for name in (*TUNABLE, "finetune")}
    given = {name: tuple(value) if name in SEVERAL else value for name, value in given.items() if value is not None}
    return dataclasses.replace(RECIPES[args.model, args.task], **given)


def _train(args: argparse.Namespace) -> None:
    require_compressai()
    from spic.rivals.learned.training import Job, train

    benchmark = benchmark_of(args, args.data)
    if (benchmark.name, benchmark.task) not in SOURCES:
        raise SpicError(f"{benchmark.name} has no training pictures for {benchmark.task}")
    check_writable(args.runs / "probe")
    check_writable(args.output / "Weights" / benchmark.name / "probe")
    job = Job(args.model, benchmark, recipe_of(args), args.runs, args.output, args.data, args.backbone_weights)
    for path in train(job):
        print(path)


def _evaluate(args: argparse.Namespace) -> None:
    """Reports of the rivals that are there; the others are named with the reason, and are no error."""
    check_writable(args.output)
    benchmark = benchmark_of(args, args.valdir)
    try:
        require_compressai()
    except SpicError as error:
        reports, missing = [], {CURVES[model]: str(error) for model in args.models}
    else:
        from spic.rivals.learned.measure import measure

        reports, missing = measure(benchmark, args)
    publish(args.output, reports, missing)


if __name__ == "__main__":
    sys.exit(main())
