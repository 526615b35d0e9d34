"""The papers' claims, each judged by a stated rule from what was measured. Every number here is computed.

A rule is applied to every seed: a claim *holds* if all of them agree with it, does *not hold* if all disagree, and is
*undecided* if they differ, if fewer than three seeds were trained, or if the curves have no accuracy in common.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from spic.curves.bjontegaard import Delta, bd_accuracy, bd_rate, bound_at, rate_at, rate_text
from spic.curves.comparison import OURS as OURS_KIND
from spic.curves.comparison import Comparison, Curve
from spic.record import Record
from spic.study import plan
from spic.study.evaluation import CHOSEN, coding_of
from spic.study.measured import MAIN_VARIANT, PUBLISHED_VARIANT, Measured, Spread, by_name

HOLDS, PART, FAILS, OPEN, ABSENT = "holds", "holds in part", "does not hold", "undecided", "not measured yet"
ENOUGH_SEEDS = 3
DROPS = (1, 2, 5)  # points under the uncompressed accuracy at which bits are compared
CLOSE = 1.0  # points that training without labels may cost
HEURISTIC, PAPERS, OURS = "l1", "hyperprior", "table"
PAPERS_OWN = (PAPERS, "gaussian")  # two readings of the papers' estimator: its structure in the checkpoints, its text
GOOD_PREDICTION = 0.05
HALF = 0.5
DEVIATIONS = {"hyperprior": "folded Laplacian, no ReLU (as in the checkpoints)", "gaussian": "as the paper says", "l1": "as the paper says",
              "table": "ours", "context": "ours", "factorized": "Ballé et al. 2017"}
"""What our estimators do otherwise than the paper's text."""
OUR_TRAININGS = (OURS, "context", "context+conv2")  # the latest trained counts: it rates by the tables that code; form by held-out pictures
OUR_VARIANTS = ("rans-shared", "rans-channel", "rans-position", "rans-context")  # coarse to fine, equal symbols


@dataclass(frozen=True)
class Finding:
    """verdict: one of the five words; sentence: the numbers it rests on; tables: rows as dicts."""

    verdict: str
    sentence: str = ""
    tables: tuple[list[dict], ...] = ()


def judged(votes: Sequence[bool]) -> str:
    return OPEN if not votes or any(votes) != all(votes) else HOLDS if votes[0] else FAILS


def judged_over_seeds(spread: Spread, agrees: Callable[[float], bool]) -> str:
    return judged([agrees(value) for value in spread.values]) if len(spread.values) >= ENOUGH_SEEDS else OPEN


def combined(verdicts: Iterable[str]) -> str:
    """Of a claim's parts: all hold, some do, none does."""
    found = set(verdicts)
    if len(found) == 1:
        return found.pop()
    return PART if {HOLDS, PART} & found else OPEN


def spread_of(deltas: Iterable[Delta], unit: float = 1.0) -> Spread:
    deltas = list(deltas)
    return Spread(tuple(delta.value / unit for delta in deltas if not delta.note),
                  tuple(delta.note for delta in deltas if delta.note))


# --- deeper split, fewer bits --------------------------------------------------------------------------------------


def deeper(measured: Measured) -> Finding:
    """Of each two neighbours, do the deeper one's bits lie lower at one point under the network, and in the mean?"""
    comparison = measured.compared
    curves = {name: curve for name, curve in by_name(comparison).items() if curve.kind == OURS_KIND}
    pairs = [(a, b) for a, b in (("S1", "S2"), ("S2", "S3")) if a in curves and b in curves]
    if not pairs:
        return Finding(ABSENT)
    rates = [{"split point": name, **{f"bpp, {drop} below": rate_text(curve, comparison.uncompressed(drop)) for drop in DROPS}}
             for name, curve in curves.items()]
    rows, verdicts, parts = [], [], []
    for deep, shallow in pairs:
        delta = bd_rate(curves[shallow], curves[deep])
        verdicts.append(judged(_votes(comparison, curves[deep], curves[shallow], delta)))
        parts.append(f"{deep} < {shallow} {verdicts[-1]} (BD-rate {delta.text('+.1f')} %)")
        rows.append({"curves": f"{deep} against {shallow}, shipped", "BD-rate (%)": delta.text("+.1f"),
                     "verdict": verdicts[-1]})
    return Finding(combined(verdicts), f"{comparison.images} pictures; {'; '.join(parts)}", (rates, rows + _deeper_over_seeds(measured)))


