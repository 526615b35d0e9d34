"""`spic encode`: rows of Parquet that a cloud answers as val.py counts, and what becomes of pictures that are none."""

import json
import os
import sys

import pytest
import torch

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install '.[ray]'")

import pyarrow.parquet as pq  # noqa: E402

from spic.benchmarks import find  # noqa: E402
from spic.coding.stream import read_stream  # noqa: E402
from spic.datasets import scenes  # noqa: E402
from spic.datasets.folder import open_folder  # noqa: E402
from spic.datasets.scenes.kinds import KINDS  # noqa: E402
import spic.encode as encoding  # noqa: E402
from spic.encode import Encoder, encode, main, stream_of  # noqa: E402
from spic.errors import SpicError  # noqa: E402
from spic.evaluate import Settings, evaluate, lay_roads  # noqa: E402
from spic.networks import trace  # noqa: E402
from spic.pipeline import Cloud  # noqa: E402
from spic.points import load_points  # noqa: E402
from spic.tasks import TASKS  # noqa: E402


def point(split="S1", factor=1, task="classification"):
    return load_points()[task, "scenes", split, factor].with_tables(None)


def rows(folder):
    """All rows of the files in a folder, in one order."""
    return sorted(pq.read_table(folder).to_pylist(), key=lambda row: (row["path"], row["point"]))


def draw(folder, count):
    """Pictures of the scenes in folders of their classes, of which there are all."""
    drawn = scenes.ensure_scenes("classification", "val", count, root=folder, workers=1) / "val"
    for name in scenes.CLASSES:
        (drawn / name).mkdir(exist_ok=True)
    return drawn


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("pictures"), 24)


def val_of(points, pictures, batch_size):
    """Point -> the rows that val.py counts for the pictures."""
    benchmark = find("classification", "scenes")
    dataset, size = open_folder(pictures, benchmark.preparation, 100), benchmark.image_size
    traced = trace(benchmark.build_network(), torch.zeros(1, 3, *size)).to(memory_format=torch.channels_last)
    settings = Settings("rans", batch_size=batch_size, workers=0, keep_rows=True, quiet=True)
    roads = evaluate(lay_roads(benchmark, traced, points, size, settings), dataset,
                     TASKS["classification"].metric(100), settings)
    return {road.point.name: road.rows for road in roads}


def test_payloads_and_answers_are_those_of_val(pictures, tmp_path):
    points = [point("S1"), point("S3")]
    told = encode(points, pictures, tmp_path / "coded", batch_size=10, answers=True)
    for name, of_val in val_of(points, pictures, 10).items():
        found = [row for row in rows(tmp_path / "coded") if row["point"] == name]
        assert [row["path"] for row in found] == [os.path.relpath(line["image"], pictures) for line in of_val]
        for row, line in zip(found, of_val, strict=True):
            assert len(row["payload"]) == line["payload_bytes"] and row["bpp"] == line["bpp"]
            assert row["label"] == line["label"]
            assert json.loads(row["answer"])["top"][0]["class"] == line["prediction"]
        (one,) = [one for one in told if one.point == name]
        assert (one.pictures, one.failed, one.judged) == (24, 0, 24) and one.right == sum(line["top1"] for line in of_val)
        assert one.payload_bytes == sum(line["payload_bytes"] for line in of_val)


@torch.inference_mode()
def test_a_row_is_a_stream_that_a_cloud_answers(pictures, tmp_path):
    encode([point("S3")], pictures, tmp_path / "coded", answers=True, coder="huffman", limit=6)
    cloud = Cloud.load(point("S3"), "huffman")
    for row in rows(tmp_path / "coded"):
        header, payloads = read_stream(stream_of(row["header"], row["payload"]))
        header.require(cloud.expected)
        assert cloud.answer(cloud.symbols(payloads)).argmax(1).item() == json.loads(row["answer"])["top"][0]["class"]


def test_segmentation_is_answered_by_maps(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.jpg").write_bytes(KINDS["segmentation"].jpeg(0, "val", 0))
    encode([point("S3", task="segmentation")], tmp_path / "in", tmp_path / "coded", answers=True)
    (row,) = rows(tmp_path / "coded")
    assert row["label"] is None and set(json.loads(row["answer"])) == {"classes", "map"}


def test_a_picture_that_is_none_is_told_and_the_others_are_coded(tmp_path, capsys):
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(KINDS["classification"].jpeg(0, "val", number))
    (folder / "1.jpg").write_bytes(b"no picture")
    assert main([str(tmp_path / "in"), "--output", str(tmp_path / "coded"), "--batch_size", "2"]) == 2
    told = capsys.readouterr()
    assert "2 pictures" in told.out and "1 of 3 pictures have no payload" in told.err and "1.jpg" in told.err
    found = rows(tmp_path / "coded")
    assert [row["path"] for row in found] == ["deep/0.jpg", "deep/1.jpg", "deep/2.jpg"]
    assert [row["payload"] is None for row in found] == [row["error"] is not None for row in found] == [False, True, False]
    assert all(row["answer"] is None and row["label"] is None for row in found)


def test_an_interrupted_run_goes_on_after_its_finished_parts(pictures, tmp_path, monkeypatch):
    """Three parts of two batches; the third batch of the second part is never begun at first."""
    monkeypatch.setattr(encoding, "ROWS_OF_A_PART", 8)
    once, table, coded = encode([point()], pictures, tmp_path / "once", batch_size=4), Encoder.table, []

    def ends_at(count):
        def counted(self, chunk):
            if len(coded) == count:
                raise KeyboardInterrupt
            coded.append(chunk["paths"])
            return table(self, chunk)
        monkeypatch.setattr(Encoder, "table", counted)

    ends_at(3)
    with pytest.raises(KeyboardInterrupt):
        encode([point()], pictures, tmp_path / "coded", batch_size=4)
    assert not (tmp_path / "coded").exists()
    for words in ({"batch_size": 8}, {"batch_size": 4, "coder": "huffman"}, {"batch_size": 4, "limit": 20}):
        with pytest.raises(SpicError, match="remove this folder to begin anew"):
            encode([point()], pictures, tmp_path / "coded", **words)
    ends_at(-1)
    assert encode([point()], pictures, tmp_path / "coded", batch_size=4) == once
    assert rows(tmp_path / "coded") == rows(tmp_path / "once")
    assert len(coded) == 7 and coded[2] == coded[3]  # what was not finished is done again, and nothing else
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coded", "once"]
    assert sorted(path.name for path in (tmp_path / "coded").iterdir()) == ["part-00000", "part-00001", "part-00002"]


@pytest.mark.parametrize("words, why", [
    (["--output", "there"], "is there already"),
    (["--output", "new", "--replicas", "2"], "--ray"),
    (["nowhere", "--output", "new"], "no such folder"),
    (["--output", "new", "--split_point", "S9"], "unknown split point"),
    (["--output", "new", "--benchmark", "coco", "--task", "segmentation"], "no split"),
])
def test_bad_input_is_one_line_and_writes_nothing(words, why, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and why in told and told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("package, words", [("pyarrow", []), ("ray", ["--ray"])])
def test_a_missing_package_is_one_line(package, words, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert main([str(pictures), "--output", str(tmp_path / "coded"), *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and package in told and "pip install 'spic-split[ray]'" in told
    assert not list(tmp_path.iterdir())
