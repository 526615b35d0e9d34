"""Curves: what belongs into one figure, Bjøntegaard deltas against known values, tables, the figure, the command."""

import csv
import dataclasses
import json
import math
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.interpolate import PchipInterpolator
from torch import nn

from spic.benchmarks import find
from spic.curves import measure, paper, tables
from spic.curves.__main__ import main
from spic.curves.bjontegaard import bd_accuracy, bd_rate, rate_at, rising
from spic.curves.cost import latency, point_costs
from spic.curves.figure import draw, rendered
from spic.curves.results import Curve, Point, read
from spic.errors import SpicError
from spic.evaluate import Settings
from spic.networks.cost import cost
from spic.networks.fold import fold_batch_norm
from spic.points import load_points, select


def curve(name, *markers):
    return Curve(name, tuple(Point(str(i), bpp, accuracy) for i, (bpp, accuracy) in enumerate(markers)))


def record(split_point="S1", factor=0, bpp=0.1, top1=70.0, **more):
    return {"task": "classification", "benchmark": "scenes", "split_point": split_point, "compress_factor": factor,
            "coder": "huffman", "images": 1000, "top1": top1, "baseline_top1": 76.0, "bpp": bpp, "bpp_wire": bpp * 1.5,
            "bytes_per_image": bpp * 224 * 224 / 8, **more}


def rival(codec="jpeg", quality=10, **more):
    made = record(**more) | {"codec": codec, "quality": quality, "chroma": "4:2:0", "settings": "plain",
                             "versions": {codec: "x 1.0"}}
    return {key: value for key, value in made.items() if key not in ("split_point", "compress_factor", "coder")}


def write(folder, *records, name="results.json"):
    path = folder / name
    path.write_text(json.dumps(list(records)))
    return path


# --- Bjøntegaard deltas ------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("other, note", [
    (curve("far", (5.0, 10.0), (6.0, 20.0)), "no overlap"),
    (curve("lone", (0.1, 65.0)), "lone has 1 usable point"),
    (curve("none", (math.nan, 65.0), (0.1, math.nan)), "none has 0 usable point"),
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
    rows = tables.rates_at_equal_accuracy(read([write(tmp_path, *records)]))
    assert [row["curve"] for row in rows] == ["JPEG", "S1", "WebP"]
    assert rows[0]["bpp at 75.00"] == "under 0.3" and rows[2]["bpp at 75.00"] == "not reached"


# --- reading results ---------------------------------------------------------------------------------------------


def test_records_become_curves_sorted_by_rate(tmp_path):
    comparison = read([write(tmp_path, record(factor=0, bpp=0.3), record(factor=1, bpp=0.1), rival("jpeg2000"))])
    assert [c.name for c in comparison.curves] == ["S1", "JPEG 2000"]
    assert [p.setting for p in comparison.curves[0].points] == ["1", "0"]
    assert comparison.baseline == 76.0
    assert "JPEG 2000: chroma 4:2:0, plain; x 1.0" in comparison.notes


def test_wire_rate_counts_all_bytes(tmp_path):
    comparison = read([write(tmp_path, record(bpp=0.2))], "bpp_wire")
    assert comparison.curves[0].points[0].bpp == pytest.approx(0.3)


def test_coders_are_told_apart_only_where_they_differ(tmp_path):
    both = read([write(tmp_path, record(), record(coder="rans", bpp=0.09), record("S2"))])
    assert [c.name for c in both.curves] == ["S1 huffman", "S1 rans", "S2"]


def test_seeds_become_a_mean_with_deviation(tmp_path):
    records = [record(seed=seed, top1=70.0 + 2 * seed) for seed in range(3)]
    comparison = read([write(tmp_path, *records)])
    (point,) = comparison.curves[0].points
    assert (point.accuracy, point.accuracy_deviation, point.seeds) == (72.0, 2.0, 3)


def test_a_missing_codec_is_told_in_the_notes(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"reports": [rival()], "missing": {"avif": "this Pillow has none"}}))
    assert "avif is missing: this Pillow has none" in read([path]).notes


def test_points_that_cannot_be_drawn_stay_in_the_table_and_are_told(tmp_path):
    comparison = read([write(tmp_path, record(), record(factor=1, top1=math.nan), record(factor=2, bpp=0.0))])
    assert len(tables.points(comparison)) == 3
    assert len(comparison.curves[0].drawable()) == 1
    assert sum("is not drawn" in note for note in comparison.notes) == 2


