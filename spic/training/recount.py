"""Counts frequency tables of operating points anew, on training pictures by the road of inference.

    python -m spic.training.recount --task classification --split_point all --compress_factor all --tables channel position

Tables that are there already are kept, so that an interrupted run is completed by the same command.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from spic.benchmarks import EMBEDDED, PUBLISHED, Benchmark, find
from spic.commands import guarded, positive
from spic.coding.tables import KINDS
from spic.datasets.folder import Unlabelled
from spic.errors import SpicError
from spic.files import check_writable, verify_file
from spic.networks.split import depth
from spic.pipeline import load_bottleneck
from spic.points import DICT_FILE, SHARED, TASKS, OperatingPoint, beside, load_points, select
from spic.training.features import Views, compute
from spic.training.parallel import cores
from spic.training.sources import SOURCES, Source
from spic.training.tables import count_tables, write_tables


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m spic.training.recount", description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--task", choices=TASKS, required=True)
    add("--benchmark", default=EMBEDDED)
    add("--split_point", nargs="+", default=["all"], help="S1 S2 S3 US1 US2 or all")
    add("--compress_factor", nargs="+", default=["all"], help="0 1 2 ... or all")
    add("--points", type=Path, default=DICT_FILE, help="a dict.yaml, such as train.py writes")
    add("--data", type=Path, help="folder with the training pictures; scenes are drawn")
    add("--unlabelled", action="store_true", help="--data is any folder of pictures, nested or flat, counted whole")
    add("--backbone_weights", type=Path, help="a state dict; None: torchvision's or the shipped one")
    add("--tables", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of tables")
    add("--pictures", type=positive, help="how many to count; None: as many as in training")
    add("--force", action="store_true", help="count tables that are there already, too")
    add("--output", type=Path, help="folder that gets Freq_tab/ and the checksums; None: the one of --points")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parse(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    benchmark = find(args.task, args.benchmark)
    points = select(load_points(args.points.resolve()), args.task, args.benchmark, args.split_point, args.compress_factor)
    root = (args.output or args.points.parent).resolve()
    _check_split(benchmark, points)
    todo = {point: [kind for kind in args.tables if args.force or not _there(point, kind, root)] for point in points}
    _check_published([point for point, kinds in todo.items() if SHARED in kinds], root)
    check_writable(root / "Freq_tab" / args.benchmark / "table.json")
    for point, kinds in todo.items():
        for kind in args.tables:
            if kind not in kinds:
                print(f"{point.name}: kept {beside(_place(point, root), kind)}")
    asked = [point for point, kinds in todo.items() if kinds]
    for point, features in _with_features(benchmark, asked, args):
        bottleneck = load_bottleneck(point, features.shape[1])
        tables = count_tables(bottleneck.encoder, features, point.step, todo[point])
        files = write_tables(tables, _place(point, root), point.benchmark, root)
        for table, file in zip(tables.values(), files):
            tqdm.write(f"{point.name}: {table.total} symbols, {table.entropy:.3f} bits each; table in {file}")


def _place(point: OperatingPoint, root: Path) -> Path:
    """Where the point's shared table lies under that root."""
    return root / point.table.relative_to(point.root)


def _there(point: OperatingPoint, kind: str, root: Path) -> bool:
    try:
        return verify_file(beside(_place(point, root), kind), point.benchmark, "", root).exists()
    except SpicError:
        return False


def _check_split(benchmark: Benchmark, points: list[OperatingPoint]) -> None:
    names = [point.name for point in points if benchmark.splits.get(point.location)]
    if names:
        raise SpicError(f"{', '.join(names)}: this published point is no split; its table is the published one; "
                        "leave it out of --split_point")


def _check_published(points: list[OperatingPoint], root: Path) -> None:
    """Published tables come from the import alone, so that what stands in their place is what was published."""
    names = [point.name for point in points if point.benchmark == PUBLISHED[point.task] and point.root.resolve() == root]
    if names:
        more = f" (and {len(names) - 1} more)" if names[1:] else ""
        raise SpicError(f"{names[0]}{more}: published tables are not overwritten; choose another place with --output DIR, "
                        "or other kinds with --tables channel position")


def _with_features(benchmark: Benchmark, points: list[OperatingPoint],
                   args: argparse.Namespace) -> Iterator[tuple[OperatingPoint, Tensor]]:
    """Each point with the float32 features [N, C, h, w] of the pictures to count, from one pass of the network."""
    if not points:
        return
    network = benchmark.build_network(args.backbone_weights)
    views = _pictures(SOURCES[benchmark.name, benchmark.task], args)
    locations = sorted({point.location for point in points}, key=lambda location: depth(network, location))
    sets = compute(network, locations, views, cores(), torch.float32)
    for point in tqdm(points, "count", unit="point"):
        yield point, sets[point.location].features


def _pictures(source: Source, args: argparse.Namespace) -> Views:
    if args.unlabelled and args.data is None:
        raise SpicError("--unlabelled needs --data, a folder of pictures")
    dataset = Unlabelled(args.data, source.preparation) if args.unlabelled else source.open(args.data, source.bottlenecks)
    return Views(dataset, limit=args.pictures or source.counted)


if __name__ == "__main__":
    raise SystemExit(main())
