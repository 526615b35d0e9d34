"""The figure: what is drawn, and how."""

import dataclasses
import math

import numpy as np
import pytest

from curve_cases import curve, record, rival, write
from spic.curves import paper
from spic.curves.figure import draw, rendered
from spic.curves.results import read
from spic.errors import SpicError


def drawn(comparison):
    (axes,) = draw(comparison).axes
    return axes, {text.get_text(): text for text in axes.figure.legends[0].get_texts()}


def test_figure_has_a_log_axis_a_dashed_baseline_and_every_curve():
    comparison = paper.comparisons()["paper-segmentation"]
    axes, legend = drawn(comparison)
    assert axes.get_xscale() == "log"
    assert set(legend) == {curve.name for curve in comparison.curves}
    assert any(np.allclose(line.get_ydata(), 0.664) and line.get_linestyle() == "--" for line in axes.lines)


def test_no_two_curves_of_a_full_figure_look_alike():
    names = ["S1", "S2", "S3", "US1", "US2", "JPEG", "WebP", "JPEG 2000", "AVIF", "HEVC", "AV1", "Variational",
             "Entropic Student", "S3 zlib", "S3 zstd", "S3 jpeg-tiles", "S3 webp-tiles"]
    comparison = dataclasses.replace(paper.comparisons()["paper-classification"], curves=tuple(
        curve(name, (0.1 + i, 60.0), (0.2 + i, 70.0)) for i, name in enumerate(names)))
    axes, _ = drawn(comparison)
    looks = {(c[0].get_marker(), c[0].get_markerfacecolor()) for c in axes.containers}
    assert len(looks) == len(names)


def test_error_bars_appear_where_there_are_seeds(tmp_path):
    records = [record(seed=seed, top1=70.0 + seed, bpp=0.1 + seed / 100) for seed in range(3)]
    axes, _ = drawn(read([write(tmp_path, *records)]))
    assert axes.containers[0].has_xerr and axes.containers[0].has_yerr


def test_a_collapsing_rival_does_not_squeeze_the_figure(tmp_path):
    axes, _ = drawn(read([write(tmp_path, record(), rival(top1=1.0), rival(quality=20, top1=70.0, bpp=1.0))]))
    assert axes.get_ylim()[0] == pytest.approx(0.6 * 76.0)


def test_curves_of_one_point_are_drawn_and_nothing_at_all_is_refused(tmp_path):
    draw(read([write(tmp_path, record())]))
    with pytest.raises(SpicError, match="nothing to draw"):
        draw(read([write(tmp_path, record(top1=math.nan))]))


def test_the_same_figure_gives_the_same_bytes():
    comparison = paper.comparisons()["paper-classification-unsupervised"]
    first, second = rendered(draw(comparison)), rendered(draw(comparison))
    assert first["svg"] == second["svg"] and first["png"] == second["png"]
    assert first["png"].startswith(b"\x89PNG") and b"<svg" in first["svg"]
