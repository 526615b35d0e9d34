"""The CVPR paper's claims about rivals, peaks, a teacher's layers and topologies; each rule stood here before its numbers.

Rates are compared at the smallest drop under the uncompressed network that a split point reaches, of one, two and five
points. Intervals are over pictures (spic/curves/bootstrap.py); where methods of training are compared, seeds decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from spic.bottleneck import SEPARABLE
from spic.curves import factors
from spic.curves.bjontegaard import bd_accuracy, bd_rate
from spic.curves.bootstrap import Bootstrap, Interval, interval
from spic.curves.comparison import ANSWER, OURS, Comparison, Curve, Point
from spic.points import supervised
from spic.study.claims import (ABSENT, DROPS, FAILS, HEURISTIC, HOLDS, OPEN, PAPERS, Finding, combined, judged_over_seeds,
                               seed_deltas, spread_of)
from spic.study.measured import Measured, Spread

LAYERS = ("fc", "avgpool", "layer4.2", "layer4.1", "layer4.0")
"""Of the network, that a bottleneck trained without labels is matched at; the paper's order, best first."""
TABLE_3 = {"separable": "74.91 % at 0.069 bpp, 0.57 M parameters", "separable2": "74.58 % at 0.068 bpp, 0.58 M parameters",
           "conv": "73.37 % at 0.068 bpp, 4.72 M parameters", "conv2": "72.79 % at 0.069 bpp, 5.58 M parameters"}
"""Topology of a bottleneck -> what Table 3 of the paper says of it, at S1 of classification."""
TRAININGS = {form: "table" if form == SEPARABLE else f"table+{form}" for form in TABLE_3}
"""Topology -> the name of its curve in study.yaml."""
CODES_NOTHING = "codes nothing"
AGAINST = f"BD-rate against {SEPARABLE}"


# --- against the rivals --------------------------------------------------------------------------------------------


def headline(measured: Measured) -> Finding:
    """Does each split point need fewer bits than the rival that needs the fewest?"""
    return _against_rivals(measured, supervised)


def unlabelled(measured: Measured) -> Finding:
    """Does each split point trained without labels, too?"""
    return _against_rivals(measured, lambda name: not supervised(name))


def _against_rivals(measured: Measured, wanted: Callable[[str], bool]) -> Finding:
    comparison = measured.compared
    rivals = factors.rivals_of(comparison) if comparison else []
    ours = [curve for curve in comparison.curves if curve.kind == OURS and wanted(curve.name)] if rivals else []
    if not ours:
        return Finding(ABSENT)
    judged = [_judge(comparison, measured.bootstrap, curve, rivals) for curve in ours]
    parts = [f"{row['split point']} {verdict} ({row[factors.COLUMNS['bpp']]} times, with all bytes {row[factors.COLUMNS['bpp_wire']]})"
             for verdict, row in judged]
    sentence = f"{comparison.images} pictures; fewer bits than the cheapest rival: {'; '.join(parts)}{_answer(comparison, ours)}"
    return Finding(combined(verdict for verdict, _ in judged), sentence,
                   ([row for _, row in judged], _each_rival(comparison, ours, rivals)))


def _judge(comparison: Comparison, bootstrap: Bootstrap | None, ours: Curve, rivals: list[Curve]) -> tuple[str, dict]:
    drop = _drop(comparison, ours)
    accuracy = comparison.uncompressed(drop)
    ratio, _ = factors.ratio_of(ours, rivals, accuracy)
    cheapest = min(rivals, key=lambda rival: factors.needed(rival, accuracy, "bpp")[0])
    verdict = _fewer(ratio, factors.interval_of(bootstrap, ours, rivals, drop=drop))
    return verdict, {"split point": ours.name, "points below": drop, "cheapest rival": "none gets there" if math.isinf(ratio) else cheapest.name,
                     **factors.row_of(comparison, bootstrap, ours, rivals, drop), "verdict": verdict}


