"""Where a network can be cut, what that costs and what it saves: the command ``spic splits``. Nothing is trained.

    spic splits torchvision:resnet18
    spic splits my_networks.py:make --size 160 --photo PHOTO --link 1Mbit/s
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from spic.commands import Parser, guarded, positive
from spic.datasets import scenes
from spic.datasets.images import JPEG_QUALITY, jpeg_bytes
from spic.datasets.pictures import read_rgb
from spic.errors import SpicError
from spic.files import check_writable, write_json
from spic.networks import zoo
from spic.networks.cut import Place, cut_many, single_tensor_cuts
from spic.networks.fold import fold_batch_norm
from spic.networks.graph import trace

WIDTH = 80
LITTLE = 0.01  # of the multiply-accumulates: a place with so little more work than the one before it adds nothing
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}


@dataclass(frozen=True)
class Split:
    """One place to cut. Shares are of the whole network, 0 to 1; times are of one picture, median, in milliseconds.

    ``bytes``: the feature at 8 bits a value, before any bottleneck; ``of_jpeg``: that, by the bytes of the picture's JPEG.
    ``answer_ms``: front, link and back together, None without a link.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    parameters_share: float
    macs: int
    macs_share: float
    bytes: int
    of_jpeg: float
    front_ms: float
    answer_ms: float | None = None


@dataclass(frozen=True)
class Splits:
    """A network's places, and what they are compared with: the whole network here, and the picture as JPEG."""

    network: str
    image_size: tuple[int, int]
    parameters: int
    macs: int
    whole_ms: float
    jpeg_bytes: int
    link_bits_per_s: float | None
    jpeg_answer_ms: float | None
    best: str | None
    splits: list[Split]


def parser() -> argparse.ArgumentParser:
    parser = Parser("spic splits", description="Every place where a single tensor crosses, what lies before it, what it weighs.")
    add = parser.add_argument
    add("network", metavar="NETWORK", help="torchvision:NAME, timm:NAME, narrow:NAME/WIDTH or FILE.py:FUNCTION (runs that file)")
    add("--weights", default="random", help="random, default (downloaded), or a file; costs do not depend on it")
    add("--size", type=positive, help="side of the network's input in pixels; None: the network's own")
    add("--photo", type=Path, help="the picture; None: one of the embedded scenes")
    add("--link", type=link, help="such as 1Mbit/s or 250kbit/s: adds the expected time to answer, and marks the best")
    add("--repeats", type=positive, default=5, help="passes over the network that are measured")
    add("--all", action="store_true", help="also places that hold what the next one holds, for hardly less work")
    add("--top", type=positive, help="only so many: the fastest to answer with --link, else the smallest")
    add("--output", type=Path, help="also write all places as a JSON file")
    add("--json", action="store_true", help="print one JSON object instead of the table")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    found = find_splits(args.network, args.weights, args.size, args.photo, args.link, args.repeats)
    if args.output:
        write_json(args.output, asdict(found))
    shown = replace(found, splits=select(found, args.all, args.top))
    print(json.dumps(asdict(shown)) if args.json else text(shown, len(found.splits)))


def link(text: str) -> float:
    """``1Mbit/s`` -> 1e6 bits per second; ``B`` means bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMG]?)(bit/s|bps|B/s)", text.strip())
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no data rate; write it like 1Mbit/s, 250kbit/s or 2MB/s")
    return float(match[1]) * _UNITS[match[2].lower()] * (8 if match[3] == "B/s" else 1)


# ---- measuring ---------------------------------------------------------------------------------------------------

@torch.inference_mode()
def find_splits(name: str, weights: str | Path = "random", size: int | None = None, photo: Path | None = None,
                link_bits_per_s: float | None = None, repeats: int = 5) -> Splits:
    """Every single-tensor cut of a network, measured on this machine. SpicError: see ``zoo.find`` and ``graph.trace``."""
    entry = zoo.find(name)
    preparation = entry.preparation.sized(size) if size else entry.preparation
    network = entry.build(weights=weights if weights in ("random", "default") else Path(weights))
    pixels = preparation.pixels(_picture(photo))
    image = preparation.normalise(pixels)[None].contiguous(memory_format=torch.channels_last)
    traced = trace(network, image)
    places = single_tensor_cuts(traced, image)
    if not places:
        raise SpicError(f"{name}: there is no place where a single tensor crosses with parameters on both sides")
    parameters, macs = (sum(p.numel() for p in traced.parameters()), sum(node.meta["macs"] for node in traced.graph.nodes))
    fronts, whole = _latencies(fold_batch_norm(traced), places, image, repeats)
    jpeg = jpeg_bytes(pixels)
    splits = [Split(place.name, place.shape, place.parameters, place.parameters / parameters, place.macs,
                    place.macs / max(macs, 1), size, size / jpeg, front, _answer_ms(size, link_bits_per_s, whole))
              for place, front in zip(places, fronts) for size in (math.prod(place.shape),)]
    best = min(splits, key=lambda split: split.answer_ms).name if link_bits_per_s else None
    return Splits(name, preparation.image_size, parameters, macs, whole, jpeg, link_bits_per_s,
                  _answer_ms(jpeg, link_bits_per_s, whole), best, splits)


def _picture(photo: Path | None) -> Image.Image:
    return read_rgb(photo) if photo else Image.fromarray(scenes.draw_classification(0, "val", 0)[0])


def _answer_ms(size: int, link_bits_per_s: float | None, whole_ms: float) -> float | None:
    """One machine plays both edge and cloud, so all of the network's time counts wherever it is cut."""
    return None if link_bits_per_s is None else whole_ms + 8e3 * size / link_bits_per_s


