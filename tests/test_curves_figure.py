"""The figure: what is drawn, and how."""

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.lines import CARETDOWNBASE

from curve_cases import curve, record, rival, write
from spic.curves import paper, summaries
from spic.curves.comparison import OURS, RIVAL, read
from spic.curves.figure import STYLES, draw, gaps, rate_ticks, rendered
from spic.curves.redraw import read_csv
from spic.errors import SpicError
from spic.points import ROOT
from spic.report import csv_of


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


# --- axes, gaps, exits, colours -----------------------------------------------------------------------------------------------


@given(st.floats(-6, 2), st.floats(0.01, 6))
@settings(deadline=None)
def test_any_axis_has_at_least_two_numbers(low, decades):
    ticks = rate_ticks(10**low, 10 ** (low + decades))
    assert len(ticks) >= 2 and len({f"{tick:g}" for tick in ticks}) == len(ticks) <= 13
    assert all(10**low <= tick <= 10 ** (low + decades) for tick in ticks)


def test_a_curve_of_less_than_a_decade_has_numbers_on_its_axis():
    comparison = dataclasses.replace(paper.comparisons()["paper-classification"], curves=(
        curve("S1", (0.0022, 60.0), (0.0031, 70.0)),))
    axes, _ = drawn(comparison)
    axes.figure.canvas.draw()
    assert len([label for label in axes.get_xticklabels() if label.get_text()]) >= 2


def test_error_bars_wear_the_colour_of_their_curve_behind_the_markers_and_are_explained(tmp_path):
    records = [record(seed=seed, top1=70.0 + seed, bpp=0.1 + seed / 100) for seed in range(3)]
    axes, _ = drawn(read([write(tmp_path, *records)]))
    line, caps, bars = axes.containers[0]
    assert all(np.allclose(bar.get_color()[0][:3], to_rgb(line.get_color())) for bar in bars)
    assert all(part.get_zorder() <= line.get_zorder() for part in (*caps, *bars))
    assert "standard deviation over 3 seeds" in axes.get_xlabel()


def test_a_stretch_without_points_is_faint_and_explained():
    whole, broken = curve("S1", (0.1, 60.0), (0.3, 70.0)), curve("US1", (0.1, 60.0), (0.9, 70.0), (1.0, 71.0))
    assert gaps(whole) == [] and [[p.bpp for p in pair] for pair in gaps(broken)] == [[0.1, 0.9]]
    axes, _ = drawn(dataclasses.replace(paper.comparisons()["paper-classification"], curves=(whole, broken)))
    solid = axes.containers[1][0].get_xdata()
    assert np.isnan(solid[1]) and len(solid) == 4
    assert any(list(line.get_xdata()) == [0.1, 0.9] and line.get_alpha() < 1 for line in axes.lines)
    assert "no point within a factor of 4" in axes.get_xlabel()


def test_every_known_curve_has_a_colour_of_its_own_but_for_its_twin_without_labels():
    once = [name for name in STYLES if not name.startswith("US") and name != "Class map"]  # a map's twin is the label
    colours = [STYLES[name].colour for name in once]
    assert len(set(colours)) == len(colours)


def test_a_curve_that_leaves_the_figure_below_is_marked_where_it_does():
    comparison = dataclasses.replace(paper.comparisons()["paper-classification"], baseline=80.0, curves=(
        curve("JPEG", (0.1, 30.0), (1.0, 66.0), (2.0, 70.0)), curve("S1", (0.1, 70.0), (0.2, 75.0))))
    axes, _ = drawn(comparison)
    (arrow,) = [line for line in axes.lines if line.get_marker() == CARETDOWNBASE]
    assert arrow.get_xdata()[0] == pytest.approx(10**-0.5) and arrow.get_color() == STYLES["JPEG"].colour
    assert "30.00 %" in [text.get_text() for text in axes.texts] and "arrow: goes on below" in axes.get_xlabel()


@pytest.mark.parametrize("kind, bottom", [(OURS, 0.97 * 20), (RIVAL, 0.6 * 80)])
def test_a_curve_of_ours_that_lies_below_altogether_is_shown(kind, bottom):
    low = dataclasses.replace(curve("S2", (0.1, 20.0), (1.0, 30.0)), kind=kind)
    comparison = dataclasses.replace(paper.comparisons()["paper-classification"], baseline=80.0, curves=(low, curve("S1", (0.1, 70.0), (0.2, 75.0))))
    axes, _ = drawn(comparison)
    assert axes.get_ylim()[0] == pytest.approx(bottom)


def test_a_figure_of_bad_curves_alone_shows_them():
    comparison = dataclasses.replace(paper.comparisons()["paper-classification"], curves=(
        curve("S1", (0.1, 10.0), (0.2, 12.0)),))
    axes, _ = drawn(comparison)
    assert axes.get_ylim()[0] < 10.0


def test_the_shipped_figures_are_those_that_the_present_style_draws():
    for name, comparison in paper.comparisons().items():
        assert labels(ROOT / "Figures" / f"{name}.svg") == labels_of(rendered(draw(comparison))["svg"].decode())


def labels(path):
    return labels_of(path.read_text())


def labels_of(svg):
    """Colours and words of a figure; places depend on the fonts at hand."""
    return sorted(set(re.findall(r"stroke: (#[0-9a-f]{6})", svg))), sorted(re.findall(r">([^<>\n]+)</text>", svg))


# --- drawing again ---------------------------------------------------------------------------------------------------


def test_a_figure_is_drawn_again_from_its_own_csv(tmp_path):
    records = [record(factor=f, seed=seed, top1=70.0 + seed + f, bpp=0.1 + seed / 100 + f) for seed in range(3)
               for f in range(2)]
    comparison = read([write(tmp_path, *records, rival())], "bpp_wire")
    (tmp_path / "x.csv").write_bytes(csv_of(summaries.points(comparison)))
    assert rendered(draw(read_csv(tmp_path / "x.csv")))["svg"] == rendered(draw(comparison))["svg"]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "task,bpp\nclassification,x\n", '"', "task\nnothing\n",
                                  "task,baseline_top1,bpp_deviation\nclassification\n", "\x00,\n"])
def test_a_file_that_is_no_figures_csv_is_named(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(SpicError, match="x.csv: not the CSV of a figure"):
        read_csv(tmp_path / "x.csv")
