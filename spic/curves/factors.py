"""Times fewer bits than the rivals, and accuracies, each with an interval over the pictures, payload and wire side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spic.curves.bjontegaard import bound_at, rate_at
from spic.curves.bootstrap import LEVEL, RESAMPLES, SEED, Bootstrap, Interval, interval
from spic.curves.comparison import ANSWER, OURS, RIVAL, Comparison, Curve, Point
from spic.tasks import TASKS

CHEAPEST = "the rival with the fewest bits"
COLUMNS = {"bpp": "times fewer bits, payload", "bpp_wire": "times fewer bits, all bytes"}
NOTE = (f"Intervals: {LEVEL:.0%}, percentile bootstrap over the pictures, paired (all curves and the uncompressed network on the "
        f"same draws), {RESAMPLES} draws, seed {SEED}. Bits are compared at one point under the uncompressed network, if nothing else is "
        "said; over: the rival does not get there; not reached: ours does not, or not in all draws; at most: all of the rival's "
        "points lie above, fewer bits might do.")

Table = list[dict]


def two_digits(value: float) -> str:
    """More digits of a ratio say nothing."""
    return f"{float(f'{value:.2g}'):g}" if math.isfinite(value) else "any"


def _end(value: float) -> str:
    """An end of an interval; 0 times fewer bits is that of draws in which our curve does not get there at all."""
    return two_digits(value) if value else "not reached"


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
    if not ours.counted_in(rate).drawable():
        return "not measured"
    ratio, loose = ratio_of(ours, rivals, accuracy, rate)
    if math.isnan(ratio):
        return "not reached"
    return "over any" if math.isinf(ratio) else f"{'at most ' if loose else ''}{two_digits(ratio)}"


def ratio_of(ours: Curve, rivals: Sequence[Curve], accuracy: float, rate: str = "bpp") -> tuple[float, bool]:
    """(times fewer bits than the cheapest rival, whether less is possible); NaN where ours does not get there."""
    mine, _ = needed(ours, accuracy, rate)
    least, loose = min(needed(rival, accuracy, rate) for rival in rivals)
    return (math.nan if math.isinf(mine) else least / mine), loose


def times_fewer(comparison: Comparison, bootstrap: Bootstrap | None = None, drop: float = 1) -> Table:
    """A row for each of our curves against each rival, against the cheapest of them, and against sending the answer, at some
    points under the uncompressed network."""
    rivals = rivals_of(comparison)
    answers = [curve for curve in comparison.curves if curve.kind == ANSWER and curve.drawable()]
    groups = {CHEAPEST: rivals} if rivals else {}
    groups |= {curve.name: [curve] for curve in (*rivals, *answers)}
    return [{"curve": ours.name, "against": name, **row_of(comparison, bootstrap, ours, group, drop)}
            for ours in comparison.curves if ours.kind == OURS and ours.drawable() for name, group in groups.items()]


def row_of(comparison: Comparison, bootstrap: Bootstrap | None, ours: Curve, rivals: Sequence[Curve], drop: float = 1) -> dict[str, str]:
    """Payload and wire factor against the cheapest of some rivals at some points under the network, with intervals."""
    row = {}
    for rate, what in (("bpp", "payload"), ("bpp_wire", "all bytes")):
        row[COLUMNS[rate]] = ratio_text(ours, rivals, comparison.uncompressed(drop), rate)
        found = interval_of(bootstrap, ours, rivals, rate, drop)
        row[f"95 %, {what}"] = found.text(_end) if found else "not measured"
    return row


def interval_of(bootstrap: Bootstrap | None, ours: Curve, rivals: Sequence[Curve], rate: str = "bpp", drop: float = 1) -> Interval | None:
    """None where the rows of a curve are not there."""
    if bootstrap is None or not all(map(bootstrap.covers, (ours, *rivals))):
        return None
    return bootstrap.times(ours, rivals, drop, rate)


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
                         "95 %, above": interval(own - plain).text(lambda value: f"{value:+.{unit.digits}f}"),
                         **_other_scores(comparison, point)})
    return rows


def _other_scores(comparison: Comparison, point: Point) -> dict[str, str]:
    """What else the task scores, such as top-5."""
    others = [score for score in TASKS[comparison.task].scores if score.key != comparison.unit.key]
    return {score.key: f"{point.mean(lambda record: record.scores.get(score.key, math.nan)):.{score.digits}f}" for score in others}