@pytest.mark.parametrize("records, words", [
    ([record(), record(benchmark="imagenette")], "different data sets"),
    ([record(), record(images=100)], "different numbers of images"),
    ([record(), record(factor=1, baseline_top1=60.0)], "different networks"),
    ([record(), record(top1=71.0)], "same seed"),
    ([{"task": "dancing"}], "'task' must be one of"),
    ([{key: value for key, value in record().items() if key != "bpp"}], "it lacks bpp"),
    ([3], "not a result"),
])
def test_what_does_not_belong_into_one_figure_is_refused(tmp_path, records, words):
    with pytest.raises(SpicError, match=words):
        read([write(tmp_path, *records)])


@pytest.mark.parametrize("content", ["", "{", "[1, 2"])
def test_a_file_that_is_not_json_is_named(tmp_path, content):
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(SpicError, match="broken.json: not JSON"):
        read([tmp_path / "broken.json"])


def test_a_folder_is_searched_and_foreign_json_in_it_passed_over(tmp_path):
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", record())
    (tmp_path / "state.json").write_text('{"epoch": 3}')
    (tmp_path / "list.json").write_text("[1]")
    assert len(read([tmp_path]).curves) == 1


def test_a_folder_without_results_is_told(tmp_path):
    with pytest.raises(SpicError, match="no results found"):
        read([tmp_path])


# --- tables ------------------------------------------------------------------------------------------------------


def test_time_to_answer_adds_edge_link_and_cloud(tmp_path):
    spent = {"front": 8.0, "encoder": 1.0, "encode": 1.0, "decode": 2.0, "back": 3.0}
    made = record(bytes_per_image=1000, bpp=0.1, seconds=spent)
    (row,) = tables.time_to_answer(read([write(tmp_path, made)]))
    assert (row["edge ms"], row["cloud ms"], row["bytes"]) == ("10.0", "5.0", "1500")
    assert row["1 Mbit/s"] == "27.0" and row["50 kbit/s"] == "255.0"


def test_measured_latency_wins_over_averaged_seconds(tmp_path):
    made = record(edge_seconds=0.004, cloud_seconds=0.006, seconds={"front": 99.0})
    (row,) = tables.time_to_answer(read([write(tmp_path, made)]))
    assert (row["edge ms"], row["cloud ms"]) == ("4.0", "6.0")


def test_cost_table_says_what_was_not_measured(tmp_path):
    records = record(edge_parameters=23_508_032, edge_macs=4.1e9), rival()
    first, second = tables.edge_cost(read([write(tmp_path, *records)]))
    assert (first["edge parameters"], first["edge MMACs"], first["edge ms"]) == ("23,508,032", "4,100", "not measured")
    assert second["edge parameters"] == "not measured"


def test_cost_table_tells_what_the_bottleneck_adds_in_percent(tmp_path):
    made = record(front_parameters=2000, encoder_parameters=50, decoder_parameters=100, front_macs=1e6, encoder_macs=500,
                  decoder_macs=250, bottleneck_bytes=3, backbone_bytes=None)
    (row,) = tables.edge_cost(read([write(tmp_path, made)]))
    assert [row[title] for title in tables.SHARES] == ["2.50", "0.05", "5.00", "0.03", "not measured"]


class Blank:
    """Two grey pictures."""

    image_size = (224, 224)

    def __len__(self):
        return 2

    def pixels(self, index):
        return np.full((224, 224, 3), 128, np.uint8)


def test_costs_of_a_shipped_point_are_those_of_its_layers():
    """On a 7 x 7 map, by hand: depthwise 3 x 3, stride 2 and 1 x 1 convolutions, BatchNorm folded into their biases."""
    benchmark, point = find("classification", "scenes"), load_points()["classification", "scenes", "S1", 0]
    network = fold_batch_norm(benchmark.build_network())
    (row,) = point_costs(benchmark, network, Blank(), [point], Settings("rans"))
    front = network.get_submodule("fc").in_features
    assert row["encoder_parameters"] == front * (9 + 1) + point.channels * (front + 1)
    assert row["decoder_parameters"] == point.channels * front + front + front * (9 + 1)
    assert row["encoder_macs"] == row["decoder_macs"] == 4 * 4 * front * (9 + point.channels)
    whole = cost(network, (224, 224))
    head = front * benchmark.num_classes
    assert row["front_macs"] == whole["macs"] - head
    assert row["front_parameters"] == whole["parameters"] - head - benchmark.num_classes
    for key in ("parameters", "macs"):
        assert row[f"edge_{key}"] == row[f"front_{key}"] + row[f"encoder_{key}"]
    assert 0 < row["bottleneck_bytes"] < 0.05 * row["backbone_bytes"]