def _deeper_over_seeds(measured: Measured) -> list[dict]:
    """The study's own S1 and S2, where both were trained alike; shown, not judged: their epochs may differ."""
    common = set(measured.estimators.get("S1", ())) & set(measured.estimators.get("S2", ()))
    return [{"curves": f"S1 against S2, {name}", "verdict": "",
             "BD-rate (%)": spread_of(seed_deltas(measured, bd_rate, f"S2 {name}", f"S1 {name}")).text("+.1f")}
            for name in sorted(common)]


def _under(measured: Measured, drop: float) -> float:
    return measured.comparison.uncompressed(drop)


def _votes(comparison: Comparison, deep: Curve, shallow: Curve, delta: Delta) -> list[bool]:
    """Bits at the smallest drop that both curves reach, and the mean over what they share."""
    both = [(rate_at(deep, comparison.uncompressed(drop)), rate_at(shallow, comparison.uncompressed(drop))) for drop in DROPS]
    reached = [(a, b) for a, b in both if math.isfinite(a) and math.isfinite(b)]
    return [a < b for a, b in reached[:1]] + ([delta.value < 0] if not delta.note else [])


# --- without labels ------------------------------------------------------------------------------------------------


def unsupervised(measured: Measured) -> Finding:
    """Does training without labels cost at most one point of accuracy at equal bits?

    Each curve without labels stands against that of its estimator with labels: once with our loss, once with the papers' (``+mae``).
    Without a trained pair there is nothing to judge: the shipped curves, one training of each, are shown beside trained ones only.
    """
    rows, verdicts, parts = [], [], []
    shipped = by_name(measured.compared)
    for supervised, free in (("S1", "US1"), ("S2", "US2")):
        for estimator, name in _twins(measured, supervised, free):
            deltas = seed_deltas(measured, bd_accuracy, f"{supervised} {estimator}", f"{free} {name}")
            spread = spread_of(deltas, measured.unit.drop)
            verdicts.append(judged_over_seeds(spread, lambda points: points >= -CLOSE))
            parts.append(f"{free} {name} against {supervised} {spread.text('+.2f', ' points')}")
            rows.append({"curves": f"{free} {name} against {supervised} {estimator}", "BD-accuracy (points)": spread.text("+.2f"),
                         "over bpp": _interval(deltas), "verdict": verdicts[-1]})
        if supervised in shipped and free in shipped:
            delta = bd_accuracy(shipped[supervised], shipped[free])
            rows.append({"curves": f"{free} against {supervised}, shipped", "over bpp": _interval([delta]), "verdict": "",
                         "BD-accuracy (points)": delta.text("+.2f", measured.unit.drop)})
    return Finding(combined(verdicts), "; ".join(parts), (rows,)) if verdicts else Finding(ABSENT)


def _twins(measured: Measured, supervised: str, free: str) -> list[tuple[str, str]]:
    """(estimator, curve without labels) of each that was trained both ways; those that match a layer are claim 6's."""
    names = {name: plan.parts_of(name) for name in measured.estimators.get(free, ()) if "@" not in name}
    return [(rate, name) for name, (rate, *_) in names.items() if rate in measured.estimators.get(supervised, ())]


def seed_deltas(measured: Measured, compute, anchor: str, test: str, variants=(MAIN_VARIANT, MAIN_VARIANT)) -> list[Delta]:
    """A Bjøntegaard delta for each seed that both curves have."""
    pairs = [(measured.curve(anchor, seed, variants[0]), measured.curve(test, seed, variants[1]))
             for seed in measured.seeds]
    return [compute(a, b) for a, b in pairs if a and b]


def _interval(deltas: Sequence[Delta]) -> str:
    """The largest interval that a delta was taken over."""
    found = [delta for delta in deltas if not delta.note]
    return f"{min(d.low for d in found):.4g} to {max(d.high for d in found):.4g}" if found else ""


# --- rate estimators -----------------------------------------------------------------------------------------------