def _latencies(traced, places: Sequence[Place], image: Tensor, repeats: int) -> tuple[list[float], float]:
    """Median milliseconds of each front, and of the whole network; one pass serves all places."""
    stages, backs, _ = cut_many(traced, [place.name for place in places], image)
    modules = [*stages, backs[-1]]
    passes = []
    for repeat in tqdm(range(repeats + 1), "measuring", unit="pass", disable=None, leave=False):
        seconds = list(itertools.accumulate(_timed(modules, image)))
        passes += [seconds] if repeat else []  # the first pass warms caches
    *fronts, whole = (1e3 * median(column) for column in zip(*passes))
    return fronts, whole


def _timed(modules: Sequence[nn.Module], feature: Tensor) -> Iterator[float]:
    for module in modules:
        start = time.perf_counter()
        feature = module(feature)
        yield time.perf_counter() - start


# ---- showing -----------------------------------------------------------------------------------------------------

def select(found: Splits, everything: bool = False, top: int | None = None) -> list[Split]:
    """The places worth reading, in the order of the network."""
    splits = found.splits
    if not everything:
        after = [*splits[1:], None]
        splits = [split for split, other in zip(splits, after) if not _repeated_by(other, split) or split.name == found.best]
    if top:
        kept = sorted(splits, key=lambda split: (split.answer_ms or 0, split.bytes, split.macs))[:top]
        splits = [split for split in splits if split in kept]
    return splits


def _repeated_by(other: Split | None, split: Split) -> bool:
    return other is not None and other.shape == split.shape and other.macs_share - split.macs_share < LITTLE


def text(shown: Splits, of: int) -> str:
    """The table and what it is to be compared with, within 80 columns."""
    header = ["cut after", "shape", "param%", "MAC%", "bytes", "xJPEG", "front ms"]
    header += ["answer ms"] if shown.link_bits_per_s else []
    rows = [header, *(_row(split, shown) for split in shown.splits)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    widths[0] = min(widths[0], WIDTH - 2 - sum(width + 1 for width in widths[1:]))
    lines = [_line(row, widths, "*" if row[0] == shown.best else " ") for row in rows]
    side = "x".join(map(str, shown.image_size))
    title = (f"{shown.network}, {side} pixels: {shown.parameters / 1e6:.2f} M parameters, {shown.macs / 1e9:.2f} G MACs, "
             f"{shown.whole_ms:.1f} ms here")
    return "\n".join([*textwrap.wrap(title, WIDTH), *lines, "", *_legend(shown, of)])


def _row(split: Split, shown: Splits) -> list[str]:
    row = [split.name, "x".join(map(str, split.shape)), f"{100 * split.parameters_share:.1f}", f"{100 * split.macs_share:.1f}",
           f"{split.bytes:,}", f"{split.of_jpeg:.2f}", f"{split.front_ms:.1f}"]
    return row + ([f"{split.answer_ms:.0f}"] if shown.link_bits_per_s else [])


def _line(row: list[str], widths: list[int], mark: str) -> str:
    name, shape, *numbers = row
    name = name if len(name) <= widths[0] else "~" + name[1 - widths[0]:]
    cells = [f"{name:<{widths[0]}}", f"{shape:<{widths[1]}}", *(f"{n:>{w}}" for n, w in zip(numbers, widths[2:]))]
    return f"{mark} {' '.join(cells)}".rstrip()


def _legend(shown: Splits, of: int) -> list[str]:
    lines = [f"bytes: the feature at 8 bits a value, before any bottleneck; the picture as JPEG {JPEG_QUALITY} has "
             f"{shown.jpeg_bytes:,}. param%, MAC% and front ms: what lies before the cut."]
    if shown.link_bits_per_s:
        lines.append(f"answer ms: the whole network on this machine, and the bytes at {shown.link_bits_per_s / 1e6:g} Mbit/s; "
                     f"the JPEG instead: {shown.jpeg_answer_ms:.0f}; nothing sent: {shown.whole_ms:.0f}. *: the best.")
    if of > len(shown.splits):
        lines.append(f"{of - len(shown.splits)} of {of} places are left out; --all shows them.")
    return [wrapped for line in lines for wrapped in textwrap.wrap(line, WIDTH)]


if __name__ == "__main__":
    sys.exit(main())
