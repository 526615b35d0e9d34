"""Sends one picture from edge to cloud and shows what crossed and what was answered: the command ``spic try``.

    spic try                                     a picture of the embedded scenes
    spic try PHOTO                               a photo of your own: one of 1000 names, with spic-split[photos]
    spic try PHOTO --task segmentation           a photo of your own
    spic try PHOTO --points my_points/dict.yaml --benchmark own --split_point US1
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from spic.benchmarks import EMBEDDED, Benchmark, find, of_points, photos
from spic.coding import CODERS
from spic.coding.counting import KINDS
from spic.commands import Parser, guarded
from spic.datasets.images import JPEG_QUALITY, jpeg_bytes
from spic.datasets.pictures import read_rgb
from spic.errors import SpicError
from spic.files import check_writable, write_whole
from spic.pipeline import Cloud, Edge
from spic.points import DICT_FILE, Key, OperatingPoint, load_points, select
from spic.tasks import TASKS, Answer

MOST_TILES = 256


@dataclass(frozen=True)
class Trial:
    """What happened to one picture. Sizes in bytes; answers are (name, share) pairs, the largest first."""

    picture: str
    point: str
    network: str
    cut: str
    image_size: tuple[int, int]
    symbols: tuple[int, ...]
    sent_bytes: int
    bpp: float
    jpeg_bytes: int
    feature_bytes: int
    answer: list[tuple[str, float]]
    uncompressed: list[tuple[str, float]]
    same_answer: float


@dataclass(frozen=True)
class Shown:
    """What the figure draws: pixels uint8 [H, W, 3], symbols int [C, h, w], both answers, names and colours of the classes."""

    pixels: np.ndarray
    symbols: np.ndarray
    answer: Answer
    uncompressed: Answer
    names: Sequence[str]
    palette: Sequence[tuple[int, int, int]]


def parser() -> argparse.ArgumentParser:
    parser = Parser("spic try", description="Send one picture from edge to cloud, and see what arrives.")
    add = parser.add_argument
    add("photo", nargs="?", type=Path, metavar="PHOTO", help="a picture file; None: one of the embedded scenes")
    add("--task", choices=TASKS, default="classification")
    add("--benchmark", help=f"whose network and points; None: {photos.NAME} for a photo, where that is installed, else "
        f"{EMBEDDED}")
    add("--network", help="only points of this network, by its name in dict.yaml")
    add("--points", type=Path, default=DICT_FILE, help="a dict.yaml, such as train.py writes")
    add("--split_point", help="None: S1, or US1 where there is no other")
    add("--compress_factor", default="1")
    add("--coder", choices=CODERS, default="rans")
    add("--tables", choices=KINDS, help="of frequency tables; None: the point's own, as dict.yaml says")
    add("--backbone_weights", type=Path, help="a state dict of the network; None: the shipped or official one")
    add("--output", type=Path, default=Path("spic-try.png"), help="the figure")
    add("--json", action="store_true", help="print one JSON object instead of the text")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    point = _point(args)
    benchmark = of_points([point])
    image = read_rgb(args.photo) if args.photo else _own_picture(benchmark)
    trial, shown = send(point, image, args.coder, args.backbone_weights, str(args.photo or "a picture of the scenes"))
    write_whole(args.output, draw(trial, shown))
    if args.json:
        print(json.dumps({**asdict(trial), "figure": str(args.output)}))
    else:
        print(f"{text(trial, colours=sys.stdout.isatty() and 'NO_COLOR' not in os.environ)}\n\n  picture, what "
              f"crossed and the answer: {args.output}")


def _point(args: argparse.Namespace) -> OperatingPoint:
    points = load_points(args.points.resolve())
    if args.network:
        points = {key: point for key, point in points.items() if args.network == point.network}
        if not points:
            raise SpicError(f"{args.points} lists no bottleneck of {args.network}: train one by `spic train --network "
                            f"{args.network} --cut NODE --data DIR` (`spic splits {args.network}` shows where to cut), then "
                            "name its dict.yaml with --points")
    benchmark = args.benchmark or _default_benchmark(args, points)
    there = {key[2] for key in points if key[:2] == (args.task, benchmark)}
    split = args.split_point or ("US1" if "US1" in there and "S1" not in there else "S1")
    return select(points, args.task, benchmark, [split], [args.compress_factor], args.tables)[0]


def _default_benchmark(args: argparse.Namespace, points: Mapping[Key, OperatingPoint]) -> str:
    """1000 names for a person's own photo, where their network and its bottlenecks are at hand."""
    there = args.photo and any(key[:2] == (args.task, photos.NAME) and point.weights.exists() for key, point in points.items())
    return photos.NAME if there and photos.installed() else EMBEDDED


def _own_picture(benchmark: Benchmark) -> Image.Image:
    """The first picture of the embedded scenes for this task."""
    dataset = find(benchmark.task, EMBEDDED).open_data(None, 1)
    return read_rgb(dataset.paths[0])


