"""Counts the frequency table of an operating point anew, on training pictures by the road of inference.

    python -m spic.training.recount --task classification --split_point S1 --compress_factor 0 --tables channel
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from spic.benchmarks import EMBEDDED, find
from spic.cli import check_writable, guarded, natural, positive
from spic.coding.frequency import FrequencyTable
from spic.errors import SpicError
from spic.pipeline import load_point
from spic.points import SPLIT_POINTS, TASKS, OperatingPoint, load_points, select
from spic.training.features import Views, compute
from spic.training.parallel import cores
from spic.training.sources import SOURCES
from spic.training.tables import count_table


def recount(point: OperatingPoint, data: Path | None = None, tables: str = "shared", pictures: int | None = None,
            backbone_weights: Path | None = None) -> FrequencyTable:
    """The table of a point counted on ``pictures`` training pictures (default: as many as in training)."""
    benchmark, source = find(point.task, point.benchmark), SOURCES[point.benchmark, point.task]
    if benchmark.splits.get(point.location):
        raise SpicError(f"{point.name}: this published point is no split; its table is the published one")
    views = Views(source.open(data, source.bottlenecks), limit=pictures or source.counted)
    network = benchmark.build_network(backbone_weights)
    features = compute(network, [point.location], views, cores(), torch.float32)[point.location].features
    bottleneck, _ = load_point(point, features.shape[1])
    return count_table(bottleneck.encoder, features, point.step, tables)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m spic.training.recount", description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--benchmark", default=EMBEDDED)
    parser.add_argument("--split_point", choices=SPLIT_POINTS, required=True)
    parser.add_argument("--compress_factor", type=natural, required=True)
    parser.add_argument("--data", type=Path, help="folder with the training pictures; scenes are drawn")
    parser.add_argument("--backbone_weights", type=Path, help="a state dict; None: torchvision's or the shipped one")
    parser.add_argument("--tables", default="shared", help="shared, channel or position")
    parser.add_argument("--pictures", type=positive, help="how many to count; None: as many as in training")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    (point,) = select(load_points(), args.task, args.benchmark, [args.split_point], [str(args.compress_factor)])
    table = recount(point, args.data, args.tables, args.pictures, args.backbone_weights)
    table.save(args.output)
    print(f"{point.name}: {table.total} symbols counted, {table.entropy:.3f} bits each; table in {args.output}")


if __name__ == "__main__":
    raise SystemExit(main())
