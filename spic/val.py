"""Measures operating points on decoded bytes: the command behind Classification/val.py and Segmentation/val.py.

    spic val --task classification --split_point S1 --compress_factor 1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from spic import parallel, report
from spic.benchmarks import EMBEDDED, PUBLISHED, Benchmark, default_name, every_name, of_points
from spic.coding import CODERS, ENGINES
from spic.coding.counting import KINDS
from spic.commands import Parser, boolean, file_or_folder, guarded, natural, pick_device, positive, strength
from spic.datasets.loading import check_workers
from spic.errors import SpicError
from spic.evaluate import Settings, evaluate, lay_roads
from spic.files import cache_root, check_writable, existing, sha256, stamp
from spic.networks import trace
from spic.networks.weights import fingerprint
from spic.parts import check_files, trained_behind
from spic.points import DICT_FILE, SHARED, OperatingPoint, load_points, select
from spic.record import Record, write_record
from spic.tasks import TASKS


def parser(task: str, prog: str | None = None) -> argparse.ArgumentParser:
    """The published arguments and ours; defaults run the embedded benchmark. task: unless --task says another."""
    parser = Parser(prog, formatter_class=argparse.HelpFormatter, description="Measure operating points of a split network: "
                                     "accuracy against bits, on what the cloud half computed from decoded bytes.")
    add = parser.add_argument
    add("--task", choices=TASKS, default=task, help="default: %(default)s")
    add("--valdir", "--data", type=Path, help="data folder (default: the generated scenes)")
    add("--benchmark", help=f"one of {every_name()}, or one that --points lists (default: {' or '.join(PUBLISHED.values())} "
        f"with --valdir, else {EMBEDDED})")
    add("--split_point", nargs="+", default=["S1"], help="S1 S2 S3 US1 US2 or all (default: S1)")
    add("--compress_factor", nargs="+", default=["0"], help="0 1 2 ... or all (default: 0)")
    add("--points", type=Path, default=DICT_FILE, help="a dict.yaml, such as train.py writes (default: the project's)")
    add("--coder", choices=CODERS, help="default: huffman for the published points with their shared tables, else rans")
    add("--coder_device", choices=ENGINES, help="default: where the network runs")
    add("--tables", choices=KINDS, help="the frequency table that codes: one for all symbols, or one per channel, per channel and "
        "position, or selected by the symbols decoded before; predictions are the same (default: what dict.yaml says for the "
        "point; shared for the published ones)")
    add("--rdo", type=strength, default=0.0, metavar="STRENGTH", help="choose symbols that are worth their bits: a bit is worth "
        "so much squared error, in steps; 0.05 to 0.3 are sensible (default: 0, the nearest symbol)")
    add("--backbone_weights", type=Path, help="a state dict of the network (default: torchvision's or the shipped one)")
    add("--batch_size", type=positive, help="images per step (default: "
        f"{', '.join(f'{kind.batch_size} for {name}' for name, kind in TASKS.items())})")
    add("--gpu", type=boolean, default=False, metavar="True|False", help="run on the GPU (default: False)")
    add("--amp", type=boolean, default=False, metavar="True|False", help="bf16 arithmetic (default: False)")
    add("--limit", type=positive, help="use only N images, evenly spread over the set")
    add("--workers", type=natural, default=2, help="processes that load images (default: %(default)s)")
    add("--seed", type=natural, default=0, help="seed of torch's generators; evaluation itself draws no random number")
    add("--output", type=file_or_folder, help="write the record to FILE.json, or to a FOLDER (made if need be), one file "
        "per point; points that are finished there are skipped")
    add("--per_image", type=file_or_folder, help="write one row per image to FILE.csv, or a FOLDER, one file per point")
    return parser


def main(task: str, argv: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser(task, prog).parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    task = args.task
    parallel.start()
    name = args.benchmark if args.benchmark is not None else default_name(task, args.valdir)
    points = select(load_points(args.points.resolve()), task, name, args.split_point, args.compress_factor, args.tables)
    _say(f"{name} benchmark, {task}: {args.valdir or 'embedded pictures'}")
    torch.manual_seed(args.seed)
    results = measure_points(
        points, valdir=args.valdir, coder=args.coder or default_coder(points), limit=args.limit,
        batch_size=args.batch_size, workers=args.workers, gpu=args.gpu, amp=args.amp, output=args.output,
        backbone_weights=args.backbone_weights, coder_device=args.coder_device, per_image=args.per_image,
        rdo=args.rdo)
    if results and parallel.rank() == 0:
        _show(results)
    parallel.stop()


def default_coder(points: Iterable[OperatingPoint]) -> str:
    """As published for the published points and their tables; else rANS, which pays with fractions of a bit."""
    published = all(point.benchmark == PUBLISHED[point.task] and point.tables == SHARED for point in points)
    return "huffman" if published else "rans"


def measure_points(points: Sequence[OperatingPoint], *, valdir: Path | None = None, coder: str = "huffman",
                   limit: int | None = None, batch_size: int | None = None, workers: int = 2, gpu: bool = False,
                   amp: bool = False, backbone_weights: Path | None = None, coder_device: str | None = None,
                   output: Path | None = None, per_image: Path | None = None, quiet: bool = False,
                   rdo: float = 0.0) -> list[Record]:
    """The records of operating points of one network, in their order, measured in one pass over the pictures.

    valdir: folder of the pictures, None where the benchmark draws its own. output, per_image: FILE.json and FILE.csv for
    one point, else folders; what is finished in a folder is not measured again. An interrupted call goes on where it was.
    In a process group only the first process gets and writes records.
    """
    records, rows = _targets(output, points, ".json"), _targets(per_image, points, ".csv")
    if shared := set(records.values()) & set(rows.values()):
        raise SpicError(f"{shared.pop()}: is to be both the record and the rows of a point; give --per_image another name")
    check_workers(workers)
    benchmark = of_points(list(points))
    check_files(points)  # before anything large is fetched or read
    dataset = benchmark.open_data(valdir, limit)
    inputs = {"valdir": valdir and str(valdir.resolve()), "limit": limit, "amp": amp, "pictures": stamp(dataset.paths),
              "backbone_weights": _network_id(benchmark, backbone_weights), **({"rdo": rdo} if rdo else {})}
    done = {}
    if output not in records.values():  # a file named for one point is written anew, a folder is completed
        done = {point: result for point in points
                if (result := report.finished(records.get(point), rows.get(point), point, coder, inputs))}
    for point in done:
        _say(f"finished before: {records[point]}", quiet=quiet)
    todo = [point for point in points if point not in done]
    settings = Settings(coder, coder_device, pick_device(gpu), batch_size or TASKS[benchmark.task].batch_size, workers, amp,
                        overlap=gpu, keep_rows=per_image is not None, quiet=quiet, rdo=rdo)
    settings = replace(settings, progress=_progress_file(todo, inputs, settings))
    fresh = _measure(benchmark, dataset, backbone_weights, todo, settings) if todo else {}
    if parallel.rank() > 0:
        return []
    return [done.get(point) or _keep(fresh[point], inputs, records.get(point), rows.get(point)) for point in points]


def _measure(benchmark: Benchmark, dataset, weights: Path | None, points: list[OperatingPoint], settings: Settings) -> dict:
    """Run the points; returns point -> its road, counted over all processes."""
    network = benchmark.build_network(weights)
    check_training(points, network, dataset.image_size)
    traced = trace(network, torch.zeros(1, 3, *dataset.image_size))
    traced.to(settings.device, memory_format=torch.channels_last)
    stretches = lay_roads(benchmark, traced, points, dataset.image_size, settings)
    baseline = TASKS[benchmark.task].metric(benchmark.num_classes)
    return {road.point: road for road in evaluate(stretches, dataset, baseline, settings)}


def check_training(points: list[OperatingPoint], network, image_size: tuple[int, int]) -> None:
    """A bottleneck whose file says behind which network it was trained, and at which size, is used for no other."""
    own = None
    for point in points:
        trained = trained_behind(point)
        if "network" in trained:
            own = own or fingerprint(network)
            if trained["network"] != own:
                raise SpicError(f"{point.weights}: this bottleneck was trained behind other weights of the network than these; "
                                "give --backbone_weights the file that it was trained with")
        if trained.get("image_size", _size(image_size)) != _size(image_size):
            raise SpicError(f"{point.name}: trained for pictures of {trained['image_size']}, these are {_size(image_size)}; "
                            "train another point for that size")


def _size(image_size: tuple[int, int]) -> str:
    return "x".join(map(str, image_size))


def _network_id(benchmark: Benchmark, weights: Path | None) -> str:
    """Changes when the network's weights do."""
    if weights:
        return sha256(existing(weights))
    return benchmark.network if benchmark.official else sha256(existing(benchmark.backbone_file))


