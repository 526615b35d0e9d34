"""Bytes of the rival codecs against their own command-line tools, at the same settings, on a few pictures.

    python bench/tools.py --images 8
    python bench/tools.py --pictures ~/photos

Tools that are not installed are named and left out. Both get the same samples: the 4:2:0 planes for HEVC, RGB for the
others, so that no conversion of colours stands between them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from spic.rivals.codecs import CODECS, find_codecs
from spic.datasets.pictures import to_rgb8
from spic.rivals.video import pad_even, rgb_to_planes
from spic.commands import Parser, guarded, positive
from spic.datasets import scenes
from spic.datasets.images import evenly_spread
from spic.datasets.pictures import read_rgb
from spic.errors import SpicError
from spic.report import aligned

QUALITIES = {"jpeg": (10, 50, 75), "webp": (5, 50, 75), "jpeg2000": (23, 30, 41), "hevc": (26, 36, 46)}


@dataclass(frozen=True)
class Tool:
    """``command(quality, width, height)`` reads the file ``in.ppm`` or ``in.yuv`` and writes ``target``."""

    program: str
    version: str
    command: Callable[[int, int, int], list[str]]
    source: str = "in.ppm"
    target: str = "out"


def _cjpeg(quality: int, *_: int) -> list[str]:
    return f"-quality {quality} -sample 2x2 -optimize -baseline -outfile out in.ppm".split()


def _cwebp(quality: int, *_: int) -> list[str]:
    return f"-quiet -q {quality} -m 6 in.ppm -o out".split()


def _opj(decibel: int, *_: int) -> list[str]:
    return f"-i in.ppm -o out.j2k -I -mct 1 -q {decibel}".split()


def _x265(quality: int, width: int, height: int) -> list[str]:
    return (f"--input in.yuv --input-res {width}x{height} --fps 25 --frames 1 --preset slow --tune ssim --aq-mode 1 "
            f"--crf {quality} --keyint 1 --no-info --no-wpp --pools none --frame-threads 1 -o out").split()


TOOLS = {
    "jpeg": Tool("cjpeg", "-version", _cjpeg),
    "webp": Tool("cwebp", "-version", _cwebp),
    "jpeg2000": Tool("opj_compress", "-h", _opj, target="out.j2k"),
    "hevc": Tool("x265", "--version", _x265, "in.yuv"),
}


def called(program: str, arguments: list[str], folder: str = ".", codes: tuple[int, ...] = (0,)) -> str:
    """What a program says; SpicError when it is absent or ends with another code."""
    try:
        done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpicError(f"{program}: {error}") from None
    if done.returncode not in codes:
        raise SpicError(f"{program} ended with code {done.returncode}: {(done.stderr or done.stdout).strip()[-200:]}")
    return (done.stdout + done.stderr).strip()


def both(name: str, image: np.ndarray, quality: int, folder: str) -> tuple[bytes, bytes]:
    """(ours, the tool's) coded bytes of one picture."""
    tool, codec = TOOLS[name], CODECS[name]
    source, target = Path(folder, tool.source), Path(folder, tool.target)
    if source.suffix == ".yuv":
        planes = rgb_to_planes(pad_even(image)[0])
        source.write_bytes(planes.tobytes())
        ours, width, height = codec.encode_planes(planes, quality), planes.shape[1], planes.shape[0] * 2 // 3
    else:
        Image.fromarray(image).save(source)
        ours, (height, width) = codec.encode(image, quality), image.shape[:2]
    called(tool.program, tool.command(quality, width, height), folder)
    return ours, target.read_bytes()


def row(name: str, quality: int, images: list[np.ndarray], folder: str) -> dict:
    pairs = [both(name, image, quality, folder) for image in images]
    sizes = np.array([[len(ours), len(theirs)] for ours, theirs in pairs])
    ratios = sizes[:, 0] / sizes[:, 1]
    return {"codec": name, "quality": f"{CODECS[name].quality_name} {quality}", "our bytes": f"{sizes[:, 0].mean():.0f}",
            "tool's bytes": f"{sizes[:, 1].mean():.0f}", "ratio": f"{sizes[:, 0].sum() / sizes[:, 1].sum():.3f}",
            "least": f"{ratios.min():.3f}", "most": f"{ratios.max():.3f}",
            "identical": f"{sum(ours == theirs for ours, theirs in pairs)} of {len(pairs)}"}


def run(args: argparse.Namespace) -> None:
    images = pictures(args.pictures, args.images)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for codec in tqdm(find_codecs(list(TOOLS))[0], "tools", unit="codec", disable=None):
            tool = TOOLS[codec.name]
            try:
                told = called(tool.program, [tool.version], codes=(0, 1))  # opj_compress calls its help a failure
            except SpicError as reason:
                print(f"{codec.name}: not compared ({reason})", file=sys.stderr)
                continue
            version = next((line for line in told.splitlines() if re.search(r"\d\.\d", line)), "tells no version")
            print(f"{codec.name}: ours {codec.version()}; {tool.program}: {version.strip()}")
            rows += [row(codec.name, quality, images, folder) for quality in QUALITIES[codec.name]]
    print(aligned(rows))


def pictures(folder: Path | None, count: int) -> list[np.ndarray]:
    if folder is None:
        data = scenes.open("segmentation", "val", count)
        return [data.pixels(i) for i in range(len(data))]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in Image.registered_extensions())
    if not files:
        raise SpicError(f"{folder}: holds no picture")
    return [to_rgb8(read_rgb(path)) for path in evenly_spread(files, count)]


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, help="folder (default: the embedded scenes)")
    parser.add_argument("--images", type=positive, default=8, help="how many (default: %(default)s)")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