def test_costs_measured_apart_join_their_points(tmp_path):
    row = {key: record(factor=1)[key] for key in ("task", "benchmark", "split_point", "compress_factor")}
    (tmp_path / "costs.json").write_text(json.dumps({"costs": [{**row, "edge_parameters": 9, "edge_seconds": 0.5}]}))
    write(tmp_path, record(), record(factor=1, bpp=0.2))
    told = {r["setting"]: (r["edge parameters"], r["edge ms"]) for r in tables.edge_cost(read([tmp_path]))}
    assert told == {"0": ("not measured", "not measured"), "1": ("9", "500.0")}


def test_cost_counts_parameters_and_multiply_accumulates():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 10))
    assert cost(network, (4, 4)) == {"parameters": 8 * 27 + 8 + 1280 + 10, "macs": 8 * 27 * 16 + 1280}


def test_latency_is_the_median_of_single_images_after_a_warm_up():
    class Sent:
        frames, uncoded = [b""], ()

    class Cloud:
        def receive(self, frames, uncoded):
            time.sleep(0.002)

    seen = []
    spent = latency(lambda image: seen.append(image) or time.sleep(0.3 * (image == 0)) or Sent, Cloud(), [0, 1, 2, 3])
    assert seen == [0, 1, 2, 3] and 0 <= spent["edge_seconds"] < 0.3 and spent["cloud_seconds"] >= 0.002


def test_equal_accuracy_table_is_sorted_and_names_curves_that_do_not_reach_it():
    comparison = paper.comparisons()["paper-classification"]
    rows = tables.rates_at_equal_accuracy(comparison)
    assert rows[0]["curve"] == "S1" and rows[0]["times the least"] == "1.0"
    assert {row["curve"] for row in rows if row["times the least"] == ""} == {"S2", "S3", "Variational"}


def test_csv_holds_every_point_of_the_paper():
    comparisons = paper.comparisons().values()
    found = {(c.task, curve.name, p.bpp, p.accuracy) for c in comparisons for curve in c.curves for p in curve.points}
    told = {(task, name, *marker) for task in ("classification", "segmentation")
            for name, markers in paper.numbers()[task]["curves"].items() for marker in markers}
    assert found == told
    rows = list(csv.DictReader(tables.as_csv(tables.points(paper.comparisons()["paper-segmentation"])).splitlines()))
    assert rows[0]["miou"] == "0.6439" and rows[0]["bpp"] == "0.0008283"


# --- figure ------------------------------------------------------------------------------------------------------


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


# --- the command -------------------------------------------------------------------------------------------------


def test_figure_command_writes_all_five_files(tmp_path, capsys):
    source = write(tmp_path, *(record(factor=i, bpp=0.1 * 2**i, top1=70.0 + i) for i in range(3)),
                   *(rival(quality=q, bpp=0.5 * q, top1=60.0 + q) for q in (1, 5, 13)))
    assert main(["figure", str(source), "--output", str(tmp_path / "out" / "scenes")]) == 0
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == ["scenes.bd.csv", "scenes.csv", "scenes.png", "scenes.svg", "scenes.txt"]
    caption = (tmp_path / "out" / "scenes.txt").read_text()
    assert "JPEG: chroma 4:2:0" in caption and "BD-rate (%)" in caption


def test_a_figure_whose_costs_are_known_comes_with_their_tables(tmp_path):
    source = write(tmp_path, record(edge_seconds=0.02, cloud_seconds=0.01), record(factor=1, bpp=0.2, top1=72.0))
    assert main(["figure", str(source), "--output", str(tmp_path / "out" / "scenes")]) == 0
    cost, links = ((tmp_path / "out" / f"scenes.{kind}.csv").read_text().splitlines() for kind in ("cost", "links"))
    assert len(cost) == len(links) == 3 and "edge MMACs" in cost[0] and "100 Mbit/s" in links[0]
    assert any(",20.0,10.0," in line for line in links)


