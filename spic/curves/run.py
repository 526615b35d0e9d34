"""All that one figure needs, measured: every operating point of a benchmark, and every rival, on the same pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from spic import val
from spic.files import write_whole
from spic.rivals import __main__ as rival_command
from spic.rivals.codecs import find_codecs
from spic.rivals.learned import __main__ as learned
from spic.benchmarks import EMBEDDED, PUBLISHED, Benchmark, find
from spic.commands import boolean, pick_device, positive
from spic.curves.cost import point_costs
from spic.evaluate import Settings
from spic.networks import cut
from spic.networks.fold import fold_batch_norm
from spic.points import OperatingPoint, load_points, select

SHARED = ("benchmark", "valdir", "backbone_weights", "limit", "gpu", "workers")  # said alike to both commands


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", choices=PUBLISHED, required=True)
    add("--benchmark", help=f"default: the published one with --valdir, else {EMBEDDED}")
    add("--valdir", type=Path, help="data folder (default: the generated scenes)")
    add("--backbone_weights", type=Path, help="a torchvision state dict (default: torchvision's or the shipped one)")
    add("--split_point", nargs="+", default=["all"], help="S1 S2 S3 US1 US2 (default: all)")
    add("--coder", default="rans", help="huffman (as published) or rans (default: %(default)s)")
    add("--codecs", nargs="+", help="rivals (default: all that work here)")
    add("--features", nargs="*", default=[], metavar="SPLIT", help="also plain compression of the features here")
    add("--limit", type=positive, help="use only N images, evenly spread over the set")
    add("--gpu", type=boolean, default=False, metavar="True|False", help="run the networks on the GPU")
    add("--workers", type=positive, default=2, help="image loaders, cores for codecs (default: %(default)s)")
    add("--runs", type=Path, help="folder of the results, completed when it exists (default: runs/<benchmark>-<task>)")


def _words(args: argparse.Namespace, names: tuple[str, ...]) -> list[str]:
    """The options of `names` that were given, as a command line."""
    given = ((name, getattr(args, name)) for name in names)
    return [word for name, value in given if value is not None for word in (f"--{name}", str(value))]


def measure(args: argparse.Namespace) -> list[Path]:
    """Run what is not done yet; returns the files of results. A step that fails ends the command with its code."""
    benchmark = args.benchmark or (PUBLISHED[args.task] if args.valdir else EMBEDDED)
    folder = args.runs or Path("runs") / f"{benchmark}-{args.task}"
    found = find(args.task, benchmark)
    points = _checked_points(found, args)
    shared = _words(args, SHARED)
    _step(val.main(args.task, [*shared, "--coder", args.coder, "--split_point", *args.split_point,
                               "--compress_factor", "all", "--output", str(folder / "points")]))
    rivals, learnt, costs = (folder / f"{name}.json" for name in ("rivals", "learned", "costs"))
    common = ["--task", args.task, *shared]
    chosen = ["--codecs", *args.codecs] if args.codecs else []
    _step(rival_command.main([*common, *chosen, "--output", str(rivals)]))
    _step(learned.main(["evaluate", *common, "--output", str(learnt)]))  # names what is not there
    _measure_costs(found, points, args, costs)
    features = {split_point: folder / f"features-{split_point}.json" for split_point in args.features}
    for split_point, output in features.items():
        _step(rival_command.main([*common, "--features", split_point, "--output", str(output)]))
    # by name: what an earlier dict.yaml or other options left in the folder stays out of the figure
    return [*(folder / "points" / point.file_name(".json") for point in points),
            rivals, learnt, costs, *features.values()]


def _checked_points(benchmark: Benchmark, args: argparse.Namespace) -> list[OperatingPoint]:
    """The points asked for. What later steps would refuse is refused before the long first one."""
    find_codecs(args.codecs)
    if args.features:
        network = benchmark.build_network(args.backbone_weights)
        for split_point in args.features:
            cut(network, split_point)
    return select(load_points(), args.task, benchmark.name, args.split_point, ["all"])


def _measure_costs(benchmark: Benchmark, points: list[OperatingPoint], args: argparse.Namespace, output: Path) -> None:
    """Edge cost and latency of the points, once; the reports do not hold them."""
    if _costs_told(output) == {(point.split_point, point.compress_factor) for point in points}:
        return
    device = pick_device(bool(args.gpu))
    dataset = benchmark.open_data(args.valdir, args.limit)
    network = fold_batch_norm(benchmark.build_network(args.backbone_weights))
    network.to(device, memory_format=torch.channels_last)
    rows = point_costs(benchmark, network, dataset, points, Settings(args.coder, device=device))
    write_whole(output, (json.dumps({"costs": rows}, indent=1) + "\n").encode())


def _costs_told(path: Path) -> set[tuple]:
    try:
        return {(row["split_point"], row["compress_factor"]) for row in json.loads(path.read_text())["costs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _step(code: int) -> None:
    if code:
        raise SystemExit(code)
