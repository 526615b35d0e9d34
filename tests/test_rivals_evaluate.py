"""Sweeps of rivals: every image and byte counts, and what is cached."""

import json
import os
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn

from picture_cases import PRESENT, photo
from spic.rivals import anatomy, evaluate, results
from spic.rivals.codecs import CODECS
from spic.rivals.evaluate import FeatureRival, PixelRival, sweep
from spic.rivals.features import FEATURE_CODECS
from spic.rivals.results import ResultCache
from spic.rivals.workers import Workers
from spic.datasets.images import MEAN, STD
from spic.errors import SpicError
from spic.networks.weights import fingerprint
from spic.tasks.classification import TopK


class Pictures:
    """Seven pictures of two classes: dark and bright."""

    def __init__(self, count=7):
        self.count, self.loads = count, 0

    def __len__(self):
        return self.count

    def pixels(self, index):
        self.loads += 1
        return (photo(24, 24, index) // 2 + 120 * (index % 2)).astype(np.uint8)

    def label(self, index):
        return index % 2


class Brightness(nn.Module):
    """Two logits: bright is class 1."""

    def __init__(self):
        super().__init__()
        self.register_buffer("threshold", torch.tensor(0.0))

    def forward(self, x):
        mean = x.mean((1, 2, 3)) - self.threshold
        return torch.stack([-mean, mean], 1)


ABOUT = {"task": "classification", "benchmark": "test", "device": "cpu"}


def run(rival, names, cache=None, table=CODECS, **options):
    chosen = [table[name] for name in names]
    return sweep(rival, chosen, lambda: TopK(2), ABOUT, ResultCache(cache), batch_size=3, workers=2, **options)


def test_a_sweep_counts_every_image_and_every_byte():
    dataset = Pictures()
    (report,) = run(PixelRival(dataset, Brightness()), ["jpeg"], qualities={"jpeg": [40]})
    coded = [CODECS["jpeg"].encode(dataset.pixels(i), 40) for i in range(7)]
    payload = sum(CODECS["jpeg"].parts(data).payload for data in coded)
    assert report["images"] == 7 and report["top1"] == report["baseline_top1"] == 100.0
    assert report["bpp"] == pytest.approx(8 * payload / (7 * 24 * 24))
    assert report["bpp_wire"] == pytest.approx(8 * sum(map(len, coded)) / (7 * 24 * 24))
    assert (report["codec"], report["quality"], report["chroma"]) == ("jpeg", 40, "4:2:0")


def test_the_network_sees_the_decoded_picture_normalised():
    seen = []

    class Witness(torch.nn.Module):
        def forward(self, batch):
            seen.extend(batch)
            return torch.zeros(len(batch), 2)

    dataset = Pictures(4)
    run(PixelRival(dataset, Witness()), ["jpeg"], qualities={"jpeg": [5]})
    decoded = CODECS["jpeg"].decode(CODECS["jpeg"].encode(dataset.pixels(3), 5))
    expected = torch.from_numpy((decoded / 255 - MEAN) / STD).permute(2, 0, 1).float()
    assert any(torch.allclose(image, expected, atol=1e-6) for image in seen)


def test_a_second_figure_loads_no_picture_and_a_changed_network_starts_over(tmp_path):
    dataset, network = Pictures(), Brightness()
    first = run(PixelRival(dataset, network), ["webp", "jpeg"], tmp_path)
    rival = PixelRival(dataset, network)
    before = dataset.loads
    assert run(rival, ["webp", "jpeg"], tmp_path) == first
    assert dataset.loads == before
    network.threshold += 100.0
    (changed, *_) = run(PixelRival(dataset, network), ["jpeg"], tmp_path)
    assert changed["top1"] != first[-1]["top1"]


def test_a_damaged_cache_file_is_computed_again(tmp_path):
    rival = PixelRival(Pictures(), Brightness())
    first = run(rival, ["jpeg"], tmp_path, qualities={"jpeg": [40]})
    for file in tmp_path.iterdir():
        file.write_text(file.read_text()[:50])
    again = run(rival, ["jpeg"], tmp_path, qualities={"jpeg": [40]})
    assert again[0]["bpp"] == first[0]["bpp"]


def test_the_cache_keeps_a_row_per_image(tmp_path):
    run(PixelRival(Pictures(), Brightness()), ["jpeg"], tmp_path, qualities={"jpeg": [40]})
    (file,) = tmp_path.glob("jpeg-40-*.json")
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 7 and set(anatomy.Parts._fields) <= set(rows[0]) and rows[0]["top1"] == 1


def test_processes_and_threads_give_the_same_bytes():
    if "jpeg2000" not in PRESENT:
        pytest.skip("this Pillow has no JPEG 2000")
    rival = PixelRival(Pictures(4), Brightness())
    (report,) = run(rival, ["jpeg2000"], qualities={"jpeg2000": [30]})
    payload = sum(CODECS["jpeg2000"].parts(CODECS["jpeg2000"].encode(rival.edge(i), 30)).payload for i in range(4))
    assert report["bpp"] == pytest.approx(8 * payload / (4 * 24 * 24))


def test_a_worker_process_that_dies_is_told():
    class Deadly:
        name, holds_gil = "deadly", True

    with Workers(2) as workers:
        with suppress(BrokenProcessPool):
            workers.processes.submit(os._exit, 3).result()
        with pytest.raises(SpicError, match="a worker process died"):
            workers.submit(Pictures().pixels, 0, Deadly(), 1).result()


def test_feature_rivals_run_front_codec_and_back():
    layers = [nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    network = nn.Sequential(*layers).eval()
    rival = FeatureRival(Pictures(), network, front=network[:2], back=lambda feature, size: network[2:](feature),
                         split_point="S3")
    reports = run(rival, ["zlib"], table=FEATURE_CODECS, qualities={"zlib": [8]})
    assert reports[0]["split_point"] == "S3" and reports[0]["codec"] == "zlib"
    assert reports[0]["top1"] == reports[0]["baseline_top1"]
    assert (reports[0]["edge_parameters"], reports[0]["edge_macs"]) == (4 * 27 + 4, 4 * 27 * 36)


def test_dataset_and_network_identities_follow_their_content(tmp_path):
    assert results.dataset_id(Pictures()) == results.dataset_id(Pictures())
    assert results.dataset_id(Pictures(7)) != results.dataset_id(Pictures(6))
    file = tmp_path / "picture"
    file.write_bytes(b"1")
    pictures = Pictures()
    pictures.paths = [file]
    before = results.dataset_id(pictures)
    file.write_bytes(b"12")
    assert results.dataset_id(pictures) != before
    file.unlink()
    with pytest.raises(SpicError, match="picture: cannot be read"):
        results.dataset_id(pictures)
    first, second = Brightness(), Brightness()
    assert fingerprint(first) == fingerprint(second)
    second.threshold += 1
    assert fingerprint(first) != fingerprint(second)


def test_other_code_or_another_device_finds_no_result(tmp_path, monkeypatch):
    def rival():
        return PixelRival(Pictures(), Brightness())

    run(rival(), ["jpeg"], tmp_path, qualities={"jpeg": [50]})
    known = len(list(tmp_path.iterdir()))
    run(rival(), ["jpeg"], tmp_path, qualities={"jpeg": [50]})
    assert len(list(tmp_path.iterdir())) == known
    elsewhere = rival()
    elsewhere.device = "elsewhere"
    monkeypatch.setattr(elsewhere, "cloud", rival().cloud)
    run(elsewhere, ["jpeg"], tmp_path, qualities={"jpeg": [50]})
    assert len(list(tmp_path.iterdir())) == 2 * known
    monkeypatch.setattr(evaluate, "code_id", lambda: "changed")
    run(rival(), ["jpeg"], tmp_path, qualities={"jpeg": [50]})
    assert len(list(tmp_path.iterdir())) == 3 * known


def test_a_failing_picture_ends_the_sweep_with_its_error():
    class Broken(Pictures):
        def pixels(self, index):
            if index == 5:
                raise SpicError("cannot read the image five.jpg")
            return super().pixels(index)

    rival = PixelRival(Pictures(), Brightness())
    rival.dataset = Broken()
    with pytest.raises(SpicError, match="five.jpg"):
        run(rival, ["jpeg"])


def test_encoding_leaves_the_priority_of_the_process_alone():
    codec = CODECS["av1"] if "av1" in PRESENT else None
    if codec is None or not hasattr(os, "sched_getscheduler"):
        pytest.skip("no AV1 encoder, or no such priorities, here")
    before = os.sched_getscheduler(0)
    codec.encode(np.zeros((64, 64, 3), np.uint8), 40)
    assert os.sched_getscheduler(0) == before