def estimators(measured: Measured) -> Finding:
    """Does training with the papers' estimator need fewer bits than with the heuristic, at equal accuracy?"""
    rows, verdicts, parts = [], [], []
    for split_point, names in measured.estimators.items():
        for name in names if HEURISTIC in names and len(names) > 1 else []:
            deltas = seed_deltas(measured, bd_rate, f"{split_point} {HEURISTIC}", f"{split_point} {name}")
            spread = spread_of(deltas)
            verdict = judged_over_seeds(spread, lambda percent: percent < 0) if name != HEURISTIC else ""
            rows.append({"split point": split_point, "estimator": name, "beside the papers'": DEVIATIONS.get(name, ""),
                         f"BD-rate against {HEURISTIC} (%)": spread.text("+.1f") if name != HEURISTIC else "0",
                         "bpp, 1 below": rate_spread(measured, f"{split_point} {name}").text(".4g"),
                         f"beats {HEURISTIC}": verdict})
            if name in PAPERS_OWN:
                verdicts.append(verdict)
            if name != HEURISTIC:
                parts.append(f"{split_point} {name} {spread.text('+.1f', ' %')}")
    if not rows:
        return Finding(ABSENT)
    return Finding(combined(verdicts) if verdicts else OPEN, "; ".join(parts), (rows,))


def rate_spread(measured: Measured, name: str, variant: str = MAIN_VARIANT, drop: float = 1) -> Spread:
    """Bits per pixel of a trained curve at some points under the network, a number per seed."""
    curves = [curve for seed in measured.seeds if (curve := measured.curve(name, seed, variant))]
    rates = [rate_at(curve, _under(measured, drop)) for curve in curves]
    return Spread(tuple(filter(math.isfinite, rates)),
                  tuple(rate_text(curve, _under(measured, drop)) for curve, rate in zip(curves, rates)
                        if not math.isfinite(rate)))


def prediction(measured: Measured) -> Finding:
    """Do the bits an estimator predicts lie within 5 % of those coded, in the median over its trainings?"""
    rows, good, bad = [], [], []
    for (split_point, estimator), lines in sorted(measured.logged().items()):
        ratios = [line["predicted_bpp"] / line["coded_bpp"] for line in lines if line.get("coded_bpp")]
        if not ratios:
            continue
        errors = [abs(ratio - 1) for ratio in ratios]
        rows.append({"split point": split_point, "estimator": estimator, "trainings": len(ratios),
                     "predicted / coded, median": f"{statistics.median(ratios):.3f}",
                     "worst error": f"{max(errors):.1%}",
                     "within 5 %": f"{sum(error <= GOOD_PREDICTION for error in errors)}"})
        if estimator != HEURISTIC:
            (good if statistics.median(errors) <= GOOD_PREDICTION else bad).append(f"{split_point} {estimator}")
    if not rows:
        return Finding(ABSENT)
    groups = (("within 5 %", good), ("not", bad))
    sentence = "; ".join(f"{words}: {', '.join(names)}" for words, names in groups if names)
    return Finding(HOLDS if not bad else PART if good else FAILS, sentence, (rows,))


# --- beyond the papers ---------------------------------------------------------------------------------------------


def tables(measured: Measured) -> Finding:
    """Bits saved by rANS and by finer tables while the predictions stay the same."""
    shipped = {variant: measured.shipped(variant) for variant in (PUBLISHED_VARIANT, *OUR_VARIANTS)}
    found_of = {variant: _records(comparison) for variant, comparison in shipped.items() if comparison}
    if PUBLISHED_VARIANT not in found_of or len(found_of) < 2:
        return Finding(ABSENT)
    published = found_of.pop(PUBLISHED_VARIANT)
    changed, savings = 0, {}
    split_points = sorted({key[0] for key in published})
    for variant, found in found_of.items():
        common = published.keys() & found.keys()
        changed += sum(published[key].accuracy != found[key].accuracy for key in common)
        savings[variant] = {s: [1 - found[key].bpp / published[key].bpp for key in common if key[0] == s]
                            for s in split_points}
    rows = [{"split point": s, "points": len(next(iter(savings.values()))[s]),
             **{f"{_words(variant)} (% saved)": f"{statistics.fmean(saved[s]):.1%}"
                for variant, saved in savings.items() if saved[s]}} for s in split_points]
    means = {variant: statistics.fmean(sum(saved.values(), [])) for variant, saved in savings.items()}
    best = max(means, key=means.get)
    sentence = (f"{_words(best)} saves {means[best]:.1%} of the bits of Huffman with a shared table in the mean over "
                f"all points; {changed or 'no'} point{'s' * (changed > 1)} with another score")
    return Finding(HOLDS if means[best] > 0 and not changed else FAILS, sentence, (rows,))


def _records(comparison: Comparison) -> dict[tuple[str, str], Record]:
    return {(curve.name, point.setting): point.records[0] for curve in comparison.curves for point in curve.points}