def _drop(comparison: Comparison, curve: Curve) -> int:
    """The smallest that the curve reaches; the largest where it reaches none."""
    reached = [drop for drop in DROPS if math.isfinite(factors.needed(curve, comparison.uncompressed(drop), "bpp")[0])]
    return reached[0] if reached else DROPS[-1]


def _fewer(ratio: float, found: Interval | None) -> str:
    """The rule: all of the interval above 1. Without one a factor alone decides nothing, however large: the curve may miss
    the accuracy on other pictures."""
    if math.isnan(ratio):
        return FAILS
    return OPEN if found is None else HOLDS if found.above(1) else FAILS if found.below(1) else OPEN


def _each_rival(comparison: Comparison, ours: list[Curve], rivals: list[Curve]) -> list[dict]:
    """Payload factors at one point below, split point by rival."""
    return [{"payload, 1 below": curve.name, **{rival.name: factors.ratio_text(curve, [rival], comparison.uncompressed(1), "bpp")
                                                for rival in rivals}} for curve in ours]


def _answer(comparison: Comparison, ours: list[Curve]) -> str:
    """What sending the answer itself saves beside the first split point, where that was measured."""
    answers = [curve for curve in comparison.curves if curve.kind == ANSWER and curve.drawable()]
    if not answers:
        return ""
    accuracy = comparison.uncompressed(_drop(comparison, ours[0]))
    least = min(answers, key=lambda curve: factors.needed(curve, accuracy, "bpp"))
    text = factors.ratio_text(least, [ours[0]], accuracy, "bpp")
    return f". Sending the answer itself ({least.name}) needs {text} times fewer bits than {ours[0].name}"


# --- peaks ---------------------------------------------------------------------------------------------------------


def peak(measured: Measured) -> Finding:
    """Is the papers' estimator more accurate than the heuristic where both are given the most bits?"""
    rows, verdicts = [], []
    for split_point, names in measured.estimators.items():
        if {PAPERS, HEURISTIC} <= set(names):
            gains = Spread.known((_top(measured, f"{split_point} {PAPERS}", seed) - _top(measured, f"{split_point} {HEURISTIC}", seed)
                                  for seed in _common_seeds(measured, split_point)), CODES_NOTHING)
            verdicts.append(judged_over_seeds(gains, lambda points: points > 0))
            rows.append({"split point": split_point, f"peak of {PAPERS} above {HEURISTIC} (points)": gains.text("+.2f"),
                         "verdict": verdicts[-1]})
    if not rows:
        return Finding(ABSENT)
    return Finding(combined(verdicts), "; ".join(" ".join(list(row.values())[:2]) for row in rows), (rows,))


def _common_seeds(measured: Measured, split_point: str) -> list[int]:
    return [seed for seed in measured.seeds if all(measured.curve(f"{split_point} {name}", seed) for name in (PAPERS, HEURISTIC))]


def _top(measured: Measured, name: str, seed: int) -> float:
    """Accuracy in points of the trained point with the most bits: not of the best, which the pictures would choose. NaN where
    all of them code nothing."""
    points = measured.curve(name, seed).drawable()
    return _most_bits(points).accuracy / measured.unit.drop if points else math.nan


def _most_bits(points: list[Point]) -> Point:
    return max(points, key=lambda point: point.bpp)


def above(measured: Measured) -> Finding:
    """Does segmentation with a bottleneck end above the uncompressed network?"""
    comparison = measured.compared if measured.task == "segmentation" else None
    ours = [curve for curve in comparison.curves if curve.kind == OURS and supervised(curve.name) and curve.drawable()] if comparison else []
    if not ours:
        return Finding(ABSENT)
    rows = []
    for curve in ours:
        point = _most_bits(curve.drawable())
        gain, found = (point.accuracy - comparison.baseline) / comparison.unit.drop, _gain(measured.bootstrap, curve, point)
        verdict = OPEN if found is None else HOLDS if found.above(0) else FAILS if found.below(0) else OPEN
        rows.append({"split point": curve.name, "bpp": f"{point.bpp:.4g}", "above uncompressed (points)": f"{gain:+.2f}",
                     "95 %": found.text(lambda value: f"{value:+.2f}") if found else "not measured", "verdict": verdict})
    parts = [f"{row['split point']} {row['above uncompressed (points)']}" for row in rows]
    return Finding(combined(row["verdict"] for row in rows), f"{comparison.images} pictures; points of mIoU: {', '.join(parts)}", (rows,))


