"""Payload bytes of every point of a benchmark with each kind of table, coded by rANS at the edge; symbols and scores are equal.

    python bench/tables.py --task segmentation --benchmark camvid --data camvid
    python bench/tables.py --task classification --benchmark scenes --limit 200

Each kind stands as a ratio to the one named by --against; the last lines are means over points, and the point where the
context table gains least.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from spic.benchmarks import of_points
from spic.coding.counting import KINDS
from spic.commands import Parser, guarded, positive
from spic.evaluate import Settings, lay_roads
from spic.networks import trace
from spic.points import DICT_FILE, OperatingPoint, load_points, select
from spic.report import aligned
from spic.tasks import TASKS

REPORTED = ("shared", "position", "context")


@torch.inference_mode()
def measured(points: list[OperatingPoint], kinds: list[str], args: argparse.Namespace) -> dict[OperatingPoint, dict[str, float]]:
    """Mean payload bytes of a picture, with each kind of table, from one pass of the edges over the pictures."""
    benchmark, found = of_points(points), {point.key: dict.fromkeys(kinds, 0.0) for point in points}
    size, dataset = benchmark.image_size, benchmark.open_data(args.data, args.limit)
    network = trace(benchmark.build_network(), torch.zeros(1, 3, *size)).to(memory_format=torch.channels_last)
    stretches = lay_roads(benchmark, network, [point.with_tables(kind) for point in points for kind in kinds], size, Settings("rans"))
    for start in tqdm(range(0, len(dataset), TASKS[args.task].batch_size), "pictures", unit="batch", disable=None):
        batch = range(start, min(start + TASKS[args.task].batch_size, len(dataset)))
        feature = torch.stack([dataset[place][0] for place in batch]).contiguous(memory_format=torch.channels_last)
        for stretch in stretches:
            feature, symbols = stretch.front(feature), {}
            for road in stretch.roads:
                if road.point.key not in symbols:
                    symbols[road.point.key] = road.edge.encode(feature)[0].numpy()
                payloads = road.edge.coder.encode(symbols[road.point.key])
                found[road.point.key][road.point.tables] += sum(map(len, payloads)) / len(dataset)
    return {point: found[point.key] for point in points}


def rows(found: dict[OperatingPoint, dict[str, float]], against: str) -> list[dict[str, str]]:
    """A row for each point: bytes with the table that the others are compared with, and ratios to it."""
    return [{"point": f"{point.split_point}/{point.compress_factor}", f"bytes, {against}": f"{sizes[against]:.2f}",
             **{kind: f"{size / sizes[against]:.3f}" for kind, size in sizes.items() if kind != against}}
            for point, sizes in found.items()]


def summary(found: dict[OperatingPoint, dict[str, float]]) -> str:
    """Means of the ratios of context to the other kinds, and the worst point."""
    lines = []
    for kind in next(iter(found.values())):
        ratios = {point: sizes["context"] / sizes[kind] for point, sizes in found.items()}
        worst = max(ratios, key=ratios.get)
        if kind != "context":
            lines.append(f"context / {kind}: mean {sum(ratios.values()) / len(ratios):.3f} over {len(ratios)} points, worst "
                         f"{ratios[worst]:.3f} at {worst.split_point}/{worst.compress_factor}")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> None:
    points = select(load_points(args.points.resolve()), args.task, args.benchmark, args.split_point, args.compress_factor)
    kinds = list(dict.fromkeys([args.against, *args.tables, "context"]))
    found = measured(points, kinds, args)
    print(aligned(rows(found, args.against)))
    print(summary(found))


def main(argv: list[str] | None = None) -> int:
    parser = Parser("bench/tables.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--task", choices=TASKS, required=True)
    add("--benchmark", default="scenes")
    add("--split_point", nargs="+", default=["all"])
    add("--compress_factor", nargs="+", default=["all"])
    add("--points", type=Path, default=DICT_FILE, help="a dict.yaml")
    add("--data", type=Path, help="folder of the pictures; scenes are drawn")
    add("--limit", type=positive, help="use only so many pictures")
    add("--tables", nargs="+", choices=KINDS, default=list(REPORTED), help="kinds beside context")
    add("--against", choices=KINDS, default="shared", help="what the others are compared with (default: shared)")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    raise SystemExit(main())
