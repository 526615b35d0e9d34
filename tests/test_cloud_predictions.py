"""Over a real socket the cloud answers what val.py counts."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from cloud_cases import running, served, some_stream
from spic.benchmarks import find
from spic.coding.stream import write_stream
from spic.datasets import scenes
from spic.evaluate import Settings, lay_roads
from spic.networks import trace
from spic.points import load_points

PICTURES = {"classification": 12, "segmentation": 1}
SPLITS = {"classification": ("S1", "S3"), "segmentation": ("S3",)}
NAMES = [(task, split, 1) for task, splits in SPLITS.items() for split in splits]


@pytest.fixture(scope="module")
def client():
    with running(served(*NAMES)) as client:
        yield client


@cache
def roads(task):
    """(road as val.py lays it, features of a few pictures at its beginning) of each point."""
    benchmark = find(task, "scenes")
    points = [load_points()[task, "scenes", split, 1] for split in SPLITS[task]]
    draw = getattr(scenes, f"draw_{task}")
    images = torch.stack(
        [benchmark.preparation(Image.fromarray(draw(0, "val", number)[0])) for number in range(PICTURES[task])]
    )
    feature = images.contiguous(memory_format=torch.channels_last)
    size = benchmark.preparation.image_size
    traced = trace(benchmark.build_network(), torch.zeros(1, 3, *size)).to(memory_format=torch.channels_last)
    laid = []
    for stretch in lay_roads(benchmark, traced, points, size, Settings("rans")):
        feature = stretch.front(feature)
        laid += [(road, feature) for road in stretch.roads]
    return laid


def as_classes(answer):
    """The most certain class, or the map of classes."""
    if "top" in answer:
        return np.array(answer["top"][0]["class"])
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["map"]))))


@pytest.mark.parametrize("task", PICTURES)
@torch.inference_mode()
def test_answers_are_the_predictions_of_val(client, task):
    for road, feature in roads(task):
        sent = road.edge.send(feature)
        expected = road.cloud.receive(sent.frames).logits.argmax(1).numpy()
        for coder in ("rans", "huffman"):
            one = client.service.find(road.point.name, coder)
            status, told = client.predict(write_stream(one.header, one.cloud.coder.encode(sent.symbols.numpy())))
            assert status == 200 and told["point"] == road.point.name, told
            agree = np.mean(
                [np.mean(as_classes(answer) == row) for answer, row in zip(told["answers"], expected, strict=True)]
            )
            assert agree > 0.9999 if task == "segmentation" else agree == 1, "rounding may turn one pixel of ten thousand"


@torch.inference_mode()
def test_pictures_of_several_edges_are_computed_together_and_answered_apart(client):
    road, feature = roads("classification")[0]
    sent = road.edge.send(feature)
    expected = road.cloud.receive(sent.frames).logits.argmax(1).tolist()
    streams = []
    for row in feature:
        road.edge.restart()
        (frame,) = road.edge.send(row[None]).frames
        streams.append(b"".join([road.edge.header, frame, road.edge.close()]))
    before = client.metric("spic_batch_pictures_count")
    with ThreadPoolExecutor(len(streams)) as pool:
        told = list(pool.map(client.predict, streams))
    assert [answer["answers"][0]["top"][0]["class"] for _, answer in told] == expected
    assert client.metric("spic_batch_pictures_count") - before < len(streams)


def test_answers_name_five_classes_with_their_scores(client):
    one = client.service.find("classification/scenes/S1/1", "rans")
    _, told = client.predict(some_stream(one))
    (answer,) = told["answers"]
    scores = [entry["score"] for entry in answer["top"]]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True) and 0 < sum(scores) <= 1
    assert all(one.names[entry["class"]] == entry["name"] for entry in answer["top"])
    assert {"read", "queue", "decode", "decoder", "back", "reply", "total"} <= set(told["milliseconds"])
    json.dumps(told, allow_nan=False)
