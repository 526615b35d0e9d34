"""Bjøntegaard deltas against known values and a second implementation; rates at an accuracy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.interpolate import PchipInterpolator

from curve_cases import curve, record, rival, write
from spic.curves import paper, summaries
from spic.curves.bjontegaard import bd_accuracy, bd_rate, rate_at, risen, rising
from spic.curves.comparison import read

# the example that most published implementations carry; PSNR in place of accuracy
ANCHOR = ((85.95, 31.42), (157.11, 34.24), (309.58, 37.18), (686.76, 40.28))
TEST = ((112.75, 31.24), (204.93, 34.17), (407.8, 37.21), (893.34, 40.39))


def mean_gap(fit, first, second):
    """Mean of second minus first over the arguments they share, by the trapezoid rule on a fine grid."""
    low, high = max(first[0][0], second[0][0]), min(first[0][-1], second[0][-1])
    grid = np.linspace(low, high, 200_001)
    return trapezoid(fit(*second)(grid) - fit(*first)(grid), grid) / (high - low)


def percent(mean_log_ratio):
    return 100 * (10**mean_log_ratio - 1)


def swapped(markers):
    rates, accuracies = np.array(markers).T
    return accuracies, np.log10(rates)


def test_deltas_of_the_circulated_example_agree_with_the_original_polynomial_method():
    def cubic(x, y):
        return np.poly1d(np.polyfit(x, y, 3))

    anchor, test = curve("a", *ANCHOR), curve("b", *TEST)
    original = percent(mean_gap(cubic, swapped(ANCHOR), swapped(TEST)))
    assert bd_rate(anchor, test).value == pytest.approx(original, abs=0.03)
    assert bd_rate(anchor, test).value == pytest.approx(31.38, abs=0.005)
    first, second = swapped(ANCHOR)[::-1], swapped(TEST)[::-1]
    assert bd_accuracy(anchor, test).value == pytest.approx(mean_gap(cubic, first, second), abs=0.003)


def test_bd_rate_agrees_with_a_second_implementation_on_the_papers_curves():
    comparison = paper.comparisons()["paper-classification"]
    for anchor in comparison.curves:
        for test in comparison.curves:
            delta = bd_rate(anchor, test)
            if anchor is not test and not delta.note:
                risen = [swapped(np.stack(rising(c), 1)) for c in (anchor, test)]
                expected = percent(mean_gap(PchipInterpolator, *risen))
                assert delta.value == pytest.approx(expected, abs=1e-3, rel=1e-5)


def test_constant_factor_in_rate_is_the_bd_rate():
    anchor = curve("a", (0.1, 60.0), (0.2, 66.0), (0.5, 70.0), (1.0, 71.0))
    half = curve("b", *((p.bpp / 2, p.accuracy) for p in anchor.points))
    assert bd_rate(anchor, half).value == pytest.approx(-50.0)
    assert bd_rate(half, anchor).value == pytest.approx(100.0)


def test_constant_offset_in_accuracy_is_the_bd_accuracy():
    anchor = curve("a", (0.1, 60.0), (0.2, 66.0), (0.5, 70.0))
    better = curve("b", *((p.bpp, p.accuracy + 2) for p in anchor.points))
    delta = bd_accuracy(anchor, better)
    assert delta.value == pytest.approx(2.0)
    assert (delta.low, delta.high) == (pytest.approx(0.1), pytest.approx(0.5))


@given(st.lists(st.tuples(st.floats(1e-4, 10), st.floats(0, 100)), max_size=12))
def test_rising_keeps_exactly_the_points_that_no_other_beats(markers):
    rates, accuracies = rising(curve("c", *markers))
    assert np.all(np.diff(rates) > 0) and np.all(np.diff(accuracies) > 0)
    for bpp, accuracy in markers:
        assert any(r <= bpp and a >= accuracy for r, a in zip(rates, accuracies))


@given(st.lists(st.tuples(st.floats(1e-4, 10), st.floats(0, 100)), min_size=1, max_size=12))
def test_pooling_keeps_every_point_s_weight_and_the_order(markers):
    """Pool-adjacent-violators: rises, and where nothing violates the order nothing changes."""
    rates, accuracies = risen(*zip(*markers), pool=True)
    assert np.all(np.diff(rates) > 0) and np.all(np.diff(accuracies) > 0)
    assert min(rate for rate, _ in markers) <= rates[0] * (1 + 1e-9) and rates[-1] <= max(markers)[0] * (1 + 1e-9)
    again = risen(rates, accuracies, pool=True)
    assert np.array_equal(again[0], rates) and np.array_equal(again[1], accuracies)


def test_a_small_overlap_makes_no_delta():
    low, high = curve("a", (0.1, 60.0), (0.2, 70.0)), curve("b", (0.3, 66.0), (0.5, 76.0))
    for compute in (bd_rate, lambda a, b: bd_rate(b, a)):
        assert compute(low, high).note == "overlap of 40%, less than 50%"
    assert not bd_rate(low, curve("c", (0.3, 65.0), (0.5, 76.0))).note


@pytest.mark.parametrize("other, note", [
    (curve("far", (5.0, 10.0), (6.0, 20.0)), "no overlap"),
    (curve("lone", (0.1, 65.0)), "lone has 1 usable point"),
    (curve("none", (math.nan, 65.0), (0.1, math.nan)), "none has 0 usable points"),
])
def test_where_no_delta_exists_the_reason_stands_in_its_place(other, note):
    anchor = curve("a", (0.1, 60.0), (0.2, 66.0), (0.5, 70.0))
    for delta in (bd_rate(anchor, other), bd_rate(other, anchor), bd_accuracy(anchor, other)):
        assert math.isnan(delta.value) and delta.note == note


def test_rate_at_an_accuracy_is_linear_in_log_rate_and_nan_outside():
    anchor = curve("a", (0.01, 60.0), (1.0, 70.0))
    assert rate_at(anchor, 65.0) == pytest.approx(0.1)
    assert math.isnan(rate_at(anchor, 71.0)) and math.isnan(rate_at(anchor, 59.0))


def test_the_table_of_equal_accuracy_puts_a_curve_above_it_by_its_cheapest_point(tmp_path):
    records = [record(), record(factor=1, bpp=2.0, top1=75.9), record(factor=2, bpp=0.1, top1=70.0),
               rival(bpp=0.3, top1=75.5), rival("webp", bpp=0.3, top1=60.0)]
    rows = summaries.rates_at_equal_accuracy(read([write(tmp_path, *records)]))
    assert [row["curve"] for row in rows] == ["JPEG", "S1", "WebP"]
    assert rows[0]["bpp at 75.00"] == "under 0.3" and rows[2]["bpp at 75.00"] == "not reached"
