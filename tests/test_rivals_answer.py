"""Sending the answer: exact, at its bits, and never better than the network itself."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rivals_evaluate import Brightness, Pictures

from spic.datasets.images import Preparation
from spic.errors import SpicError, StreamError
from spic.record import Record
from spic.rivals import answer, command
from spic.rivals.answer import COUNTS, FIXED, ClassMapCodec, LabelCodec, measure_answers, read_map, shortest

IMAGE = np.zeros((8, 8, 3), np.uint8)


def label_codec(label, seen, code=FIXED):
    return LabelCodec(lambda image: np.array(label), np.array(seen), code)


def test_a_label_costs_log2_of_the_classes_or_its_own_code():
    seen = np.diag([7, 3, 0, 0])  # answered 7, 3, 0 and 0 times; one more each, so that no label is impossible
    fixed, counted = (label_codec(2, seen, code) for code in (FIXED, COUNTS))
    data = fixed.encode(IMAGE, FIXED)
    assert data == b"\x02" and 8 * fixed.parts(data).payload == 2 and sum(fixed.parts(data)) == 1
    assert 8 * counted.parts(data).payload == pytest.approx(math.log2(14))
    assert sum(2 ** -counted.bits(label) for label in range(4)) == pytest.approx(1)


@pytest.mark.parametrize("classes, size", [(2, 1), (10, 1), (256, 1), (1000, 2)])
def test_labels_take_the_bytes_they_need(classes, size):
    codec = label_codec(classes - 1, np.zeros((classes, classes), int))
    data = codec.encode(IMAGE, FIXED)
    assert len(data) == size and codec.decode(data).argmax() == classes - 1
    assert codec.parts(data).container >= 0


def test_what_arrives_says_which_classes_are_probable_beside_the_answer():
    codec = label_codec(0, [[5, 0, 3, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert np.argsort(-codec.decode(b"\x00")).tolist() == [0, 2, 3, 1]
    wrong_more_often = label_codec(1, [[1, 0], [9, 1]])
    assert wrong_more_often.decode(b"\x01").argmax() == 1, "the answer stays the answer"


@pytest.mark.parametrize("data", [b"", b"\x04", b"\xff", b"\x00\x00"])
def test_bytes_that_are_no_label_are_refused(data):
    with pytest.raises(StreamError, match="none of 4 classes"):
        label_codec(0, np.eye(4, dtype=int)).decode(data)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 256), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_map_comes_back_as_it_was(count, height, width, seed):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, count, (height, width)).repeat(3, 0).repeat(2, 1)
    data = shortest(classes, count)
    assert np.array_equal(read_map(data, count), classes)
    codec = ClassMapCodec(lambda image: classes, count)
    assert sum(codec.parts(data)) == len(data) and all(part >= 0 for part in codec.parts(data))


def test_the_shorter_file_is_sent():
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 11, (12, 16)).repeat(30, 0).repeat(30, 1)
    noise = rng.integers(0, 11, (361, 481))
    assert len(shortest(blocks, 11)) < 1000 < len(shortest(noise, 11)) < noise.size / 2 * 1.05


def test_damaged_maps_and_foreign_classes_are_refused():
    data = shortest(np.full((9, 9), 4), 5)
    with pytest.raises(StreamError, match="class 4 of 3"):
        read_map(data, 3)
    for broken in (b"", data[:20], b"GIF89a"):
        with pytest.raises(StreamError, match="not a map"):
            read_map(broken, 5)
    with pytest.raises(SpicError, match="256 classes at most"):
        shortest(np.zeros((4, 4), int), 257)


@pytest.fixture
def benchmark():
    """Bright and dark pictures; training ones are of the same kind."""
    source = SimpleNamespace(open=lambda data, split, limit: Pictures(4), bottlenecks="train")
    return SimpleNamespace(task="classification", name="test", num_classes=2, preparation=Preparation(24, 24), source=source,
                           open_data=lambda valdir, limit: Pictures(), build_network=lambda weights=None: Brightness().eval())


def test_the_answer_scores_as_the_network_does(benchmark, tmp_path):
    records, missing = measure_answers(benchmark, cache=tmp_path / "cache", per_image=tmp_path, workers=1)
    assert not missing and [(r.codec, r.quality) for r in records] == [("label", FIXED), ("label", COUNTS)]
    for record in records:
        assert record.scores["top1"] == record.baseline["top1"] and record.costs.edge_macs >= 0
        assert record.bpp == pytest.approx(1 / 24**2) and record.bpp_wire == pytest.approx(8 / 24**2)
        assert Record.from_json(json.loads(json.dumps(record.to_json())), "here") == record
    assert len((tmp_path / "label_0.csv").read_text().splitlines()) == 8


def test_a_map_of_classes_is_scored_pixel_by_pixel(benchmark, tmp_path):
    class Columns(Pictures):
        def label(self, index):
            return torch.zeros(24, 24, dtype=torch.int64)

    class PerPixel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("threshold", torch.tensor(0.0))

        def forward(self, x):
            return torch.stack([x[:, 0] - self.threshold, self.threshold - x[:, 0]], 1)

    benchmark.task, benchmark.open_data = "segmentation", lambda valdir, limit: Columns()
    benchmark.build_network = lambda weights=None: PerPixel().eval()
    ((record,), _) = measure_answers(benchmark, cache=tmp_path / "cache", workers=1)
    assert record.codec == "classmap" and record.scores["miou"] == pytest.approx(record.baseline["miou"])
    assert 0 < record.bpp < 8


def test_the_command_sends_answers_alone(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "benchmark_of", lambda task, name, data: benchmark)
    words = ["--task", "classification", "--answer", "--cache", str(tmp_path / "c"), "--output", str(tmp_path / "r.json")]
    assert command.main(words) == 0 and '"label"' in (tmp_path / "r.json").read_text()
    capsys.readouterr()
    assert command.main([*words, "--codecs", "jpeg"]) == 2
    assert "--answer: goes without --codecs" in capsys.readouterr().err


def test_networks_without_training_pictures_have_no_counts(benchmark):
    benchmark.source = None
    assert not answer.count_answers(benchmark, lambda image: 0, None, []).any()


def test_a_folder_with_nothing_to_learn_from_has_no_counts(benchmark):
    def nothing(data, split, limit):
        raise SpicError("holds no picture")

    benchmark.source.open = nothing
    assert not answer.count_answers(benchmark, lambda image: 0, None, []).any()


def test_answers_are_counted_on_no_picture_that_is_tested_on_or_has_no_label(benchmark):
    class Known(Pictures):
        def __init__(self, folder, labels):
            super().__init__(4)
            self.paths, self.labels = [f"{folder}/{index}.png" for index in range(4)], labels

        def label(self, index):
            return self.labels[index]

    def counted(pictures):
        benchmark.source.open = lambda data, split, limit: pictures
        return answer.count_answers(benchmark, lambda image: 0, None, ["val/0.png", "val/9.png"]).sum()

    assert counted(Known("train", [0, 1, 0, 1])) == 4
    assert counted(Known("val", [0, 1, 0, 1])) == 0 and counted(Known("train", [None] * 4)) == 0
