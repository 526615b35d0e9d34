"""Writes bundles: the edge halves of operating points as ONNX, checked on pictures before they count as done.

    spic export --benchmark scenes --split_point S1 S3 --compress_factor 0 1 2 --output cam.zip
    spic export --benchmark imagenette --data DIR --int8 --output cam-int8.zip
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch.utils.data import Dataset

from spic import __version__
from spic.benchmarks import Benchmark, of_points
from spic.choice import add_points, chosen
from spic.commands import Parser, guarded, positive
from spic.datasets.folder import open_folder
from spic.datasets.pictures import read_rgb
from spic.edge.bundle import Bundle, BundlePoint, Manifest, check_output, entry_of, write
from spic.edge.runtime import OnnxHalf, session
from spic.errors import SpicError
from spic.evaluate import Road, Settings, Stretch, lay_roads
from spic.export import models
from spic.export.check import Comparison, compare
from spic.networks import trace
from spic.networks.weights import fingerprint
from spic.parts import bottleneck_of, check_files, require_splits
from spic.points import OperatingPoint
from spic.tasks import TASKS
from spic.val import check_training

ANSWERS_ALIKE = 1e-3
"""How far the logits of an exported back may be from torch's, relative to the largest of them."""


@dataclass(frozen=True)
class Exported:
    """What was written: a row for each point."""

    path: Path
    bytes: int
    rows: list[tuple[str, dict]]


def parser() -> argparse.ArgumentParser:
    parser = Parser("spic export", formatter_class=argparse.HelpFormatter,
                    description="Write the edge halves of operating points as ONNX, for an edge without torch.")
    add = parser.add_argument
    add_points(add)
    add("--backbone_weights", type=Path, help="a state dict of the network (default: the shipped or official one)")
    add("--output", type=Path, required=True, help="a FOLDER that is not there yet, or FILE.zip")
    add("--int8", action="store_true", help="the front in 8-bit whole numbers, calibrated on the pictures")
    add("--cloud", action="store_true", help="also the decoders and the backs, for clouds that serve ONNX")
    add("--data", type=Path, help="folder of pictures to check on (default: training pictures of the scenes)")
    add("--pictures", type=positive, default=64,
        help="how many the export is checked on, and as many others calibrate (default: "
        "%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    done = export(chosen(args), args.output, coder=args.coder, int8=args.int8,
                  cloud=args.cloud, data=args.data, pictures=args.pictures, weights=args.backbone_weights)
    print(text(done))


def export(points: Sequence[OperatingPoint], output: Path, *, coder: str = "rans", int8: bool = False, cloud: bool = False,
           data: Path | None = None, pictures: int = 64, weights: Path | None = None) -> Exported:
    """Write the bundle of points of one network; see the options of the command. SpicError: and then nothing is written."""
    models.require_packages()
    check_output(output)
    benchmark = of_points(list(points))
    require_splits(points)
    check_files(points)
    dataset = open_pictures(benchmark, data, (1 + int8) * pictures)
    network = benchmark.build_network(weights)
    check_training(list(points), network, benchmark.image_size)
    traced = trace(network, torch.zeros(1, 3, *benchmark.image_size))
    identity = fingerprint(network)
    stretches = lay_roads(benchmark, traced, list(points), benchmark.image_size, Settings(coder, quiet=True))
    files = _front(benchmark, stretches, _every_other(dataset, 1) if int8 else None)
    described = [entry for stage, stretch in enumerate(stretches) for road in stretch.roads
                 for entry in [_point(road, stage, stretches, files, cloud)]]
    manifest = Manifest(benchmark.name, benchmark.task, benchmark.network, identity, int8, benchmark.preparation,
                        tuple(described),
                        {name: entry_of(content) for name, content in files.items()}, _versions())
    checked = _check(benchmark, stretches, manifest, files, _every_other(dataset, 0) if int8 else dataset, cloud)
    measured = (replace(point, measured=found.result()) for point, found in zip(described, checked))
    manifest = replace(manifest, points=tuple(measured))
    write(output, manifest, files)
    size = sum(map(len, files.values())) if output.is_dir() else output.stat().st_size
    return Exported(output, size, [(point.name, dict(point.measured)) for point in manifest.points])


def open_pictures(benchmark: Benchmark, data: Path | None, limit: int) -> Dataset:
    """The pictures of a folder, labelled where its sub-folders are the classes, or of the benchmark's own training."""
    if data is not None:
        classes = benchmark.num_classes if benchmark.task == "classification" else None
        return open_folder(data, benchmark.preparation, classes, limit, "train")
    if benchmark.source is None:
        raise SpicError(f"{benchmark.name}: say with --data DIR on which pictures the export is to be checked")
    return benchmark.source.open(None, benchmark.source.exported, limit)


def _every_other(dataset: Dataset, first: int) -> Dataset:
    """Half of the pictures: those that calibrate are not those that check."""
    return _Part(dataset, range(first, len(dataset), 2))


