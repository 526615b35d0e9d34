"""Counts frequency tables of operating points anew, on training pictures by the road of inference.

    spic recount --task classification --split_point all --compress_factor all --tables channel position

Tables that are there already are kept, so that an interrupted run is completed by the same command.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from spic import parallel
from spic.benchmarks import EMBEDDED, PUBLISHED, Benchmark, Whole, of_points
from spic.coding.counting import KINDS
from spic.commands import Parser, guarded, positive
from spic.errors import SpicError
from spic.files import check_writable, verify_file
from spic.pipeline import load_bottleneck
from spic.points import DICT_FILE, SHARED, OperatingPoint, beside, load_points, select
from spic.tasks import TASKS
from spic.training.curve import Pictures, open_pictures
from spic.training.features import FeatureSet, Views, compute
from spic.training.tables import count_tables, write_tables

Counted = dict[OperatingPoint, list[str]]
"""Points, and the kinds of tables of each."""


def recount(points: Sequence[OperatingPoint], kinds: Sequence[str] = KINDS, *, data: Path | None = None,
            unlabelled: bool = False, backbone_weights: Path | str | None = None, pictures: int | None = None,
            force: bool = False, output: Path | None = None, tell: Callable[[str], None] = tqdm.write) -> Counted:
    """Count tables of points of one network; those that were counted, the others were there.

    data: the training pictures; unlabelled: it is any folder of them, counted whole. pictures: how many to count; None: as
    many as in training. force: count tables that are there, too. output: the root that gets Freq_tab/ and the checksums;
    None: that of the points. SpicError: a published table in its own place, a point that is no split.
    """
    benchmark = of_points(list(points))
    root = (output or points[0].root).resolve()
    _check_split(benchmark, points)
    todo = {point: [kind for kind in kinds if force or not _there(point, kind, root)] for point in points}
    _check_published([point for point, wanted in todo.items() if SHARED in wanted], root)
    check_writable(root / "Freq_tab" / benchmark.name / "table.json")
    for point, wanted in todo.items():
        for kind in kinds:
            if kind not in wanted:
                tell(f"{point.name}: kept {beside(_place(point, root), kind)}")
    asked = {point: wanted for point, wanted in todo.items() if wanted}
    views = _views(benchmark, Pictures(data, unlabelled), pictures) if asked else None
    for point, features in _with_features(benchmark, list(asked), views, backbone_weights):
        bottleneck = load_bottleneck(point, benchmark, features.shape, features.image_size)
        _count(point, bottleneck.encoder, features.features, asked[point], root, tell)
    return asked


def _count(point: OperatingPoint, encoder, features: Tensor, kinds: Sequence[str], root: Path, tell: Callable) -> None:
    tables = count_tables(encoder, features, point.step, kinds)
    files = write_tables(tables, _place(point, root), point.benchmark, root)
    for table, file in zip(tables.values(), files):
        tell(f"{point.name}: {table.total} symbols, {table.entropy:.3f} bits each; table in {file}")


def _place(point: OperatingPoint, root: Path) -> Path:
    """Where the point's shared table lies under that root."""
    return root / point.table.relative_to(point.root)


def _there(point: OperatingPoint, kind: str, root: Path) -> bool:
    try:
        return verify_file(beside(_place(point, root), kind), point.benchmark, "", root).exists()
    except SpicError:
        return False


def _check_split(benchmark: Benchmark, points: Sequence[OperatingPoint]) -> None:
    names = [point.name for point in points if benchmark.adapter(point) is not Whole]
    if names:
        more = f" (and {len(names) - 1} more)" if names[1:] else ""
        raise SpicError(f"{names[0]}{more}: this published point is no split; its table is the published one; leave it out "
                        "of --split_point")


def _check_published(points: Sequence[OperatingPoint], root: Path) -> None:
    """Published tables come from the import alone, so that what stands in their place is what was published."""
    names = [point.name for point in points if point.benchmark == PUBLISHED[point.task] and point.root.resolve() == root]
    if names:
        more = f" (and {len(names) - 1} more)" if names[1:] else ""
        raise SpicError(f"{names[0]}{more}: published tables are not overwritten; choose another place with --output DIR, "
                        "or other kinds with --tables channel position")


def _views(benchmark: Benchmark, pictures: Pictures, count: int | None) -> Views:
    """Whole pictures."""
    dataset = open_pictures(benchmark, pictures, labelled=False)
    return Views(dataset, limit=count or benchmark.source.counted)


def _with_features(benchmark: Benchmark, points: list[OperatingPoint], views: Views | None, weights: Path | str | None
                   ) -> Iterator[tuple[OperatingPoint, FeatureSet]]:
    """Each point with the float32 features of the pictures to count, from one pass of the network."""
    if not points:
        return
    network = benchmark.build_network(weights)
    cuts = list(dict.fromkeys(benchmark.cut_after(point) for point in points))
    sets: Mapping = compute(network, cuts, views, parallel.cores(), torch.float32)
    for point in tqdm(points, "count", unit="point"):
        yield point, sets[benchmark.cut_after(point)]


def _parser() -> argparse.ArgumentParser:
    parser = Parser("spic recount", description="Count frequency tables of operating points anew, on training pictures.")
    add = parser.add_argument
    add("--task", choices=TASKS, required=True)
    add("--benchmark", default=EMBEDDED)
    add("--split_point", nargs="+", default=["all"], help="S1 S2 S3 US1 US2 or all")
    add("--compress_factor", nargs="+", default=["all"], help="0 1 2 ... or all")
    add("--points", type=Path, default=DICT_FILE, help="a dict.yaml, such as train.py writes")
    add("--data", type=Path, help="folder with the training pictures; scenes are drawn")
    add("--unlabelled", action="store_true", help="--data is any folder of pictures, nested or flat, counted whole")
    add("--backbone_weights", help="a state dict, or random; None: torchvision's or the shipped one")
    add("--tables", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of tables")
    add("--pictures", type=positive, help="how many to count; None: as many as in training")
    add("--force", action="store_true", help="count tables that are there already, too")
    add("--output", type=Path, help="folder that gets Freq_tab/ and the checksums; None: the one of --points")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = _parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    points = select(load_points(args.points.resolve()), args.task, args.benchmark, args.split_point, args.compress_factor)
    weights = args.backbone_weights
    recount(points, args.tables, data=args.data, unlabelled=args.unlabelled, pictures=args.pictures, force=args.force,
            backbone_weights=weights if weights in (None, "random") else Path(weights),
            output=args.output)


if __name__ == "__main__":
    raise SystemExit(main())