def _words(variant: str) -> str:
    coder, kind, rdo = coding_of(variant)
    chosen = f", symbols chosen ({rdo:g})" if rdo else ""
    return f"{'rANS' if coder == 'rans' else 'Huffman'}, {kind} table{'s' * (kind != 'shared')}{chosen}"


def recipe(measured: Measured) -> Finding:
    """Are our recipe's bits at most half of the published one's, at one point under the uncompressed accuracy?

    Ours is what was chosen on training pictures that were held out (docs/reproduction.md); theirs the estimator that comes out
    cheaper on these very pictures: if a choice by test pictures helps anyone, it helps them.
    """
    rows, verdicts, parts = [], [], []
    for split_point, names in measured.curves.items():
        published = [(name, PUBLISHED_VARIANT) for name in (PAPERS, HEURISTIC) if name in names]
        ours = [(name, variant) for name in OUR_TRAININGS for variant in (*OUR_VARIANTS, CHOSEN)
                if name in names and measured.trained(variant)]
        rates = {key: rate_spread(measured, f"{split_point} {key[0]}", key[1]) for key in published + ours}
        rows += [{"split point": split_point, "trained with": name, "coded with": _words(variant),
                  "bpp, 1 below": rate.text(".4g"), **_against_papers(measured, split_point, names, name, variant)}
                 for (name, variant), rate in rates.items() if published and ours]
        best = _cheapest({key: rate for key, rate in rates.items() if rate.values}, published), our_recipe(measured, split_point)
        if all(best) and rates[best[1]].values:
            ratio, bounds = _ratio(measured, split_point, *best)
            verdicts.append(judged_over_seeds(ratio, lambda share: share <= HALF))
            theirs, mine = (f"{name}, {_words(variant)}" for name, variant in best)
            bounded = f", an upper bound in {bounds} of them," if bounds else ""
            parts.append(f"{split_point}: {mine} needs {ratio.text('.2f')}{bounded} times the bits of {theirs}")
    if not rows:
        return Finding(ABSENT)
    return Finding(combined(verdicts) if verdicts else OPEN, "; ".join(parts), (rows,))


def our_recipe(measured: Measured, split_point: str) -> tuple[str, str] | None:
    """(curve, variant) of ours that counts: of the latest training, with the finest tables that were measured of it, every symbol
    the nearest. Chosen symbols are shown beside it: on held-out pictures they did not come within a point."""
    return next(((name, variant) for name in reversed(OUR_TRAININGS) for variant in reversed(OUR_VARIANTS)
                 if name in measured.curves.get(split_point, ()) and measured.trained(variant, f"{split_point} {name}")), None)


def _cheapest(rates: dict[tuple, Spread], keys: list[tuple[str, str]]) -> tuple[str, str] | None:
    return min((key for key in keys if key in rates), key=lambda key: rates[key].mean, default=None)


def _against_papers(measured: Measured, split_point: str, names: list[str], name: str, variant: str) -> dict[str, str]:
    """BD-rate of a recipe against the papers' estimator coded as published: a mean over all accuracies both reach."""
    if PAPERS not in names:
        return {}
    deltas = seed_deltas(measured, bd_rate, f"{split_point} {PAPERS}", f"{split_point} {name}", (PUBLISHED_VARIANT, variant))
    own = (name, variant) == (PAPERS, PUBLISHED_VARIANT)
    return {f"BD-rate against {PAPERS} (%)": "0" if own else spread_of(deltas).text("+.1f")}


def _ratio(measured: Measured, split_point: str, published: tuple[str, str], ours: tuple[str, str]) -> tuple[Spread, int]:
    """Bits of ours over those of the published recipe, a number for each seed in which ours reaches the accuracy, and how many of
    these are upper bounds: where the published recipe never gets there, the bits of its largest point are not enough."""
    ratios, bounds = [], 0
    for seed in measured.seeds:
        curves = [measured.curve(f"{split_point} {name}", seed, variant) for name, variant in (ours, published)]
        mine, theirs = (rate_at(curve, _under(measured, 1)) if curve else math.nan for curve in curves)
        if math.isfinite(mine) and curves[1] and math.isnan(theirs) and math.isnan(bound_at(curves[1], _under(measured, 1))):
            theirs, bounds = max(point.bpp for point in curves[1].points), bounds + 1
        ratios.append(mine / theirs)
    return Spread.known(ratios, "not reached"), bounds
