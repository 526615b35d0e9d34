"""Bjøntegaard deltas between two curves: mean difference of rate at equal accuracy, of accuracy at equal rate.

Interpolation is piecewise cubic Hermite over log10 rate, as in the JVET common test conditions, by the package
`bjontegaard`. The interpolation needs curves that rise. Where measured points do not, our own are pooled: neighbours in
the wrong order become one point, their mean, because to keep the better one of two would be a choice by the very pictures
that are reported on. Of rivals, whose best settings count, those points stay that no other of their curve beats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spic.curves.comparison import Curve
from spic.errors import SpicError

METHOD = "pchip"
LEAST_OVERLAP = 0.5
"""Of the shorter of two curves: where less of it is shared, a mean over the overlap says nothing of the curves."""


@dataclass(frozen=True)
class Delta:
    """value: percent of rate, or accuracy in the task's unit; NaN with the reason in `note`. low, high: the overlap."""

    value: float
    low: float
    high: float
    note: str = ""

    def text(self, form: str, unit: float = 1.0) -> str:
        """The value in units, or why there is none."""
        return self.note or f"{self.value / unit:{form}}"


def rising(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """(rates, accuracies) of a curve, both strictly rising: its points pooled, or the best of a rival's."""
    points = curve.drawable()
    return risen([point.bpp for point in points], [point.accuracy for point in points], curve.pooled)


def risen(rates: Sequence[float], accuracies: Sequence[float], pool: bool) -> tuple[np.ndarray, np.ndarray]:
    """The same of plain numbers, in any order."""
    markers = sorted(zip(rates, accuracies), key=lambda marker: (marker[0], -marker[1]))
    kept = _pooled(markers) if pool else _best(markers)
    return np.array([rate for rate, _ in kept]), np.array([accuracy for _, accuracy in kept])


def _best(markers: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other beats in both rate and accuracy."""
    kept: list[tuple[float, float]] = []
    for rate, accuracy in markers:
        if not kept or accuracy > kept[-1][1]:
            kept.append((rate, accuracy))
    return kept


def _pooled(markers: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Adjacent violators of the order pooled: means of log rate and of accuracy."""
    groups: list[list[tuple[float, float]]] = []
    means: list[tuple[float, float]] = []
    for marker in markers:
        group, mean = [marker], marker
        while means and (means[-1][0] >= mean[0] or means[-1][1] >= mean[1]):
            group, _ = groups.pop() + group, means.pop()
            mean = _mean(group)
        groups.append(group)
        means.append(mean)
    return means


def _mean(markers: list[tuple[float, float]]) -> tuple[float, float]:
    logs = sum(math.log(rate) for rate, _ in markers) / len(markers)
    return math.exp(logs), sum(accuracy for _, accuracy in markers) / len(markers)


def _package():
    try:
        import bjontegaard
    except ImportError:
        raise SpicError("Bjøntegaard deltas need the package bjontegaard: pip install bjontegaard") from None
    return bjontegaard


def _delta(anchor: Curve, test: Curve, axis: int, compute) -> Delta:
    """axis 1: overlap in accuracy; axis 0: overlap in rate."""
    first, second = rising(anchor), rising(test)
    for curve, (rates, _) in ((anchor, first), (test, second)):
        if len(rates) < 2:
            return Delta(math.nan, math.nan, math.nan, f"{curve.name} has {len(rates)} usable point{'s' * (len(rates) != 1)}")
    low = max(first[axis][0], second[axis][0])
    high = min(first[axis][-1], second[axis][-1])
    shorter = min(ends[axis][-1] - ends[axis][0] for ends in (first, second))
    if high - low < LEAST_OVERLAP * shorter or low >= high:
        shared = max(high - low, 0) / shorter
        note = f"overlap of {shared:.0%}, less than {LEAST_OVERLAP:.0%}" if shared else "no overlap"
        return Delta(math.nan, math.nan, math.nan, note)
    value = compute(*first, *second, method=METHOD, require_matching_points=False, min_overlap=0)
    return Delta(float(value), float(low), float(high))


def bd_rate(anchor: Curve, test: Curve) -> Delta:
    """How much more (or, negative, less) rate `test` needs than `anchor` at equal accuracy, in percent."""
    return _delta(anchor, test, 1, _package().bd_rate)


def bd_accuracy(anchor: Curve, test: Curve) -> Delta:
    """How much more accurate `test` is than `anchor` at equal rate, in the task's unit."""
    return _delta(anchor, test, 0, _package().bd_psnr)


def rate_at(curve: Curve, accuracy: float) -> float:
    """Rate that reaches an accuracy, linear in log rate between points; NaN where the curve does not span it."""
    return interpolated(*rising(curve), accuracy)


def interpolated(rates: np.ndarray, accuracies: np.ndarray, accuracy: float) -> float:
    """The same of rates and accuracies that rise."""
    if not len(rates) or not accuracies[0] <= accuracy <= accuracies[-1]:
        return math.nan
    return float(10 ** np.interp(accuracy, accuracies, np.log10(rates)))


def bound_at(curve: Curve, accuracy: float) -> float:
    """The lowest rate of a curve that lies above an accuracy altogether: less would have done. Else NaN."""
    rates, accuracies = rising(curve)
    return float(rates[0]) if len(rates) and accuracy < accuracies[0] else math.nan


def rate_text(curve: Curve, accuracy: float) -> str:
    """Bits per pixel at an accuracy, or on which side of the curve it lies."""
    rate, bound = rate_at(curve, accuracy), bound_at(curve, accuracy)
    return f"{rate:.4g}" if math.isfinite(rate) else f"under {bound:.4g}" if math.isfinite(bound) else "not reached"
