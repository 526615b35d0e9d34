"""How much of the picture is in the symbols: a small decoder is trained from symbols to pictures, and judged on others.

    python bench/inversion.py --output inversion.png
    python bench/inversion.py --points S1/1 S2/1 S3/1 --pictures 2000 --epochs 40

Who reads the stream, and has pictures of the same kind and the edge half (which every edge carries), can do this. For three
points of the scenes (classification): PSNR of the restored picture on pictures that the decoder never saw, beside that of the mean
picture, which needs no symbol; and a figure with the pictures.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from spic.benchmarks import find
from spic.commands import guarded, natural, positive
from spic.datasets.scenes import draw_classification
from spic.files import check_writable, write_whole
from spic.pipeline import Edge
from spic.points import load_points, select
from spic.report import aligned

SHOWN = 8
HELD_OUT = 64


class Inverter(nn.Module):
    """Symbols [B, C, h, w] -> RGB in 0..1 [B, 3, side, side]; twice as large at each step."""

    def __init__(self, shape: tuple[int, ...], side: int, width: int = 64):
        super().__init__()
        self.side = side
        layers, size, planes = [nn.Conv2d(shape[0], width, 3, padding=1), nn.ReLU()], shape[1], width
        while size < side:
            narrower = max(24, planes * 3 // 4)
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(planes, narrower, 3, padding=1), nn.ReLU()]
            size, planes = 2 * size, narrower
        self.layers = nn.Sequential(*layers, nn.Conv2d(planes, 3, 3, padding=1))

    def forward(self, symbols: Tensor) -> Tensor:
        return F.interpolate(self.layers(symbols), (self.side, self.side), mode="bilinear").sigmoid()


def pictures(count: int, side: int) -> tuple[Tensor, Tensor]:
    """(inputs of the network [N, 3, 224, 224], the same pictures small, in 0..1 [N, 3, side, side]); none of the validation set."""
    preparation = find("classification", "scenes").preparation
    inputs, targets = [], []
    for number in tqdm(range(count), "pictures", disable=None):
        pixels = preparation.pixels(Image.fromarray(draw_classification(2, "inversion", number)[0]))
        inputs.append(preparation.normalise(pixels))
        small = F.interpolate(torch.from_numpy(np.array(pixels)).movedim(-1, 0)[None].float() / 255, (side, side), mode="area")[0]
        targets.append(small)
    return torch.stack(inputs), torch.stack(targets)


@torch.inference_mode()
def symbols_of(edge: Edge, inputs: Tensor) -> tuple[Tensor, float]:
    """(symbols of the pictures as floats, mean bytes of a payload)."""
    sent = [edge(batch.contiguous(memory_format=torch.channels_last)) for batch in inputs.split(32)]
    return torch.cat([part.symbols for part in sent]).float(), float(np.mean([size for part in sent for size in part.payload_bytes]))


def restored(symbols: Tensor, targets: Tensor, epochs: int) -> Tensor:
    """The held-out pictures (the last of them) as a decoder trained on the others sees them."""
    scale = symbols[:-HELD_OUT].std().clamp_min(1e-6)
    train, held, goal = symbols[:-HELD_OUT] / scale, symbols[-HELD_OUT:] / scale, targets[:-HELD_OUT]
    network = Inverter(tuple(symbols.shape[1:]), targets.shape[-1])
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    steps = epochs * -(-len(train) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in tqdm(range(epochs), "epochs", disable=None):
        for rows in torch.randperm(len(train)).split(32):
            optimizer.zero_grad()
            F.mse_loss(network(train[rows]), goal[rows]).backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        return network.eval()(held)


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
    points = [select(load_points(), "classification", "scenes", [split], [factor])[0]
              for split, factor in (name.split("/") for name in args.points)]
    inputs, targets = pictures(args.pictures + HELD_OUT, args.side)
    goal = targets[-HELD_OUT:]
    mean = targets[:-HELD_OUT].mean(0).expand_as(goal)
    table, rows = [{"point": "the mean picture", "bytes": "0", "PSNR dB": f"{psnr_db(mean, goal):.2f}"}], [("the pictures", goal)]
    for point in points:
        symbols, size = symbols_of(Edge.load(point, "rans"), inputs)
        seen = restored(symbols, targets, args.epochs)
        table.append({"point": point.name, "bytes": f"{size:.0f}", "PSNR dB": f"{psnr_db(seen, goal):.2f}"})
        rows.append((f"{point.split_point}/{point.compress_factor}, {size:.0f} bytes", seen))
    write_whole(args.output, figure(rows))
    print(f"{aligned(table)}\n{args.pictures} pictures of {args.side} x {args.side}, {args.epochs} epochs; judged on {HELD_OUT} others; {args.output}")


def name(text: str) -> str:
    """SPLIT_POINT/COMPRESS_FACTOR."""
    if text.count("/") != 1:
        raise argparse.ArgumentTypeError(f"{text}: name a point as SPLIT_POINT/COMPRESS_FACTOR, such as S3/1")
    return text


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--points", nargs="+", type=name, default=["S1/1", "S2/1", "S3/1"])
    add("--pictures", type=positive, default=300, help="that the decoder is trained on")
    add("--epochs", type=positive, default=8)
    add("--side", type=positive, default=32, help="pixels along a side of the restored picture")
    add("--output", type=Path, default=Path("inversion.png"))
    add("--seed", type=natural, default=0)
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
