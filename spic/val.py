"""The command behind Classification/val.py and Segmentation/val.py: arguments, then one pass, then the table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from spic import parallel, report
from spic.files import check_writable, existing, sha256
from spic.benchmarks import BENCHMARKS, EMBEDDED, PUBLISHED, find
from spic.cli import boolean, guarded, natural, pick_device, positive
from spic.coding import CODERS, ENGINES
from spic.coding.tables import KINDS
from spic.evaluate import Settings, evaluate, lay_roads
from spic.metrics import METRICS
from spic.networks.fold import fold_batch_norm
from spic.points import DICT_FILE, SHARED, load_points, select

_BATCH_SIZE = {"classification": 64, "segmentation": 4}


def parse(task: str, argv: list[str] | None) -> argparse.Namespace:
    """The published arguments and ours; defaults run the embedded benchmark."""
    parser = argparse.ArgumentParser(description=f"Measure operating points of split {task}: accuracy against bits, "
                                     "on what the cloud half computed from decoded bytes.")
    add = parser.add_argument
    names = [name for t, name in BENCHMARKS if t == task]
    add("--valdir", type=Path, help="data folder (default: the generated scenes)")
    add("--benchmark", help=f"one of {', '.join(names)} (default: {PUBLISHED[task]} with --valdir, else {EMBEDDED})")
    add("--split_point", nargs="+", default=["S1"], help="S1 S2 S3 US1 US2 or all (default: S1)")
    add("--compress_factor", nargs="+", default=["0"], help="0 1 2 ... or all (default: 0)")
    add("--points", type=Path, default=DICT_FILE, help="a dict.yaml, such as train.py writes (default: the project's)")
    add("--coder", default="huffman", help=f"{' or '.join(CODERS)} (default: huffman, as published)")
    add("--coder_device", help=f"{' or '.join(ENGINES)} (default: where the network runs)")
    add("--tables", choices=KINDS, default=SHARED, help="the frequency table that codes: one for all symbols, or one "
        "per channel or per channel and position; predictions are the same (default: %(default)s, as published)")
    add("--backbone_weights", type=Path, help="a torchvision state dict (default: torchvision's or the shipped one)")
    add("--batch_size", type=positive, default=_BATCH_SIZE[task], help="images per step (default: %(default)s)")
    add("--gpu", type=boolean, default=False, metavar="True|False", help="run on the GPU (default: False)")
    add("--amp", type=boolean, default=False, metavar="True|False", help="bf16 arithmetic (default: False)")
    add("--limit", type=positive, help="use only N images, evenly spread over the set")
    add("--workers", type=natural, default=2, help="processes that load images (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of torch's generators; evaluation itself draws no random number")
    add("--output", type=Path, help="write the record to FILE.json; with several points a folder, one file per point")
    add("--per_image", type=Path, help="write one row per image to FILE.csv; with several points a folder")
    return parser.parse_args(argv)


def main(task: str, argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parse(task, argv)
    return guarded(lambda: _run(task, args))


def _run(task: str, args: argparse.Namespace) -> None:
    parallel.start()
    benchmark = find(task, args.benchmark or (PUBLISHED[task] if args.valdir else EMBEDDED))
    _say(f"{benchmark.name} benchmark, {task}: {args.valdir or 'embedded pictures'}")
    torch.manual_seed(args.seed)
    device = pick_device(args.gpu)
    settings = Settings(args.coder, args.coder_device, device, args.batch_size, args.workers, args.amp,
                        overlap=device.type == "cuda", keep_rows=args.per_image is not None)
    chosen = select(load_points(args.points.resolve()), task, benchmark.name, args.split_point, args.compress_factor)
    points = [point.with_tables(args.tables) for point in chosen]
    records, rows = _targets(args.output, points, ".json"), _targets(args.per_image, points, ".csv")
    inputs = {"valdir": args.valdir and str(args.valdir.resolve()), "limit": args.limit, "amp": args.amp,
              "backbone_weights": args.backbone_weights and sha256(existing(args.backbone_weights))}
    done = {}
    if args.output not in records.values():  # a file named for one point is written anew, a folder is completed
        done = {point: result for point in points if (point not in rows or rows[point].exists())
                and (result := report.finished(records.get(point), point, args.coder, inputs))}
    todo = [point for point in points if point not in done]
    fresh = _measure(benchmark, args, todo, settings) if todo else {}
    results = []
    for point in points if parallel.rank() == 0 else []:
        if point in done:
            result = done[point]
            _say(f"finished before: {records[point]}")
        else:
            result = report.record(fresh[point], inputs)
            _write(records.get(point), report.write_json, result)
            _write(rows.get(point), report.write_csv, fresh[point].rows)
        results.append(result)
    if results:
        _show(results)
    parallel.stop()


def _measure(benchmark, args: argparse.Namespace, points: list, settings: Settings) -> dict:
    """Run the points; returns point -> its road, counted over all processes."""
    dataset = benchmark.open_data(args.valdir, args.limit)
    network = fold_batch_norm(benchmark.build_network(args.backbone_weights))
    network.to(settings.device, memory_format=torch.channels_last)
    stations = lay_roads(benchmark, network, points, dataset.image_size, settings)
    roads = evaluate(stations, dataset, METRICS[benchmark.task](benchmark.num_classes), settings)
    return {road.point: road for road in roads}


def _targets(path: Path | None, points: list, suffix: str) -> dict:
    """Point -> file to write; checked now, so that a long run is not lost at its end."""
    if path is None:
        return {}
    single = len(points) == 1 and path.suffix == suffix
    targets = {point: path if single else path / point.file_name(suffix) for point in points}
    for target in targets.values():
        check_writable(target)
    return targets


def _write(path: Path | None, writer, content) -> None:
    if path is not None:
        writer(path, content)


def _show(results: list[dict]) -> None:
    print(report.table(*results) if len(results) == 1 else report.overview(results), flush=True)
    for result in results:
        if result["uncoded_values_per_image"]:
            _say(f"warning: {result['split_point']} factor {result['compress_factor']}, as published, is no split: "
                 f"{result['uncoded_values_per_image']} values per image reach the cloud half uncoded, beside the coded "
                 "ones (README, What is odd)", sys.stderr)


def _say(text: str, stream=None) -> None:
    if parallel.rank() == 0:
        print(text, file=stream, flush=True)