def _progress_file(points: list[OperatingPoint], inputs: dict, settings: Settings) -> Path:
    """Where the pass over these very points, pictures and settings keeps what it counted so far."""
    about = [[point.name, point.tables, report.all_inputs(point, inputs)] for point in points]
    how = [settings.coder, str(settings.device), settings.batch_size, settings.keep_rows, report.versions()]
    key = hashlib.sha256(json.dumps([about, how], sort_keys=True).encode()).hexdigest()
    return cache_root() / "passes" / key[:32]


def _keep(road, inputs: dict, record_file: Path | None, rows_file: Path | None) -> Record:
    """The record of a road, written to its files."""
    result = report.record(road, inputs)
    if rows_file is not None:
        report.write_csv(rows_file, road.rows)
        result = replace(result, more={"per_image": sha256(rows_file)})
    if record_file is not None:
        write_record(record_file, result)
    return result


def _targets(path: Path | None, points: Sequence[OperatingPoint], suffix: str) -> dict:
    """Point -> file to write; checked now, so that a long run is not lost at its end."""
    if path is None:
        return {}
    single = path.suffix == suffix and not path.is_dir()
    if single and len(points) > 1:
        raise SpicError(f"{path}: {len(points)} points were asked for, each gets a file of its own; name a folder instead")
    targets = {point: path if single else path / point.file_name(suffix) for point in points}
    for target in targets.values():
        check_writable(target)
    return targets


def _show(results: list[Record]) -> None:
    print(report.table(*results) if len(results) == 1 else report.overview(results), flush=True)
    uncoded = [result for result in results if result.uncoded_values_per_image]
    if uncoded:
        points = ", ".join(f"{result.split_point}/{result.compress_factor}" for result in uncoded)
        _say(f"warning: {points}, as published, is no split: {uncoded[0].uncoded_values_per_image} values per image reach the "
             "cloud half uncoded, beside the coded ones (docs/published.md)", sys.stderr)


def _say(text: str, stream=None, quiet: bool = False) -> None:
    if parallel.rank() == 0 and not quiet:
        print(text, file=stream, flush=True)
