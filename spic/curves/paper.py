"""The paper's four figures, redrawn from the numbers read off them (spic/data/paper_curves.json says how)."""

from __future__ import annotations

import json
from pathlib import Path

from spic.curves.comparison import Comparison, Curve, Point, kind_of

NUMBERS = Path(__file__).resolve().parents[1] / "data" / "paper_curves.json"
RIVALS = ("Entropic Student", "HEVC", "Variational", "JPEG")
FIGURES = {  # file name → task, curves of the split points, title
    "paper-classification": ("classification", ("S1", "S2", "S3"), "Classification, supervised"),
    "paper-classification-unsupervised": ("classification", ("US1", "US2"), "Classification, unsupervised"),
    "paper-segmentation": ("segmentation", ("S1", "S2", "S3"), "Segmentation, supervised"),
    "paper-segmentation-unsupervised": ("segmentation", ("US1", "US2"), "Segmentation, unsupervised"),
}
BENCHMARKS = {"classification": "ImageNet", "segmentation": "COCO"}


def numbers() -> dict:
    """{task: {metric, baseline: {name, value}, curves: {name: [[bpp, accuracy], ...]}}, source, uncertainty}."""
    return json.loads(NUMBERS.read_text())


def comparisons() -> dict[str, Comparison]:
    """File name → what the figure of that name shows."""
    read_off = numbers()
    return {name: _comparison(read_off, *figure) for name, figure in FIGURES.items()}


def _comparison(read_off: dict, task: str, splits: tuple[str, ...], title: str) -> Comparison:
    figure = read_off[task]
    curves = tuple(
        Curve(name, tuple(Point(str(i), bpp, accuracy) for i, (bpp, accuracy) in enumerate(figure["curves"][name])),
              kind_of(name))
        for name in (*splits, *RIVALS)
    )
    benchmark = BENCHMARKS[task]
    baseline = figure["baseline"]
    return Comparison(task, benchmark, curves, baseline["value"], notes=(read_off["source"], read_off["uncertainty"]),
                      title=f"{title}: {baseline['name']} on {benchmark}, as published", rate="published bpp")
