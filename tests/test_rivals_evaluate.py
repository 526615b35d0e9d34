"""Sweeps of rivals: every image and byte counts, and what is cached."""

import dataclasses
import json
import os
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from picture_cases import needs, photo
from spic.curves.samples import Rows
from spic.rivals import anatomy, cache, command, evaluate
from spic.rivals import codecs
from spic.rivals.codecs import CODECS
from spic.rivals.evaluate import FeatureRival, PixelRival, sweep
from spic.rivals.features import FEATURE_CODECS
from spic.rivals.cache import ResultCache
from spic.rivals.workers import Workers
from spic.datasets.images import Preparation
from spic.datasets.pictures import MEAN, STD
from spic.errors import SpicError
from spic.networks.weights import fingerprint
from spic.record import Record, read_results


class Pictures:
    """Seven pictures of two classes: dark and bright."""

    image_size = (24, 24)

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


BENCHMARK = SimpleNamespace(task="classification", name="test", num_classes=2)


def run(rival, names, folder=None, table=CODECS, **options):
    chosen = [table[name] for name in names]
    return sweep(rival, BENCHMARK, chosen, ResultCache(folder), batch_size=3, workers=2, **options)


def test_a_sweep_counts_every_image_and_every_byte():
    dataset = Pictures()
    (record,) = run(PixelRival(dataset, Brightness()), ["jpeg"], qualities={"jpeg": [40]})
    coded = [CODECS["jpeg"].encode(dataset.pixels(i), 40) for i in range(7)]
    payload = sum(CODECS["jpeg"].parts(data).payload for data in coded)
    assert record.images == 7 and record.scores["top1"] == record.baseline["top1"] == 100.0
    assert record.bpp == pytest.approx(8 * payload / (7 * 24 * 24))
    assert record.bpp_wire == pytest.approx(8 * sum(map(len, coded)) / (7 * 24 * 24))
    assert (record.codec, record.quality, record.chroma, record.split_point) == ("jpeg", 40, "4:2:0", None)
    assert record.costs.edge_macs == 0 and record.costs.edge_seconds > 0
    assert Record.from_json(json.loads(json.dumps(record.to_json())), "here") == record


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
    assert changed.accuracy != first[-1].accuracy


def test_a_damaged_cache_file_is_computed_again(tmp_path):
    rival = PixelRival(Pictures(), Brightness())
    first = run(rival, ["jpeg"], tmp_path, qualities={"jpeg": [40]})
    for file, text in zip(sorted(tmp_path.iterdir()), ('{"images": ', '{"images": 7}')):
        file.write_text(text)
    again = run(rival, ["jpeg"], tmp_path, qualities={"jpeg": [40]})
    assert again[0].bpp == first[0].bpp


def test_the_cache_keeps_a_row_per_image(tmp_path):
    run(PixelRival(Pictures(), Brightness()), ["jpeg"], tmp_path, qualities={"jpeg": [40]})
    (file,) = tmp_path.glob("jpeg-40-*.json")
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 7 and set(anatomy.Parts._fields) <= set(rows[0]) and rows[0]["top1"] == 1


def test_rows_of_a_rival_have_the_form_of_those_of_points(tmp_path):
    """What intervals need: the same columns and pictures as val.py writes, adding up to the record's own numbers."""
    (made,) = run(PixelRival(Pictures(), Brightness()), ["jpeg"], qualities={"jpeg": [40]}, per_image=tmp_path / "rows")
    assert [file.name for file in (tmp_path / "rows").iterdir()] == ["jpeg_40.csv"]
    samples = Rows([tmp_path]).of(made)
    assert samples.names == tuple(map(str, range(7))) and samples.own.sum() == samples.plain.sum() == 7
    assert 8 * samples.payload.mean() / 24**2 == pytest.approx(made.bpp)
    assert 8 * samples.wire.mean() / 24**2 == pytest.approx(made.bpp_wire)