@torch.inference_mode()
def send(point: OperatingPoint, image: Image.Image, coder: str = "rans", weights: Path | None = None,
         name: str = "") -> tuple[Trial, Shown]:
    """An RGB picture through the edge, as one frame, to the cloud; beside it the network without compression."""
    benchmark = of_points([point])
    task, classes, preparation = TASKS[point.task], benchmark.classes(), benchmark.preparation
    pixels = preparation.pixels(image)
    images = preparation.normalise(pixels)[None].contiguous(memory_format=torch.channels_last)
    edge, cloud = (half.load(point, coder, weights=weights) for half in (Edge, Cloud))
    feature = edge.front(images)
    sent = edge.send(feature)
    cloud.open(edge.header)
    received = cloud.receive(sent.frames)
    alone = cloud.back(feature).float()  # the whole network: the back on the very feature of the front
    answers = [task.answer(logits[0], classes) for logits in (received.logits, alone)]
    same = received.logits.argmax(1).eq(alone.argmax(1)).double().mean().item()
    height, width = pixels.shape[:2]
    trial = Trial(name, point.name, benchmark.network, str(benchmark.cut_after(point)), (height, width),
                  tuple(sent.symbols.shape[1:]), len(sent.frames[0]), 8 * sent.payload_bytes[0] / (height * width),
                  jpeg_bytes(pixels), 4 * feature.numel(), answers[0].ranked, answers[1].ranked, same)
    return trial, Shown(pixels, received.symbols[0].numpy(), *answers, classes, benchmark.palette)


def text(trial: Trial, colours: bool = False) -> str:
    """What a person reads, within 80 columns."""
    bold, plain = ("\033[1m", "\033[0m") if colours else ("", "")
    shape = "x".join(map(str, trial.symbols))
    sizes = (("sent to the cloud", trial.sent_bytes), (f"the picture as JPEG {JPEG_QUALITY}", trial.jpeg_bytes),
             ("the feature as it is (float32)", trial.feature_bytes))
    lines = [f"{bold}{trial.point}{plain}: {trial.network}", f"  cut after {trial.cut}; {shape} integers cross", ""]
    for label, size in sizes:
        times = "" if size == trial.sent_bytes else f"   {size / trial.sent_bytes:,.0f} times as much"
        lines.append(f"  {label:<31} {size:>10,} bytes{times}")
    lines += ["", f"  {'answer of the cloud':<38} without compression"]
    for i in range(max(len(trial.answer), len(trial.uncompressed))):
        left, right = (_ranked(pairs, i) for pairs in (trial.answer, trial.uncompressed))
        lines.append(f"  {left:<38} {right:<38}".rstrip())
    return "\n".join(lines[:20])


def _ranked(pairs: Sequence[tuple[str, float]], place: int) -> str:
    if place >= len(pairs):
        return ""
    name, share = pairs[place]
    return f"{name[:27]:<28} {100 * share:5.1f} %"


# ---- the figure ---------------------------------------------------------------------------------------------------


def draw(trial: Trial, shown: Shown) -> bytes:
    """PNG: the picture as the network saw it, the symbols that crossed as tiles, and the answer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    picture, feature, answer = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    picture.imshow(shown.pixels)
    picture.set_title(f"the edge's picture\nas JPEG {JPEG_QUALITY}: {trial.jpeg_bytes:,} bytes")
    _draw_symbols(feature, np.abs(shown.symbols))
    feature.set_title(f"what crosses: {'x'.join(map(str, trial.symbols))} integers\n"
                      f"{trial.sent_bytes:,} bytes ({trial.bpp:.4f} bits per pixel)")
    (_draw_overlay if shown.answer.classes is not None else _draw_bars)(answer, trial, shown)
    for axes in (picture, feature):
        axes.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return buffer.getvalue()


def _draw_symbols(axes, symbols: np.ndarray) -> None:
    tiles = tiled(symbols)
    axes.imshow(np.ma.masked_less(tiles, 0), cmap="magma", interpolation="nearest")


def tiled(symbols: np.ndarray) -> np.ndarray:
    """Symbols [C, h, w] (at most 256 channels of them) side by side, -1 between: int [H, W]."""
    channels, height, width = symbols[:MOST_TILES].shape
    columns = max(1, round((channels * height / width) ** 0.5))
    rows = -(-channels // columns)
    canvas = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1), -1, np.int64)
    for number, tile in enumerate(symbols[:MOST_TILES]):
        top, left = (1 + place * (side + 1) for place, side in zip(divmod(number, columns), (height, width)))
        canvas[top:top + height, left:left + width] = tile
    return canvas


def _draw_bars(axes, trial: Trial, shown: Shown) -> None:
    """The most certain classes, and how certain the uncompressed network is of them."""
    names = [name for name, _ in trial.answer]
    alone = dict(trial.uncompressed)
    places = np.arange(len(names))
    axes.barh(places - 0.2, [share for _, share in trial.answer], 0.4, label="from the bytes", color="#2166ac")
    axes.barh(places + 0.2, [alone.get(name, 0.0) for name in names], 0.4, label="without compression", color="#bdbdbd")
    axes.set_yticks(places, [name[:28] for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("certainty")
    axes.legend(loc="lower right", frameon=False)
    axes.set_title(f"the cloud's answer: {names[0]}")


def _draw_overlay(axes, trial: Trial, shown: Shown) -> None:
    """The picture with each pixel's class in its usual colour."""
    from matplotlib.patches import Patch

    colours = np.asarray(shown.palette, np.uint8)
    classes = shown.answer.classes
    painted = colours[classes]
    axes.imshow(np.where((classes > 0)[..., None], 0.35 * shown.pixels + 0.65 * painted, shown.pixels).astype(np.uint8))
    found = [int(number) for number in np.unique(classes)]
    axes.legend(handles=[Patch(color=colours[number] / 255, label=shown.names[number]) for number in found],
                fontsize="small", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    axes.set_title(f"the cloud's answer\n{100 * trial.same_answer:.1f} % of pixels as without compression")
    axes.set_axis_off()