def _gain(bootstrap: Bootstrap | None, curve: Curve, point: Point) -> Interval | None:
    if bootstrap is None or not bootstrap.covers(curve):
        return None
    return interval((bootstrap.accuracies(point) - bootstrap.uncompressed(point)) / bootstrap.comparison.unit.drop)


# --- what a bottleneck is matched at -------------------------------------------------------------------------------


def matching(measured: Measured) -> Finding:
    """Without labels: is a deeper layer of the teacher the better one to match, of each two neighbours? One that was not trained
    leaves its part undecided."""
    rows, verdicts = [], []
    for split_point, names in measured.estimators.items():
        there = [layer for layer in LAYERS if matched(layer) in names]
        for deep, shallow in zip(there, there[1:]):
            deltas = seed_deltas(measured, bd_accuracy, f"{split_point} {matched(shallow)}", f"{split_point} {matched(deep)}")
            spread = spread_of(deltas, measured.unit.drop)
            verdicts.append(judged_over_seeds(spread, lambda points: points > 0))
            rows.append({"split point": split_point, "layers": f"{deep} against {shallow}", "BD-accuracy (points)": spread.text("+.2f"),
                         "verdict": verdicts[-1]})
        verdicts += [OPEN] * (0 < len(there) < len(LAYERS))
    if not rows:
        return Finding(ABSENT)
    return Finding(combined(verdicts), "; ".join(f"{row['layers']} {row['BD-accuracy (points)']}" for row in rows), (rows,))


def matched(layer: str) -> str:
    """Name of a curve in study.yaml: the estimator, and what is matched; the last layer gives the logits."""
    return "table+mae" if layer == LAYERS[0] else f"table+mae@{layer}"


# --- what a bottleneck consists of ---------------------------------------------------------------------------------


def topologies(measured: Measured) -> Finding:
    """Does the depthwise-separable layer need at most as many bits as each of the three other topologies, at equal accuracy?"""
    rows, verdicts = [], []
    for split_point, names in measured.curves.items():
        there = [form for form in TABLE_3 if TRAININGS[form] in names]
        for form in TABLE_3 if SEPARABLE in there and len(there) > 1 else ():
            row, verdict = _topology(measured, split_point, form)
            rows.append(row)
            verdicts += verdict
    if not rows:
        return Finding(ABSENT)
    return Finding(combined(verdicts), "; ".join(f"{row['split point']} {row['topology']} {row[AGAINST]}" for row in rows
                                                 if row["verdict"]), (rows,))


def _topology(measured: Measured, split_point: str, form: str) -> tuple[dict, list[str]]:
    """Its row, and its verdict against the published topology, which has none itself."""
    name = f"{split_point} {TRAININGS[form]}"
    spread = spread_of(seed_deltas(measured, bd_rate, f"{split_point} {TRAININGS[SEPARABLE]}", name))
    verdict = [judged_over_seeds(spread, lambda percent: percent >= 0)] if form != SEPARABLE else []
    tops = Spread.known((_top(measured, name, seed) for seed in measured.seeds if measured.curve(name, seed)), CODES_NOTHING)
    parameters = measured.parameters(name)
    return {"split point": split_point, "topology": form, "parameters": f"{parameters:,}" if parameters else "not measured yet",
            AGAINST: spread.text("+.1f", " %") if verdict else "0", "accuracy at the most bits (%)": tops.text(".2f"),
            "the paper's": TABLE_3[form], "verdict": "".join(verdict)}, verdict

