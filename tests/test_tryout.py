"""The first minute: one picture from edge to cloud, told in 80 columns and shown in a figure."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from spic.datasets.images import jpeg_bytes
from spic.tryout import main, tiled


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_picture_of_the_scenes_is_sent_and_shown(task, tmp_path, capsys):
    output = tmp_path / "try.png"
    assert main(["--task", task, "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.replace(str(output), "F").splitlines())) <= 80
    assert "\033" not in said, "colours are for terminals"
    assert f"{task}/scenes/S1/1" in said and str(output) in said and "JPEG 75" in said
    assert Image.open(output).size[0] > 1000


def test_a_photo_of_a_person_as_json(tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)).save(photo)
    assert main([str(photo), "--json", "--output", str(tmp_path / "t.png"), "--split_point", "US2", "--benchmark", "scenes"]) == 0
    trial = json.loads(capsys.readouterr().out)
    assert trial["point"] == "classification/scenes/US2/1" and trial["image_size"] == [224, 224]
    assert 0 < trial["sent_bytes"] < trial["jpeg_bytes"] and len(trial["answer"]) == 5
    assert trial["bpp"] * 224 * 224 / 8 < trial["sent_bytes"], "a frame is longer than its payload"


@pytest.mark.parametrize("arguments,message", [
    (["nowhere.jpg"], "nowhere.jpg"),
    (["--split_point", "S9"], "unknown split point 'S9'"),
    (["--network", "torchvision:resnet18"], "lists no bottleneck of torchvision:resnet18: train one by `spic train"),
    (["--output", "/proc/nowhere/x.png"], "cannot be"),
])
def test_bad_input_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0]


def test_a_text_file_is_no_photo(capsys, tmp_path):
    (tmp_path / "photo.jpg").write_text("no photo")
    assert main([str(tmp_path / "photo.jpg"), "--output", str(tmp_path / "t.png")]) == 2
    assert "photo.jpg" in capsys.readouterr().err


def test_tiles_stand_side_by_side():
    symbols = np.arange(12).reshape(3, 2, 2)
    canvas = tiled(symbols)
    assert canvas.shape == (7, 7)
    assert canvas[1:3, 1:3].tolist() == [[0, 1], [2, 3]] and canvas[4:6, 1:3].tolist() == [[8, 9], [10, 11]]
    assert (canvas == -1).sum() == 49 - 12


def test_jpeg_bytes_are_those_of_a_file():
    pixels = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=75)
    assert jpeg_bytes(pixels) == len(buffer.getvalue())
