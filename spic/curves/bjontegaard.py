"""Bjøntegaard deltas between two curves: mean difference of rate at equal accuracy, of accuracy at equal rate.

Interpolation is piecewise cubic Hermite over log10 rate, as in the JVET common test conditions, by the package
`bjontegaard`. Points that another point of their curve beats in both rate and accuracy are left out: the interpolation
needs curves that rise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spic.curves.comparison import Curve
from spic.errors import SpicError

METHOD = "pchip"


@dataclass(frozen=True)
class Delta:
    """value: percent of rate, or accuracy in the task's unit; NaN with the reason in `note`. low, high: the overlap."""

    value: float
    low: float
    high: float
    note: str = ""


def rising(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """(rates, accuracies) of the points that no other point beats, both strictly rising."""
    rates, accuracies = [], []
    for point in sorted(curve.drawable(), key=lambda point: (point.bpp, -point.accuracy)):
        if not accuracies or point.accuracy > accuracies[-1]:
            rates.append(point.bpp)
            accuracies.append(point.accuracy)
    return np.array(rates), np.array(accuracies)


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
    if low >= high:
        return Delta(math.nan, math.nan, math.nan, "no overlap")
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
    rates, accuracies = rising(curve)
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
