"""Counts frequency tables of operating points anew, on training pictures by the road of inference.

    spic recount --task classification --split_point all --compress_factor all --tables channel position
    spic recount --task classification --split_point S1 --compress_factor 0 2 --step 0.25 0.5 1 2 --output DIR

Tables that are there already are kept, so that an interrupted run is completed by the same command. With --step no point
stays as it is: its bottleneck, quantised by other steps, makes points of their own, which DIR/dict.yaml lists.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from spic.benchmarks import EMBEDDED, PUBLISHED, Benchmark, Whole, of_points
from spic.coding import FrequencyTable
from spic.coding.counting import KINDS
from spic.commands import Parser, guarded, positive, weights_file
from spic.errors import SpicError
from spic.files import catalogue, check_writable, record_checksums, verify_file, write_whole
from spic.machine import cores
from spic.parts import advice, load_bottleneck
from spic.points import DICT_FILE, MAX_STEP, SHARED, OperatingPoint, beside, load_points, record_point, select
from spic.tasks import TASKS
from spic.training.curve import Pictures, open_pictures
from spic.training.features import FeatureSet, Views, compute
from spic.training.tables import count_tables, file_names, write_tables

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


def requantise(points: Sequence[OperatingPoint], steps: Sequence[float], kinds: Sequence[str] = KINDS, *, output: Path,
               **counting) -> list[OperatingPoint]:
    """The bottleneck of each point quantised by each step, with tables of its own: no training, and one file of weights for all
    steps.

    They are the points of output/dict.yaml, numbered point by point from the smallest step to the largest, and returned. The
    shared tables are counted, too. counting: what ``recount`` takes besides. SpicError: output is where the points lie, or
    holds other points under these numbers.
    """
    output, kinds = output.resolve(), list(dict.fromkeys([SHARED, *kinds]))
    if output in {point.root.resolve() for point in points}:
        raise SpicError(f"--output {output}: is where these points lie, whose numbers would be taken; choose another folder")
    made = [replace(point, default_tables=point.default_tables if point.default_tables in kinds else SHARED)
            for point in _numbered(points, sorted(set(steps)))]
    listed = load_points(output / "dict.yaml") if (output / "dict.yaml").exists() else {}
    for point in made:
        if (there := listed.get(point.key)) and (there.step, there.weights) != (point.step, _moved(point.weights, point, output)):
            raise SpicError(f"{output / 'dict.yaml'}: {point.name} is another point there (step {there.step:g}); choose another "
                            "--output")
    recount(made, kinds, output=output, **counting)
    for point in made:
        _list(point, output)
    listed = load_points(output / "dict.yaml")
    return [listed[point.key] for point in made]


def _numbered(points: Sequence[OperatingPoint], steps: list[float]) -> list[OperatingPoint]:
    """The points with each of the steps, still in their own root; compress factors count up along each split point."""
    made: list[OperatingPoint] = []
    for point in points:
        first = sum(other.key[:3] == point.key[:3] for other in made)
        for factor, step in enumerate(steps, first):
            key = (*point.key[:3], factor)
            made.append(replace(point, compress_factor=factor, step=step, table=point.root / file_names(*key)["table"]))
    return made


def _moved(file: Path, point: OperatingPoint, root: Path) -> Path:
    """Where a file of the point lies under another root."""
    return root / file.relative_to(point.root)


def _list(point: OperatingPoint, output: Path) -> None:
    """Put the point, whose tables are there, into output/dict.yaml, and its weights beside it."""
    weights = _moved(point.weights, point, output)
    write_whole(weights, verify_file(point.weights, point.benchmark, advice(point), point.root).read_bytes())
    record_checksums(point.benchmark, [weights], output)
    files = {"weights": weights, "table": _moved(point.table, point, output)}
    with catalogue():
        record_point(output / "dict.yaml", point.key, {"step": point.step, "stride": point.stride, "channels": point.channels,
                     **{name: str(file.relative_to(output)) for name, file in files.items()}, **point.settings,
                     "default_tables": point.default_tables})


def _count(point: OperatingPoint, encoder, features: Tensor, kinds: Sequence[str], root: Path, tell: Callable) -> None:
    tables = count_tables(encoder, features, point.step, kinds)
    files = write_tables(tables, _place(point, root), point.benchmark, root)
    for table, file in zip(tables.values(), files):
        tell(f"{point.name}: {table.total} symbols, {table.entropy:.3f} bits each; table in {file}")


def _place(point: OperatingPoint, root: Path) -> Path:
    """Where the point's shared table lies under that root."""
    return _moved(point.table, point, root)


def _there(point: OperatingPoint, kind: str, root: Path) -> bool:
    """Whether the table lies there unaltered, and is one of this step."""
    try:
        file = verify_file(beside(_place(point, root), kind), point.benchmark, "", root)
        return math.isclose(FrequencyTable.load(file).step, point.step, rel_tol=1e-6)
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
    return Views(dataset, limit=count or benchmark.training.counted)


def _with_features(benchmark: Benchmark, points: list[OperatingPoint], views: Views | None, weights: Path | str | None
                   ) -> Iterator[tuple[OperatingPoint, FeatureSet]]:
    """Each point with the float32 features of the pictures to count, from one pass of the network."""
    if not points:
        return
    network = benchmark.build_network(weights)
    cuts = list(dict.fromkeys(benchmark.cut_after(point) for point in points))
    sets: Mapping = compute(network, cuts, views, cores(), torch.float32)
    for point in tqdm(points, "count", unit="point"):
        yield point, sets[benchmark.cut_after(point)]


def step(text: str) -> float:
    """A step of the quantiser."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < MAX_STEP:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number above 0 and below {MAX_STEP:g}")
    return value


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
    add("--backbone_weights", type=weights_file, metavar="FILE|random", help="a state dict (default: torchvision's or the shipped one)")
    add("--tables", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of tables")
    add("--step", type=step, nargs="+", default=[], help="quantise by these steps instead: points of their own, which --output "
        "lists in a dict.yaml for --points of other commands")
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
    counting = {"data": args.data, "unlabelled": args.unlabelled, "pictures": args.pictures, "force": args.force,
                "backbone_weights": args.backbone_weights}
    if not args.step:
        recount(points, args.tables, output=args.output, **counting)
        return
    if args.output is None:
        raise SpicError("--step: makes points of their own, so --output DIR must name a folder for them")
    for source, point in _pairs(points, requantise(points, args.step, args.tables, output=args.output, **counting)):
        print(f"{point.name}: {source.name} by step {point.step:g}")
    print(f"{args.output / 'dict.yaml'} lists them: spic val --task {args.task} --points {args.output / 'dict.yaml'} ...")


def _pairs(points: list[OperatingPoint], made: list[OperatingPoint]) -> Iterator[tuple[OperatingPoint, OperatingPoint]]:
    """Each point that was made, behind the one whose bottleneck it has."""
    return zip((point for point in points for _ in range(len(made) // len(points))), made)


if __name__ == "__main__":
    raise SystemExit(main())