class _Part(Dataset):
    """Some items of a data set."""

    def __init__(self, dataset: Dataset, numbers: Sequence[int]):
        self.dataset, self.numbers, self.labelled = dataset, numbers, dataset.labelled
        self.paths = [dataset.paths[number] for number in numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def label(self, index: int):
        return self.dataset.label(self.numbers[index])


def _versions() -> dict[str, str]:
    names = ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime")
    return {"spic": __version__, "python": platform.python_version(), **{name: version(name) for name in names}}


# ---- files --------------------------------------------------------------------------------------------------------


def _front(benchmark: Benchmark, stretches: list[Stretch], calibration: Dataset | None) -> dict[str, bytes]:
    """The stages of the front; in whole numbers where there are pictures to calibrate on."""
    stages = models.stage_models(stretches, torch.zeros(1, 3, *benchmark.image_size))
    if calibration is None:
        return stages
    values, whole = [benchmark.preparation.array(read_rgb(path))[None] for path in calibration.paths], {}
    for name, model in stages.items():
        whole[name] = models.quantised(model, values, f"the front's {name}")
        run = session(model, 1, name)
        values = [run.run(None, {models.INPUT: value})[0] for value in values]
    return whole


def _point(road: Road, stage: int, stretches: list[Stretch], files: dict[str, bytes], cloud: bool) -> BundlePoint:
    """The manifest's entry of a point; its files are put among ``files``."""
    point, edge, short = road.point, road.edge, _short(road)
    with torch.inference_mode():
        feature = torch.zeros(1, 3, *edge.expected.image_size)
        for stretch in stretches[:stage + 1]:
            feature = stretch.front(feature)
    table = f"table_{short}.json"
    files[table] = edge.table.to_bytes()
    shared, encoder = _encoder(road, stretches[stage], feature, files)
    decoder, back = (f"decoder_{short}.onnx", f"back{stage}.onnx") if cloud else (None, None)
    if cloud:
        files[decoder] = models.decoder_model(road)
        files[back] = files.get(back) or models.back_model(road)
    stages = (*(models.stage_name(number) for number in range(stage + 1)), *shared)
    return BundlePoint(point.name, point.step, edge.coder.name, edge.table.digest, tuple(edge.expected.shape), table,
                       stages, encoder, decoder, back)


def _encoder(road: Road, stretch: Stretch, feature: torch.Tensor, files: dict[str, bytes]) -> tuple[tuple[str, ...], str]:
    """(files that it shares with other points, its own) of a point's encoder and quantiser, put among ``files``.

    Points with the same bottleneck and other steps share an encoder, which counts as a last stage of their fronts."""
    alike = [other for other in stretch.roads if bottleneck_of(other.point) == bottleneck_of(road.point)]
    encoder, quantiser = f"encoder_{_short(alike[0])}.onnx", f"quantiser_{_short(road)}.onnx"
    if len(alike) == 1:
        files[encoder] = models.encoder_model(road, feature)
        return (), encoder
    files[encoder] = files.get(encoder) or models.encoder_model(road, feature, quantised=False)
    files[quantiser] = models.quantiser_model(road)
    return (encoder,), quantiser


def _short(road: Road) -> str:
    return f"{road.point.split_point}_{road.point.compress_factor}"


# ---- check --------------------------------------------------------------------------------------------------------


def _check(benchmark: Benchmark, stretches: list[Stretch], manifest: Manifest, files: dict[str, bytes], dataset: Dataset,
           cloud: bool) -> list[Comparison]:
    """What the bundle gives when an edge opens it; SpicError where that is not what torch gives."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "bundle", manifest, files)
        bundle = Bundle.open(Path(folder) / "bundle")
        found = compare(benchmark, stretches, OnnxHalf(bundle, bundle.points), dataset)
        if cloud:
            _check_cloud(bundle, found)
    if not manifest.int8:
        for comparison in found:
            comparison.require_equal()
    return found


@torch.inference_mode()
def _check_cloud(bundle: Bundle, found: list[Comparison]) -> None:
    """The exported decoders and backs answer the same symbols as torch's cloud does."""
    for point, comparison in zip(bundle.points, found):
        symbols = torch.ones(1, *point.shape, dtype=torch.int32)
        expected, value = comparison.road.cloud.answer(symbols).numpy(), symbols.numpy()
        for name in (point.decoder, point.back):
            run = session(bundle.read(name), 1, name)
            (value,) = run.run(None, {run.get_inputs()[0].name: value})
        if abs(value - expected).max() > ANSWERS_ALIKE * abs(expected).max():
            raise SpicError(f"{point.name}: the exported cloud half answers other than torch's, so nothing was written")


# ---- what is told -------------------------------------------------------------------------------------------------


def text(done: Exported) -> str:
    """A table within 80 columns: what the export costs at each point."""
    task, benchmark, *_ = done.rows[0][0].split("/")
    score = TASKS[task].accuracy(done.rows[0][1]["scores"])
    rows = [("point", "equal %", "one step %", "bytes", "same %", f"{score.key} ONNX", f"{score.key} torch")]
    for name, found in done.rows:
        shares = (f"{100 * found[key]:.3f}" for key in ("symbols_equal", "within_one_step"))
        scores = (score.text(found[which][score.key]) for which in ("scores", "scores_of_torch"))
        rows.append(("/".join(name.split("/")[2:]), *shares, f"{found['payload_bytes']:.1f}",
                     f"{100 * found['same_answers']:.2f}", *scores))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([f"{task}, {benchmark}: symbols equal to torch's, or within one step; answers that are the same",
                      *lines,
                      f"{done.path}: {done.bytes / 1e6:.1f} MB, checked on {done.rows[0][1]['pictures']} pictures"])
