"""Tables beside the figure: points, equal accuracy, edge cost, time to answer."""

import csv

from curve_cases import record, rival, write
from spic.curves import paper, summaries
from spic.curves.comparison import read
from spic.record import Costs
from spic.report import csv_of


def test_time_to_answer_adds_edge_link_and_cloud(tmp_path):
    spent = {"front": 8.0, "encoder": 1.0, "encode": 1.0, "decode": 2.0, "back": 3.0}
    made = record(bytes_per_image=1000, bpp=0.1, seconds=spent)
    (row,) = summaries.time_to_answer(read([write(tmp_path, made)]))
    assert (row["edge ms"], row["cloud ms"], row["bytes"]) == ("10.0", "5.0", "1500")
    assert row["1 Mbit/s"] == "27.0" and row["50 kbit/s"] == "255.0"


def test_measured_latency_wins_over_averaged_seconds(tmp_path):
    made = record(costs=Costs(edge_seconds=0.004, cloud_seconds=0.006), seconds={"front": 99.0})
    (row,) = summaries.time_to_answer(read([write(tmp_path, made)]))
    assert (row["edge ms"], row["cloud ms"]) == ("4.0", "6.0")


def test_cost_table_says_what_was_not_measured(tmp_path):
    records = record(costs=Costs(edge_parameters=23_508_032, edge_macs=4_100_000_000)), rival()
    first, second = summaries.edge_cost(read([write(tmp_path, *records)]))
    assert (first["edge parameters"], first["edge MMACs"], first["edge ms"]) == ("23,508,032", "4,100", "not measured")
    assert second["edge parameters"] == "not measured"


def test_cost_table_gives_what_the_bottleneck_adds_in_percent(tmp_path):
    made = record(costs=Costs(front_parameters=2000, encoder_parameters=50, decoder_parameters=100, front_macs=10**6,
                              encoder_macs=500, decoder_macs=250, bottleneck_bytes=3, backbone_bytes=None))
    (row,) = summaries.edge_cost(read([write(tmp_path, made)]))
    assert [row[title] for title in summaries.SHARES] == ["2.50", "0.05", "5.00", "0.03", "not measured"]


def test_values_that_bypass_the_coder_are_named_and_travel(tmp_path):
    comparison = read([write(tmp_path, record(uncoded_values_per_image=1000, bytes_per_image=10.0), rival())])
    assert any("S1: up to 1,000 values per image reach the cloud uncoded" in note for note in comparison.notes)
    assert [row["bytes"] for row in summaries.time_to_answer(comparison) if row["curve"] == "S1"] == [str(15 + 4000)]


def test_equal_accuracy_table_is_sorted_and_names_curves_that_do_not_reach_it():
    comparison = paper.comparisons()["paper-classification"]
    rows = summaries.rates_at_equal_accuracy(comparison)
    assert rows[0]["curve"] == "S1" and rows[0]["times the least"] == "1.0"
    assert {row["curve"] for row in rows if row["times the least"] == ""} == {"S2", "S3", "Variational"}


def test_csv_holds_every_point_of_the_paper():
    comparisons = paper.comparisons().values()
    found = {(c.task, curve.name, p.bpp, p.accuracy) for c in comparisons for curve in c.curves for p in curve.points}
    listed = {(task, name, *marker) for task in ("classification", "segmentation")
            for name, markers in paper.numbers()[task]["curves"].items() for marker in markers}
    assert found == listed
    rows = list(csv.DictReader(csv_of(summaries.points(paper.comparisons()["paper-segmentation"])).decode().splitlines()))
    assert rows[0]["miou"] == "0.6439" and rows[0]["bpp"] == "0.0008283"
