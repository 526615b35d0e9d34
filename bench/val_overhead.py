"""What coding costs: wall time of the whole road over the same network's forward pass without coding, in one run.

    python bench/val_overhead.py --benchmark scenes --split_point S1 --compress_factor 0

Both loops take the same images from memory, in the same batches; the forward pass includes the bottleneck and the
quantisation, but no coder. Rounds of the two alternate, so that a busy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from machine import describe

from spic.benchmarks import find
from spic.cli import guarded
from spic.evaluate import Settings, lay_roads
from spic.networks.split import join, parts
from spic.points import load_points, select
from spic.quantize import dequantize, quantize


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="classification")
    parser.add_argument("--benchmark", default="scenes")
    parser.add_argument("--split_point", default="S1")
    parser.add_argument("--compress_factor", default="0")
    parser.add_argument("--coder", nargs="+", default=["huffman", "rans"])
    parser.add_argument("--backbone_weights", type=Path, help="a state dict (default: shipped or official; 'random' too)")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--image_size", type=int, nargs=2, default=None)
    parser.add_argument("--output", type=Path)
    return parser.parse_args(argv)


def forward(station, images) -> torch.Tensor:
    """The split network with its bottleneck, without a coder."""
    edge, cloud = station.roads[0].edge, station.roads[0].cloud
    coded, uncoded = parts(station.front(images))
    symbols = quantize(edge.encoder(coded), edge.step)
    return cloud.back(join(cloud.decoder(dequantize(symbols, cloud.step)), uncoded), tuple(images.shape[-2:]))


def road(station, images, targets, names) -> None:
    """The road of val.py, with its checks and counts, without the uncompressed network beside it."""
    station.roads[0].travel(station.front(images), targets, names)


@torch.inference_mode()
def measure(args) -> dict:
    benchmark = find(args.task, args.benchmark)
    points = select(load_points(), args.task, args.benchmark, [args.split_point], [args.compress_factor])
    network = _network(benchmark, args.backbone_weights).to(memory_format=torch.channels_last)
    size = tuple(args.image_size or {"classification": (224, 224), "segmentation": (513, 513)}[args.task])
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(args.batch_size, 3, *size, generator=generator).to(memory_format=torch.channels_last)
    labels = {"classification": (args.batch_size,), "segmentation": (args.batch_size, *size)}[args.task]
    targets = torch.zeros(labels, dtype=torch.int64)
    names = [str(i) for i in range(args.batch_size)]
    results = {}
    for coder in args.coder:
        (station,) = lay_roads(benchmark, network, points, size, Settings(coder))
        loops = {"forward": lambda: forward(station, images), "road": lambda: road(station, images, targets, names)}
        results[coder] = _ratio(loops, args.batches, args.rounds)
    return results


def _network(benchmark, weights):
    if str(weights) == "random":
        from spic.networks import NETWORKS
        torch.manual_seed(0)
        return NETWORKS[benchmark.task](benchmark.width, benchmark.num_classes).eval().requires_grad_(False)
    return benchmark.build_network(weights)


def _ratio(loops: dict, batches: int, rounds: int) -> dict:
    for loop in loops.values():
        loop()
    seconds = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            start = time.perf_counter()
            for _ in range(batches):
                loop()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = [b / a for a, b in zip(seconds["forward"], seconds["road"])]
    return {"ratio": statistics.median(ratios), **{f"{name}_s": value for name, value in medians.items()}}


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return guarded(lambda: _run(args))


def _run(args) -> None:
    results = {"machine": describe(), "point": f"{args.task}/{args.benchmark}/{args.split_point}/{args.compress_factor}",
               "batch_size": args.batch_size, "coders": measure(args)}
    for coder, row in results["coders"].items():
        print(f"{results['point']}, {coder}: road / forward = {row['ratio']:.3f} "
              f"({row['road_s']:.2f} s / {row['forward_s']:.2f} s)")
    if args.output:
        args.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
