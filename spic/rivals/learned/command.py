"""Learned rivals: train them on a benchmark's training pictures, measure them like the other rivals.

    spic rivals learned train --model variational --task classification --benchmark imagenette --data DIR
    spic rivals learned train --model student --task segmentation --benchmark camvid --data DIR
    spic rivals learned evaluate --task classification --output runs/scenes/learned.json

variational: a picture codec before the uncompressed network; hyperprior: the same with a scale hyperprior; student:
Entropic Student, which replaces the first stages of the network. `pip install -e .[learned]` brings compressai.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from pathlib import Path

from spic.benchmarks import Benchmark
from spic.commands import Parser, guarded, natural, positive
from spic.errors import SpicError
from spic.files import check_writable
from spic.points import ROOT
from spic.record import Record
from spic.rivals.learned import require_compressai
from spic.rivals.learned.recipes import CURVES, EXPECTED, FINETUNED, RECIPES, STUDENTS_OWN, Recipe
from spic.rivals.options import add_choice, add_options, benchmark_of, publish

SETTINGS = {
    "lambdas": (float, "one per rate, from the rate that is trained first; others start from their neighbour"),
    "epochs": (positive, "of the first rate"), "refine": (positive, "epochs of every other rate"),
    "finetune_epochs": (natural, "of the student's second stage"), "epoch_size": (positive, "crops in an epoch"),
    "batch_size": (positive, "crops in a step"), "crop": (positive, "side of a crop in pixels"),
    "lr": (float, "peak learning rate"), "finetune_lr": (float, "the same in the student's second stage"),
    "limit": (positive, "pictures, evenly spread over the set"),
    "hidden": (positive, "channels of the inner layers"), "latent": (positive, "channels that are coded"),
    "cut": (str, "module of the network up to which the student replaces it"),
    "taps": (str, "later modules where the student is judged"), "seed": (natural, "of the first weights and the crops"),
}
SEVERAL = ("lambdas", "taps")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("spic rivals learned", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, add, command in (("train", _add_train, _train), ("evaluate", _add_evaluate, _evaluate)):
        verb = verbs.add_parser(name, formatter_class=argparse.HelpFormatter)
        add_choice(verb.add_argument)
        add(verb.add_argument)
        verb.set_defaults(command=command)
    return parser.parse_args(argv)


def _add_train(add) -> None:
    add("--model", choices=CURVES, required=True)
    add("--data", type=Path, help="folder of the public data set; scenes are drawn")
    add("--runs", type=Path, default=Path("runs"), help="folder of the checkpoints (default: %(default)s)")
    add("--output", type=Path, default=ROOT, help="root whose Weights/ is written to (default: the project)")
    add("--finetune", choices=FINETUNED, help="what the student's second stage changes; all: files of the whole rest")
    for name, (kind, meaning) in SETTINGS.items():
        add(f"--{name}", type=kind, nargs="*" if name in SEVERAL else None, help=f"{meaning} (default: the recipe's)")


def _add_evaluate(add) -> None:
    add("--models", nargs="+", choices=CURVES, default=EXPECTED, help="default: %(default)s")
    add("--weights", type=Path, default=ROOT, help="root whose Weights/ is read (default: the project)")
    add("--per_image", type=Path, metavar="FOLDER", help="write a file per rate with one row per image")
    add_options(add)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parse(argv)
    return guarded(lambda: args.command(args))


def recipe_of(model: str, task: str, **settings) -> Recipe:
    """The recipe of the model and task, with the settings that are given (not None) instead."""
    given = {name: tuple(value) if name in SEVERAL else value for name, value in settings.items() if value is not None}
    unused = [name for name in given if name in STUDENTS_OWN and model != "student"]
    if unused:
        raise SpicError(f"--{unused[0]}: only --model student has it; {model} replaces nothing of the network")
    return dataclasses.replace(RECIPES[model, task], **given)


def _train(args: argparse.Namespace) -> None:
    require_compressai()
    from spic.rivals.learned.training import Job, train

    benchmark = benchmark_of(args.task, args.benchmark, args.data)
    recipe = recipe_of(args.model, args.task, **{name: getattr(args, name) for name in (*SETTINGS, "finetune")})
    check_writable(args.runs / "probe")
    check_writable(args.output / "Weights" / benchmark.name / "probe")
    for path in train(Job(args.model, benchmark, recipe, args.runs, args.output, args.data, args.backbone_weights)):
        print(path)


def _evaluate(args: argparse.Namespace) -> None:
    check_writable(args.output)
    records, missing = measure_learned(
        benchmark_of(args.task, args.benchmark, args.valdir), args.models, args.weights, valdir=args.valdir,
        limit=args.limit, backbone_weights=args.backbone_weights, gpu=args.gpu, cache=args.cache,
        batch_size=args.batch_size, workers=args.workers, per_image=args.per_image)
    publish(args.output, records, missing)


def measure_learned(benchmark: Benchmark, models: Iterable[str] = EXPECTED, weights: Path = ROOT,
                    **options) -> tuple[list[Record], dict[str, str]]:
    """Records of the rivals that are there; the others are named with the reason, and are no error.

    weights: the root whose Weights/ is read. options: those of spic.rivals.learned.sweeps.measure.
    """
    try:
        require_compressai()
    except SpicError as error:
        return [], {CURVES[model]: str(error) for model in models}
    from spic.rivals.learned.sweeps import measure

    return measure(benchmark, models, weights, **options)
