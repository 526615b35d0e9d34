"""Tables beside the figure: points, equal accuracy, edge cost, time to answer."""

import csv
import json
import time

import numpy as np
from torch import nn

from curve_cases import curve, record, rival, write
from spic.benchmarks import find
from spic.curves import paper, tables
from spic.curves.cost import latency, point_costs
from spic.curves.results import read
from spic.evaluate import Settings
from spic.networks.cost import cost
from spic.networks.fold import fold_batch_norm
from spic.points import load_points


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
