"""The rivals of the split points, on the same data and network as val.py.

    python -m spic.rivals --task classification --output runs/scenes/rivals.json
    python -m spic.rivals --task segmentation --benchmark camvid --valdir DIR --codecs jpeg hevc --output FILE.json
    python -m spic.rivals --task classification --features S3 --output runs/scenes/features.json

Pictures: image → codec → image → uncompressed network. With --features: the untrained feature of a split point through
zlib, zstd, and JPEG and WebP on tiled channels. `python -m spic.curves` draws what is written here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from spic.rivals.codecs import CODECS, find_codecs
from spic.rivals.evaluate import FeatureRival, PixelRival, sweep
from spic.rivals.features import FEATURE_CODECS
from spic.rivals.inputs import check_quality
from spic.rivals.options import add_options, benchmark_of, publish
from spic.rivals.results import ResultCache
from spic.benchmarks import BENCHMARKS, EMBEDDED, PUBLISHED, Benchmark
from spic.cli import guarded, pick_device
from spic.errors import SpicError
from spic.files import cache_root, check_writable
from spic.tasks import TASKS
from spic.networks import cut
from spic.networks.fold import fold_batch_norm


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m spic.rivals", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--task", choices=PUBLISHED, required=True)
    add("--benchmark", help=f"one of {', '.join(sorted({name for _, name in BENCHMARKS}))} "
                            f"(default: the published one with --valdir, else {EMBEDDED})")
    add("--codecs", nargs="+", metavar="NAME",
        help=f"of {', '.join(CODECS)}; with --features of {', '.join(FEATURE_CODECS)} (default: all)")
    add("--qualities", nargs="+", default=[], metavar="NAME=Q,Q,...",
        help="instead of a codec's own sweep, as in jpeg=10,50")
    add("--features", metavar="SPLIT", help="code the feature at this split point instead of the picture")
    add("--backbone_weights", type=Path, help="a torchvision state dict (default: torchvision's or the shipped one)")
    add_options(add)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return guarded(lambda: _run(args))


def _qualities(entries: list[str], known: dict) -> dict[str, list[int]]:
    """["jpeg=10,50"] → {"jpeg": [10, 50]}, every quality checked against its codec."""
    qualities = {}
    for entry in entries:
        name, _, numbers = entry.partition("=")
        if name not in known or not all(part.lstrip("-").isdigit() for part in numbers.split(",")):
            raise SpicError(f"--qualities {entry}: write NAME=Q,Q,... with NAME of {', '.join(known)}")
        qualities[name] = [check_quality(known[name], int(part)) for part in numbers.split(",")]
    return qualities


def _rival(benchmark: Benchmark, args: argparse.Namespace) -> PixelRival:
    device = pick_device(args.gpu)
    dataset = benchmark.open_data(args.valdir, args.limit)
    network = fold_batch_norm(benchmark.build_network(args.backbone_weights))
    network.to(device, memory_format=torch.channels_last)
    if not args.features:
        return PixelRival(dataset, network, device)
    front, back = cut(network, args.features)
    return FeatureRival(dataset, network, device, front=front, back=back, split_point=args.features)


def _run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    known = FEATURE_CODECS if args.features else CODECS
    codecs, missing = find_codecs(args.codecs, known)
    qualities = _qualities(args.qualities, known)
    if not codecs:
        raise SpicError(f"none of the codecs works here ({'; '.join(missing.values())}): pip install av, or a Pillow "
                        "built with more formats")
    benchmark = benchmark_of(args, args.valdir)
    rival = _rival(benchmark, args)
    about = {"task": args.task, "benchmark": benchmark.name, "device": str(rival.device)}
    cache = ResultCache(args.cache or cache_root() / "rivals")
    reports = sweep(rival, codecs, lambda: TASKS[args.task].metric(benchmark.num_classes), about, cache, qualities,
                    args.batch_size, args.workers)
    publish(args.output, reports, missing)


if __name__ == "__main__":
    sys.exit(main())
