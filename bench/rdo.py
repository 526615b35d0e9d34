"""Bits and accuracy of --rdo at several strengths, with intervals over the pictures.

    python bench/rdo.py --task classification --split_point S1 S3 --compress_factor 1 --strengths 0.05 0.1 0.2
    python bench/rdo.py --task segmentation --split_point S2 --compress_factor 3 --tables context

Strength 0, the nearest symbols, is always measured; the others are compared with it on the same pictures (paired bootstrap).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spic.choice import add_points, chosen
from spic.commands import Parser, guarded, natural, positive, strength
from spic.curves.bootstrap import draw, interval
from spic.curves.samples import Rows, Samples
from spic.points import OperatingPoint
from spic.record import Record
from spic.report import aligned
from spic.val import measure_points

STRENGTHS = (0.05, 0.1, 0.2)


def measured(points: Sequence[OperatingPoint], strengths: Sequence[float], folder: Path, args: argparse.Namespace
             ) -> dict[float, list[Record]]:
    """The records of all points by each strength, and a row per picture beside them; what is finished in the folder is kept."""
    return {value: measure_points(points, valdir=args.data, coder=args.coder, limit=args.limit, workers=args.workers, rdo=value,
                                  output=folder / f"{value:g}", per_image=folder / f"{value:g}") for value in strengths}


def scores(record: Record, samples: Samples, weights: np.ndarray) -> np.ndarray:
    """Of the compressed network in each draw, [R]."""
    return record.of.score_of_sums(weights @ samples.own, record.images)


def row(strength: float, record: Record, samples: Samples, plainly: Record, before: Samples) -> dict[str, str]:
    """One strength against 0: payload bytes and score, and how far both moved, with intervals."""
    weights, score = draw(record.images), record.of.accuracy(record.scores)
    bytes_ratio = (weights @ samples.payload) / (weights @ before.payload)
    change = scores(record, samples, weights) - scores(plainly, before, weights)

    def ratio(value: float) -> str:
        return f"{value:.3f}"

    def moved(value: float) -> str:
        return f"{value / score.drop:+.2f}"

    return {"point": f"{record.split_point}/{record.compress_factor}", "strength": f"{strength:g}",
            "bytes": f"{record.bytes_per_image:.1f}", "of strength 0": ratio(record.bpp / plainly.bpp),
            "95 %": interval(bytes_ratio).text(ratio), score.axis: f"{record.accuracy:.{score.digits}f}",
            "points gained": moved(record.accuracy - plainly.accuracy), "95 %, gained": interval(change).text(moved)}


def rows(found: dict[float, list[Record]], folder: Path) -> list[dict[str, str]]:
    """Point by point, from the least strength to the largest."""
    known = Rows([folder])
    return [row(value, records[place], known.of(records[place]), plainly, known.of(plainly))
            for place, plainly in enumerate(found[0.0]) for value, records in found.items()]


def run(args: argparse.Namespace) -> None:
    points = chosen(args)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.runs or Path(temporary)
        print(aligned(rows(measured(points, sorted({0.0, *args.strengths}), folder, args), folder)))


def main(argv: list[str] | None = None) -> int:
    parser = Parser("bench/rdo.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add_points(add)
    add("--strengths", type=strength, nargs="+", default=list(STRENGTHS), help="beside 0 (default: %(default)s)")
    add("--data", type=Path, help="folder of the pictures; scenes are drawn")
    add("--limit", type=positive, help="use only so many pictures")
    add("--workers", type=natural, default=0, help="processes that load pictures")
    add("--runs", type=Path, help="folder of the records, completed when it exists (default: none are kept)")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    raise SystemExit(main())
