"""Classification/train.py as a user meets it: any folder of pictures, any state dict, bad input in one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from spic.coding.tables import KINDS
from spic.networks import resnet50
from spic.pipeline import load_table
from spic.points import load_points
from spic.training.command import main

CLASS = "n01440764"  # of imagenette


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "random.pth"
    torch.save(resnet50(0.5, 10).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve pictures of several sizes, some in folders; no labels anywhere."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(12):
        path = folder / ("." if i % 3 else f"album {i}") / f"{i}.{'png' if i % 2 else 'JPG'}"
        path.parent.mkdir(exist_ok=True)
        size = (60 + 40 * (i % 4), 200 - 12 * i, 3)
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def train(weights, tmp_path, capsys):
    """Runs the command; returns exit code and what it wrote on stderr."""
    def run(data, *more, output=tmp_path / "out", split_point="US1"):
        argv = ["--benchmark", "imagenette", "--data", str(data), "--backbone_weights", str(weights),
                "--output", str(output), "--split_point", split_point, "--channels", "4", "--epochs", "1",
                "--batch_size", "6", *more]
        code = main("classification", argv)
        return code, capsys.readouterr().err
    return run


def refused(outcome, *words):
    code, err = outcome
    line = err.strip().splitlines()[-1]
    return code == 2 and line.startswith("error: ") and all(word in line for word in words)


def test_unlabelled_pictures_become_a_point_that_val_can_load(train, photos, tmp_path):
    assert train(photos)[0] == 0
    point = load_points(tmp_path / "out" / "dict.yaml")["classification", "imagenette", "US1", 0]
    assert point.weights.exists() and point.table.exists() and point.channels == 4
    epoch, compared = map(json.loads, (tmp_path / "out" / "classification_US1_0.jsonl").read_text().splitlines())
    assert epoch["epoch"] == 1
    assert compared["coded_bpp"] == pytest.approx(compared["entropy_bpp"], rel=0.2, abs=8 / 160 ** 2)
    assert compared["predicted_bpp"] > 0
    for kind in KINDS:
        assert load_table(point.with_tables(kind)).counts == load_table(point).counts


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_of_table_is_written_beside_the_shared_one(train, photos, tmp_path, kind):
    assert train(photos, "--tables", kind)[0] == 0
    point = load_points(tmp_path / "out" / "dict.yaml")["classification", "imagenette", "US1", 0]
    found = [other for other in KINDS if point.with_tables(other).table.exists()]
    assert found == [other for other in KINDS if other in ("shared", kind)]
    assert (load_table(point.with_tables(kind)).index is None) == (kind == "shared")


def test_a_second_factor_joins_the_curve_and_a_run_is_not_overwritten(train, photos, tmp_path):
    assert train(photos)[0] == 0
    assert train(photos, "--compress_factor", "1", "--lambda", "99")[0] == 0
    assert len(load_points(tmp_path / "out" / "dict.yaml")) == 2
    assert refused(train(photos), "already holds the run", "--resume")


def test_resuming_another_run_says_what_differs(train, photos):
    assert refused(train(photos, "--resume"), "nothing to resume")
    assert train(photos)[0] == 0
    assert train(photos, "--resume")[0] == 0
    assert refused(train(photos, "--resume", "--lambda", "99"), "weight is 10.0 there and 99.0 here")


def test_an_empty_folder_is_refused(train, tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(train(tmp_path / "empty"), "empty", "no picture")
    assert refused(train(tmp_path / "missing"), "missing", "no such folder")


def test_an_unreadable_picture_is_named(train, tmp_path):
    (tmp_path / "bad").mkdir()
    Image.new("RGB", (50, 50)).save(tmp_path / "bad" / "a.jpg")
    (tmp_path / "bad" / "b.jpg").write_bytes(b"\xff\xd8 not a picture")
    assert refused(train(tmp_path / "bad"), "b.jpg")


def test_labels_are_needed_by_a_supervised_point_alone(train, photos, tmp_path):
    assert refused(train(photos, split_point="S1"), "no known class")
    folder = tmp_path / "labelled" / CLASS
    folder.mkdir(parents=True)
    for i in range(4):
        Image.new("RGB", (80, 80), (60 * i, 0, 0)).save(folder / f"{i}.jpg")
    assert train(tmp_path / "labelled", split_point="S1")[0] == 0


def test_weights_of_another_class_count_are_refused(photos, tmp_path, capsys):
    torch.save(resnet50(0.5, 7).state_dict(), tmp_path / "seven.pth")
    code = main("classification", ["--benchmark", "imagenette", "--data", str(photos), "--output",
                                   str(tmp_path / "out"), "--backbone_weights", str(tmp_path / "seven.pth")])
    assert refused((code, capsys.readouterr().err), "seven.pth", "fc.weight")


@pytest.mark.parametrize("option", ["--step", "--lr"])
def test_numbers_out_of_range_are_refused(train, photos, option):
    assert refused(train(photos, option, "0"), option)