def test_paper_command_draws_four_figures(tmp_path):
    assert main(["paper", "--output", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.svg"))) == 4


def test_run_command_measures_points_and_rivals_then_draws(tmp_path, monkeypatch, capsys):
    commands = []

    def fake(results):
        def main(*argv):
            commands.append(argv)
            output = Path(argv[-1][argv[-1].index("--output") + 1])
            output.parent.mkdir(parents=True, exist_ok=True)
            write(output.parent, *results, name=f"{output.stem}.json")
            return 0
        return main

    def points(task, argv):
        folder = Path(argv[argv.index("--output") + 1])
        folder.mkdir(parents=True)
        for factor in (*range(6), 99):
            write(folder, record(factor=factor, bpp=0.1 + factor, top1=70.0 + factor / 10), name=f"S1_{factor}.json")
        commands.append((task, argv))
        return 0

    monkeypatch.setattr(measure.val, "main", points)
    monkeypatch.setattr(measure.baselines, "main", fake([rival()]))
    monkeypatch.setattr(measure.learned, "main", fake([rival(codec="Variational")]))
    costs = [{"task": "classification", "benchmark": "scenes", "split_point": "S1", "compress_factor": 0, "edge_macs": 5e6}]
    monkeypatch.setattr(measure, "point_costs", lambda *arguments: costs)
    argv = ["run", "--task", "classification", "--limit", "1000", "--split_point", "S1", "--runs", str(tmp_path / "r")]
    assert main([*argv, "--output", str(tmp_path / "f")]) == 0
    told = (tmp_path / "f.csv").read_text()
    assert (tmp_path / "f.png").exists() and "S1" in told and "JPEG" in told and "Variational" in told
    assert told.count("\n") == 1 + 6 + 2, "a point that dict.yaml no longer lists is left out"
    assert commands[0][0] == "classification" and all("--limit" in command[-1] for command in commands)


def test_costs_are_measured_again_when_the_points_are_others(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(measure, "point_costs", lambda benchmark, network, dataset, points, settings: measured.append(
        [{"split_point": p.split_point, "compress_factor": p.compress_factor} for p in points]) or measured[-1])
    benchmark, args = find("classification", "scenes"), Namespace(gpu=False, valdir=None, limit=2, backbone_weights=None, coder="rans")
    points = select(load_points(), "classification", "scenes", ["S1"], ["all"])
    for chosen in (points, points, points[:2]):
        measure._measure_costs(benchmark, chosen, args, tmp_path / "costs.json")
    assert [len(rows) for rows in measured] == [6, 2]


def test_values_that_bypass_the_coder_are_told_and_travel(tmp_path):
    comparison = read([write(tmp_path, record(uncoded_values_per_image=1000, bytes_per_image=10.0), rival())])
    assert any("S1: up to 1,000 values per image reach the cloud uncoded" in note for note in comparison.notes)
    assert [row["bytes"] for row in tables.time_to_answer(comparison) if row["curve"] == "S1"] == [str(15 + 4000)]


def test_run_command_ends_with_the_code_of_a_failing_step(tmp_path, monkeypatch):
    monkeypatch.setattr(measure.val, "main", lambda *argv: 2)
    with pytest.raises(SystemExit) as ended:
        main(["run", "--task", "segmentation", "--runs", str(tmp_path), "--output", str(tmp_path / "f")])
    assert ended.value.code == 2


@pytest.mark.parametrize("options, told", [(["--codecs", "jpeg", "gif"], "unknown codec 'gif'"),
                                           (["--features", "S1", "S9"], "S9")])
def test_run_command_refuses_unknown_names_before_it_measures(tmp_path, monkeypatch, capsys, options, told):
    monkeypatch.setattr(measure.val, "main", lambda *argv: pytest.fail("measured first"))
    argv = ["run", "--task", "classification", "--runs", str(tmp_path / "r"), "--output", str(tmp_path / "f")]
    assert main([*argv, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize("verb", ["bd", "links", "cost"])
def test_table_commands_print_and_write(tmp_path, capsys, verb):
    source = write(tmp_path, record(), record(factor=1, bpp=0.2, top1=72.0), rival())
    assert main([verb, str(source), "--output", str(tmp_path / "table.csv")]) == 0
    assert "JPEG" in capsys.readouterr().out
    assert len((tmp_path / "table.csv").read_text().splitlines()) > 1


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    source = write(tmp_path, record())
    for argv in (["bd", str(tmp_path / "absent.json")], ["bd", str(source), "--anchor", "HEVC"]):
        assert main(argv) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
