"""How much of the picture is in the symbols: a small decoder is trained from symbols to pictures, and judged on others.

    python bench/inversion.py --output inversion.png
    python bench/inversion.py --points segmentation/S1/1 segmentation/S3/1 --pictures 400

Who reads the stream, and has pictures of the same kind and the edge half (which every edge carries), can do this. The
decoder sees the symbols around a place, through random features, and is fitted in closed form (an extreme learning
machine): seconds on one core, and a lower bound; who trains a larger one restores more. For each point: PSNR of the
restored picture on pictures that the decoder never saw, beside that of the mean picture, which needs no symbol; and a
figure with the pictures.
"""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cloud_side import embedded
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from spic.benchmarks import find
from spic.commands import Parser, guarded, natural, positive
from spic.datasets import scenes
from spic.files import check_writable, write_whole
from spic.pipeline import Edge
from spic.points import OperatingPoint
from spic.report import aligned

SHOWN = 6
AROUND = 5
"""Cells along a side of the window of symbols that a place is restored from."""
RANDOM_FEATURES = 1024
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""On large weights, as shares of the mean square of a feature: the best on pictures kept apart is taken."""


@dataclass(frozen=True)
class Seen:
    """Pictures of one point. symbols: float32 [N, C, h, w]; pictures: RGB in 0..1 [N, 3, h*f, w*f], f pixels for a cell."""

    symbols: Tensor
    pictures: Tensor
    payload_bytes: float


@torch.inference_mode()
def seen_by(point: OperatingPoint, count: int, side: int) -> Seen:
    """What crosses for so many pictures, none of the validation set, and the pictures, about ``side`` pixels large."""
    edge, preparation = Edge.load(point, "rans"), find(point.task, "scenes").preparation
    draw = getattr(scenes, f"draw_{point.task}")
    rows, columns = edge.expected.shape[1:]
    each = max(1, round(side / rows))
    symbols, pictures, sizes = [], [], []
    for number in tqdm(range(count), point.name, disable=None):
        pixels = preparation.pixels(Image.fromarray(draw(2, "inversion", number)[0]))
        sent = edge(preparation.normalise(pixels)[None].contiguous(memory_format=torch.channels_last))
        whole = torch.from_numpy(np.array(pixels)).movedim(-1, 0)[None].float() / 255
        symbols.append(sent.symbols.float())
        pictures.append(F.interpolate(whole, (rows * each, columns * each), mode="area"))
        sizes += sent.payload_bytes
    return Seen(torch.cat(symbols), torch.cat(pictures), float(np.mean(sizes)))


class Decoder:
    """Symbols -> pictures: the mean picture, and what a linear map of random features of the symbols around adds to it."""

    def __init__(self, seen: Seen):
        self.scale = seen.symbols.std().clamp_min(1e-6)
        self.mean = seen.pictures.mean(0, keepdim=True)
        self.each = seen.pictures.shape[-1] // seen.symbols.shape[-1]
        known = 1 + seen.symbols.shape[1] * AROUND**2
        self.random = torch.randn(known, RANDOM_FEATURES) / known**0.5
        size = known + RANDOM_FEATURES
        gram, goal = (
            torch.zeros(size, size, dtype=torch.float64),
            torch.zeros(size, 3 * self.each**2, dtype=torch.float64),
        )
        fitted = 3 * len(seen.symbols) // 4  # the others choose the penalty
        for symbols, picture in zip(seen.symbols[:fitted].split(8), seen.pictures.split(8)):
            features, blocks = self._features(symbols), F.pixel_unshuffle(picture[: len(symbols)] - self.mean, self.each)
            gram += (features.T @ features).double()
            goal += (features.T @ blocks.flatten(2).transpose(1, 2).flatten(0, 1)).double()
        self.weights = max(
            (self._solved(gram, goal, penalty, seen, fitted) for penalty in PENALTIES), key=lambda one: one[0]
        )[1]

    def _solved(self, gram: Tensor, goal: Tensor, penalty: float, seen: Seen, fitted: int) -> tuple[float, Tensor]:
        """(PSNR on pictures that were not fitted, weights)."""
        strength = penalty * gram.diagonal().mean()
        self.weights = torch.linalg.solve(gram + strength * torch.eye(len(gram), dtype=torch.float64), goal).float()
        return psnr_db(self(seen.symbols[fitted : fitted + 24]), seen.pictures[fitted : fitted + 24]), self.weights

    def __call__(self, symbols: Tensor) -> Tensor:
        blocks = (self._features(symbols) @ self.weights).unflatten(0, (len(symbols), -1)).transpose(1, 2)
        return (self.mean + F.pixel_shuffle(blocks.unflatten(2, symbols.shape[-2:]), self.each)).clamp(0, 1)

    def _features(self, symbols: Tensor) -> Tensor:
        """[places of all pictures, features]."""
        around = F.unfold(symbols / self.scale, AROUND, padding=AROUND // 2).transpose(1, 2).flatten(0, 1)
        known = torch.cat([torch.ones(len(around), 1), around], 1)
        return torch.cat([known, (known @ self.random).relu()], 1)


def psnr_db(picture: Tensor, goal: Tensor) -> float:
    """Mean over pictures, in decibel."""
    return float((-10 * (picture - goal).square().flatten(1).mean(1).log10()).mean())


def figure(rows: list[tuple[str, Tensor]]) -> bytes:
    """PNG: pictures in the first row, what is restored of them below, each row with its name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(1.5 * SHOWN, 1.7 * len(rows)), layout="constrained")
    FigureCanvasAgg(drawn)
    for axes, (name, images) in zip(drawn.subplots(len(rows), SHOWN, squeeze=False), rows):
        for ax, image in zip(axes, images):
            ax.imshow(image.movedim(0, -1).numpy())
            ax.set_axis_off()
        axes[0].set_title(name, loc="left", fontsize=10)
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    torch.manual_seed(args.seed)
    points = [embedded(name) for name in args.points]
    table, rows = [], []
    for point in points:
        seen = seen_by(point, args.pictures + args.held_out, args.side)
        parts = [
            Seen(seen.symbols[part], seen.pictures[part], seen.payload_bytes)
            for part in (slice(args.pictures), slice(args.pictures, None))
        ]
        decoder = Decoder(parts[0])
        goal = parts[1].pictures
        restored = torch.cat([decoder(symbols) for symbols in parts[1].symbols.split(8)])
        table.append(
            {
                "point": point.name,
                "bytes": f"{seen.payload_bytes:.0f}",
                "pixels": f"{goal.shape[-1]} x {goal.shape[-2]}",
                "mean picture, dB": f"{psnr_db(decoder.mean.expand_as(goal), goal):.2f}",
                "restored, dB": f"{psnr_db(restored, goal):.2f}",
            }
        )
        rows += [(f"{point.name}: the pictures", goal), (f"restored from {seen.payload_bytes:.0f} bytes each", restored)]
    write_whole(args.output, figure(rows))
    print(f"{aligned(table)}\nfitted on {args.pictures} pictures, judged on {args.held_out} others; {args.output}")


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--points", nargs="+", default=["classification/S1/1", "classification/S3/1", "segmentation/S3/1"])
    add("--pictures", type=positive, default=300, help="that the decoder is fitted on, for each point")
    add("--held_out", type=positive, default=24, help="that it is judged on")
    add("--side", type=positive, default=64, help="pixels along a side of the restored picture, about")
    add("--output", type=Path, default=Path("inversion.png"))
    add("--seed", type=natural, default=0)
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
