"""The rivals of the split points, on the same data and network as val.py.

    spic rivals --task classification --output runs/scenes/rivals.json
    spic rivals --task segmentation --benchmark camvid --valdir DIR --codecs jpeg hevc --output FILE.json
    spic rivals --task classification --features S3 --output runs/scenes/features.json
    spic rivals --task classification --answer --output runs/scenes/answers.json
    spic rivals learned --help

Pictures: image → codec → image → uncompressed network. With --features: the untrained feature of a split point through
zlib, zstd, and JPEG and WebP on tiled channels. `spic curves` draws what is written here; `spic rivals learned` trains and
measures the learned rivals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from spic.benchmarks import Benchmark
from spic.commands import Parser, guarded, pick_device
from spic.costs import ready
from spic.errors import SpicError
from spic.files import cache_root, check_writable
from spic.networks import cut
from spic.networks.cut import single
from spic.points import location
from spic.record import Record
from spic.rivals.answer import measure_answers
from spic.rivals.cache import ResultCache
from spic.rivals.codecs import CODECS, find_codecs
from spic.rivals.evaluate import FeatureRival, PixelRival, sweep
from spic.rivals.features import FEATURE_CODECS
from spic.rivals.inputs import check_quality, normalisation
from spic.rivals.options import add_choice, add_options, benchmark_of, publish


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("spic rivals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add_choice(add)
    add("--codecs", nargs="+", metavar="NAME",
        help=f"of {', '.join(CODECS)}; with --features of {', '.join(FEATURE_CODECS)} (default: all)")
    add("--qualities", nargs="+", default=[], metavar="NAME=Q,Q,...",
        help="instead of a codec's own sweep, as in jpeg=10,50")
    add("--features", metavar="SPLIT", help="code the feature at this split point instead of the picture")
    add("--answer", action="store_true", help="the edge runs the whole network and sends its answer: a label, a map of classes")
    add("--per_image", type=Path, metavar="FOLDER", help="write a file per codec and quality with one row per image")
    add_options(add)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["learned"]:
        from spic.rivals.learned.command import main as learned

        return learned(argv[1:])
    args = parse(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    if args.answer and (args.codecs or args.qualities or args.features is not None):
        raise SpicError("--answer: goes without --codecs, --qualities and --features; the answer has one code")
    measure = measure_answers if args.answer else partial(
        measure_rivals, codecs=args.codecs, qualities=args.qualities, features=args.features)
    records, missing = measure(
        benchmark_of(args.task, args.benchmark, args.valdir), valdir=args.valdir, limit=args.limit,
        backbone_weights=args.backbone_weights, gpu=args.gpu, cache=args.cache, batch_size=args.batch_size,
        workers=args.workers, per_image=args.per_image)
    publish(args.output, records, missing)


def measure_rivals(benchmark: Benchmark, *, codecs: Iterable[str] | None = None, qualities: Iterable[str] = (),
                   features: str | None = None, valdir: Path | None = None, limit: int | None = None,
                   backbone_weights: Path | None = None, gpu: bool = False, cache: Path | None = None, batch_size: int = 16,
                   workers: int = 2, per_image: Path | None = None) -> tuple[list[Record], dict[str, str]]:
    """The records of a sweep, and for each codec that does not work here the reason.

    codecs: names, all where None. qualities: ``NAME=Q,Q,...`` each. features: the split point whose untrained feature is
    coded, None for the pictures. Points in the folder ``cache`` (default: spic's) are not measured again. per_image: a folder for a row per image.
    """
    known = CODECS if features is None else FEATURE_CODECS
    present, missing = find_codecs(codecs, known)
    chosen = qualities_of(qualities, {codec.name: codec for codec in present} if codecs else known)
    if not present:
        raise SpicError(f"none of the codecs works here ({'; '.join(missing.values())}): pip install av, or a Pillow "
                        "built with more formats")
    rival = _rival(benchmark, features, valdir, limit, backbone_weights, gpu)
    store = ResultCache(cache or cache_root() / "rivals")
    return sweep(rival, benchmark, present, store, chosen, batch_size, workers, per_image), missing


def qualities_of(entries: Iterable[str], known: Mapping) -> dict[str, list[int]]:
    """["jpeg=10,50"] → {"jpeg": [10, 50]}: of codecs that take part, in their range, and each codec once."""
    qualities: dict[str, list[int]] = {}
    for entry in entries:
        name, _, numbers = entry.partition("=")
        if name not in known or not all(part.removeprefix("-").isdecimal() for part in numbers.split(",")):
            raise SpicError(f"--qualities {entry}: write NAME=Q,Q,... with NAME of {', '.join(known)}")
        if name in qualities:
            raise SpicError(f"--qualities {entry}: {name} is named twice; write {name}=Q,Q,...")
        qualities[name] = list(dict.fromkeys(check_quality(known[name], int(part[:9])) for part in numbers.split(",")))
    return qualities


def _rival(benchmark: Benchmark, features: str | None, valdir: Path | None, limit: int | None, weights: Path | None,
           gpu: bool) -> PixelRival:
    device = pick_device(gpu)
    dataset = benchmark.open_data(valdir, limit)
    network = ready(benchmark, dataset.image_size, device, weights)
    normalise = normalisation(benchmark)
    if features is None:
        return PixelRival(dataset, network, device, normalise=normalise)
    front, back, _ = cut_at(benchmark, network, features, torch.zeros(1, 3, *dataset.image_size, device=device))
    return FeatureRival(dataset, network, device, normalise=normalise, front=front, back=back, split_point=features)


def cut_at(benchmark: Benchmark, network: nn.Module, split_point: str, example: torch.Tensor):
    """Front, back and the one tensor that crosses, at a split point of the benchmark or a node of the network.

    example: an input [1, 3, H, W] of the network, on its device.
    """
    after = benchmark.cuts.get(location(split_point), split_point)
    front, back, frontier = cut(network, after, example)
    return front, back, single(frontier)