@needs("jpeg2000")
def test_processes_and_threads_give_the_same_bytes():
    rival = PixelRival(Pictures(4), Brightness())
    (record,) = run(rival, ["jpeg2000"], qualities={"jpeg2000": [30]})
    payload = sum(CODECS["jpeg2000"].parts(CODECS["jpeg2000"].encode(rival.edge(i), 30)).payload for i in range(4))
    assert record.bpp == pytest.approx(8 * payload / (4 * 24 * 24))


def test_a_worker_process_that_dies_is_named():
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
    rival = FeatureRival(Pictures(), network, front=network[:2], back=network[2:],
                         split_point="S3")
    (record,) = run(rival, ["zlib"], table=FEATURE_CODECS, qualities={"zlib": [8]})
    assert record.split_point == "S3" and record.codec == "zlib"
    assert record.scores == record.baseline
    assert (record.costs.edge_parameters, record.costs.edge_macs) == (4 * 27 + 4, 4 * 27 * 36)


def test_dataset_and_network_identities_follow_their_content(tmp_path):
    assert cache.dataset_id(Pictures()) == cache.dataset_id(Pictures())
    assert cache.dataset_id(Pictures(7)) != cache.dataset_id(Pictures(6))
    file = tmp_path / "picture"
    file.write_bytes(b"1")
    pictures = Pictures()
    pictures.paths = [file]
    before = cache.dataset_id(pictures)
    file.write_bytes(b"12")
    assert cache.dataset_id(pictures) != before
    file.unlink()
    with pytest.raises(SpicError, match="picture: cannot be read"):
        cache.dataset_id(pictures)
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


@needs("av1")
@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no such priorities")
def test_encoding_leaves_the_priority_of_the_process_alone():
    before = os.sched_getscheduler(0)
    CODECS["av1"].encode(np.zeros((64, 64, 3), np.uint8), 40)
    assert os.sched_getscheduler(0) == before


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """A benchmark ``test`` of bright and dark pictures."""
    entry = SimpleNamespace(task="classification", name="test", num_classes=2, open_data=lambda valdir, limit: Pictures(),
                            build_network=lambda weights=None: Brightness().eval(), preparation=Preparation(24, 24), cuts={})
    monkeypatch.setattr(command, "benchmark_of", lambda task, name, data: entry)


def spic_rivals(folder, *words):
    return command.main(["--task", "classification", "--cache", str(folder / "cache"), "--output", str(folder / "r.json"),
                         "--workers", "2", *words])


def test_the_command_writes_records_and_what_is_missing(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(codecs.features, "check", lambda feature: feature != "raqm")
    codec = dataclasses.replace(CODECS["avif"], feature="raqm")
    monkeypatch.setitem(CODECS, "avif", codec)
    assert spic_rivals(tmp_path, "--codecs", "jpeg", "avif", "--qualities", "jpeg=10,50") == 0
    results = read_results([tmp_path / "r.json"])
    assert [(r.codec, r.quality) for r in results.records] == [("jpeg", 10), ("jpeg", 50)]
    assert "without raqm" in results.missing["avif"] and "left out: avif" in capsys.readouterr().err


@pytest.mark.parametrize("words, message", [
    (("--codecs", "gif"), "unknown codec 'gif'"),
    (("--qualities", "gif=3"), "NAME of jpeg"),
    (("--codecs", "webp", "--qualities", "jpeg=10"), "NAME of webp"),
    (("--qualities", "jpeg=10", "jpeg=20"), "jpeg is named twice"),
    (("--qualities", "jpeg=10,,20"), "write NAME=Q"),
    (("--qualities", "jpeg=" + "9" * 20), "whole number from 1 to 100"),
    (("--features", ""), "unknown cut ''"), (("--features", "S9"), "unknown cut 'S9'"),
])
def test_a_wrong_name_or_quality_is_one_line(tiny, tmp_path, capsys, words, message):
    assert spic_rivals(tmp_path, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_learned_rivals_are_a_subcommand(capsys):
    with pytest.raises(SystemExit, match="0"):
        command.main(["learned", "--help"])
    assert "spic rivals learned train --model" in capsys.readouterr().out
