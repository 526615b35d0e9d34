"""Times fewer bits than the rivals, and accuracies, each with an interval over the pictures, payload and wire side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spic.curves.bjontegaard import bound_at, rate_at
from spic.curves.bootstrap import LEVEL, RESAMPLES, SEED, Bootstrap, interval
from spic.curves.comparison import ANSWER, OURS, RATES, RIVAL, Comparison, Curve

CHEAPEST = "the rival with the fewest bits"
COLUMNS = {"bpp": "times fewer bits, payload", "bpp_wire": "times fewer bits, all bytes"}
NOTE = (f"Intervals: {LEVEL:.0%}, percentile bootstrap over the pictures, paired (all curves and the uncompressed network on the "
        f"same draws), {RESAMPLES} draws, seed {SEED}. Bits are compared at one point under the uncompressed network; over: the "
        "rival does not get there; at most: all of the rival's points lie above, fewer bits might do.")

Table = list[dict]


def two_digits(value: float) -> str:
    """More digits of a ratio say nothing."""
    return f"{float(f'{value:.2g}'):g}" if math.isfinite(value) else "any"


def rivals_of(comparison: Comparison) -> list[Curve]:
    """What the headline is about: codecs on pictures or features, and learned ones."""
    return [curve for curve in comparison.curves if curve.kind == RIVAL and curve.drawable()]


def needed(curve: Curve, accuracy: float, rate: str) -> tuple[float, bool]:
    """(bits per pixel at an accuracy, whether fewer might do); infinite where the curve does not get there."""
    counted = curve.counted_in(rate)
    found, bound = rate_at(counted, accuracy), bound_at(counted, accuracy)
    return (bound, True) if math.isfinite(bound) else (found if math.isfinite(found) else math.inf, False)


def ratio_text(ours: Curve, rivals: Sequence[Curve], accuracy: float, rate: str) -> str:
    """Of how many times fewer bits, in words where a curve does not reach the accuracy."""
    mine, _ = needed(ours, accuracy, rate)
    least, loose = min(needed(rival, accuracy, rate) for rival in rivals)
    if math.isinf(mine):
        return "not reached"
    if math.isinf(least):
        return "over any"
    return f"{'at most ' if loose else ''}{two_digits(least / mine)}"


def times_fewer(comparison: Comparison, bootstrap: Bootstrap | None = None) -> Table:
    """A row for each of our curves against each rival, against the cheapest of them, and against sending the answer."""
    accuracy, rivals = comparison.uncompressed(1), rivals_of(comparison)
    answers = [curve for curve in comparison.curves if curve.kind == ANSWER and curve.drawable()]
    groups = {CHEAPEST: rivals} if rivals else {}
    groups |= {curve.name: [curve] for curve in (*rivals, *answers)}
    return [{"curve": ours.name, "against": name, **{
        key: text for rate in RATES for key, text in (
            (COLUMNS[rate], ratio_text(ours, group, accuracy, rate)),
            (f"95 %, {'payload' if rate == 'bpp' else 'all bytes'}", _interval_text(bootstrap, ours, group, rate)))}}
        for ours in comparison.curves if ours.kind == OURS and ours.drawable() for name, group in groups.items()]


def _interval_text(bootstrap: Bootstrap | None, ours: Curve, rivals: Sequence[Curve], rate: str) -> str:
    if bootstrap is None or not all(map(bootstrap.covers, (ours, *rivals))):
        return "not measured"
    return bootstrap.times(ours, rivals, rate=rate).text(two_digits)


def accuracies(comparison: Comparison, bootstrap: Bootstrap) -> Table:
    """Each point's score and what it is above or below the uncompressed network, with their intervals."""
    unit, rows = comparison.unit, []

    def number(value: float) -> str:
        return f"{value:.{unit.digits}f}"

    for curve in filter(bootstrap.covers, comparison.curves):
        for point in curve.drawable():
            own, plain = bootstrap.accuracies(point), bootstrap.uncompressed(point)
            rows.append({"curve": curve.name, "setting": point.setting, "bpp": f"{point.bpp:.4g}",
                         unit.key: number(point.accuracy), "95 %": interval(own).text(number),
                         "above uncompressed": f"{point.accuracy - comparison.baseline:+.{unit.digits}f}",
                         "95 %, above": interval(own - plain).text(lambda value: f"{value:+.{unit.digits}f}")})
    return rows
