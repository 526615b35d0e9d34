"""Which points of a curve the bottleneck of another one replaces: known answers on made-up records."""

import math
from dataclasses import replace

import pytest

from spic.errors import SpicError
from spic.points import OperatingPoint
from spic.record import Record


@pytest.fixture
def requantised(bench):
    return bench("requantised")


def record(bpp, top1):
    return Record("classification", "mine", 100, {"top1": top1}, {"top1": 92.0}, bpp, bpp, 100 * bpp)


CURVE = [record(0.01, 80.0), record(0.1, 90.0)]


@pytest.mark.parametrize("bpp, top1, expected", [
    (0.01, 80, 0), (0.1, 91, -1), (math.sqrt(0.001), 84, 1), (1.0, 89, 1), (0.009, 70, math.nan)])
def test_the_gap_is_read_off_the_curve_at_the_points_bytes(requantised, bpp, top1, expected):
    assert requantised.gap(record(bpp, top1), CURVE) == pytest.approx(expected, nan_ok=True)


def test_points_that_code_nothing_say_nothing(requantised):
    nothing = [record(0.0, 95.0), record(0.0, 10.0)]
    assert requantised.gap(record(0.1, 91.0), nothing + CURVE) == pytest.approx(-1)
    assert math.isnan(requantised.gap(record(0.1, 91.0), nothing))


def point(tmp_path, factor, weights, step=0.5):
    return OperatingPoint("classification", "mine", "S1", factor, step, 2, 6, tmp_path / weights, tmp_path / "t.json", tmp_path)


def test_bottlenecks_are_known_by_their_weights(tmp_path, requantised):
    points = [point(tmp_path, factor, f"w{factor}") for factor in range(2)]
    made = [replace(point(tmp_path / "more", 9, name, step), root=tmp_path / "more") for name in ("w1", "w0") for step in (1, 2)]
    curves = requantised.by_bottleneck(points, made, [record(0.1 * i, 90) for i in range(1, 5)])
    assert list(curves) == points and [round(r.bpp, 3) for r in curves[points[0]]] == [0.3, 0.4]
    with pytest.raises(SpicError, match="the bottleneck of none"):
        requantised.by_bottleneck(points[:1], made, CURVE * 2)


def test_as_few_bottlenecks_as_replace_all_that_can_be(tmp_path, capsys, requantised):
    points = [point(tmp_path, factor, f"w{factor}") for factor in range(3)]
    for each in points:
        each.weights.write_bytes(bytes(1000))
    stands_for = requantised.replaced({points[0]: [0.0, -0.4, -2], points[1]: [-3, 0.1, math.nan], points[2]: [-9, -9, 0.2]}, 0.5)
    assert stands_for == {points[0]: {0, 1}, points[1]: {1}, points[2]: {2}}
    assert requantised.fewest(stands_for, 3) == [points[0], points[2]]
    shipped = [record(0.1, 90), record(0.05, 89), record(0.02, 80)]
    made = [point(tmp_path, factor, "w0", step) for factor, step in enumerate((0.5, 1))]
    requantised.tell(points, shipped, made, {points[0]: [record(0.1, 90), record(0.04, 88.9)]}, 0.5)
    out = capsys.readouterr().out
    assert "S1/0 replaces 2 of 3: S1/0, S1/1" in out and "kept: S1/0, S1/2; weights 2.0 of 3.0 kB" in out
