"""What points cost their edge, and the latency of one picture."""

import time

import torch

from spic.benchmarks import find
from spic.costs import costs_of_points, latency
from spic.networks.cost import cost
from spic.networks.fold import fold_batch_norm
from spic.points import load_points


def test_costs_of_a_shipped_point_are_those_of_its_layers():
    """On a 7 x 7 map, by hand: depthwise 3 x 3, stride 2 and 1 x 1 convolutions, BatchNorm folded into their biases."""
    benchmark, point = find("classification", "scenes"), load_points()["classification", "scenes", "S1", 0]
    network = fold_batch_norm(benchmark.build_network())
    (costs,) = costs_of_points(benchmark, network, [point], [torch.zeros(1, 3, 224, 224)] * 2, "rans")
    front = network.get_submodule("fc").in_features
    assert costs.encoder_parameters == front * (9 + 1) + point.channels * (front + 1)
    assert costs.decoder_parameters == point.channels * front + front + front * (9 + 1)
    assert costs.encoder_macs == costs.decoder_macs == 4 * 4 * front * (9 + point.channels)
    whole = cost(network, (224, 224))
    head = front * benchmark.num_classes
    assert costs.front_macs == whole["macs"] - head
    assert costs.front_parameters == whole["parameters"] - head - benchmark.num_classes
    assert costs.edge_parameters == costs.front_parameters + costs.encoder_parameters
    assert costs.edge_macs == costs.front_macs + costs.encoder_macs
    assert 0 < costs.bottleneck_bytes < 0.05 * costs.backbone_bytes
    assert costs.edge_seconds > 0 and costs.cloud_seconds > 0 and costs.threads >= 1


def test_latency_is_the_median_of_single_pictures_after_a_warm_up():
    seen = []

    def edge(picture):
        seen.append(picture)
        time.sleep(0.3 * (picture == 0))
        return -picture

    edge_seconds, cloud_seconds = latency(edge, lambda sent: seen.append(sent) or time.sleep(0.002), [0, 1, 2, 3])
    assert seen == [0, 0, 1, -1, 2, -2, 3, -3] and 0 <= edge_seconds < 0.3 and cloud_seconds >= 0.002
