"""The embedded benchmark: the same pictures for the same seed, natural statistics, safe generation."""
from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spic import files
from spic import scenes as command
from spic.datasets import scenes
from spic.datasets.scenes import drawing, manifest
from spic.datasets.scenes.shapes import SHAPES
from spic.errors import SpicError

COMMAND = [sys.executable, "-m", "spic", "scenes", "--split", "train"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path))
    return tmp_path


def marker(folder: Path) -> dict:
    return json.loads((folder / "complete.json").read_text())


def jpeg_bpp(picture: np.ndarray, quality: int) -> float:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return 8 * len(buffer.getvalue()) / (picture.shape[0] * picture.shape[1])


def centre(picture: np.ndarray, side: int) -> np.ndarray:
    top, left = ((size - side) // 2 for size in picture.shape[:2])
    return picture[top:top + side, left:left + side]


# ---- drawing ---------------------------------------------------------------------------------------------------

def test_twenty_shapes_and_five_textures_make_a_hundred_classes_in_sorted_order():
    assert len(SHAPES) == 20 and len(drawing.TEXTURES) == 5 and len(set(scenes.CLASSES)) == 100
    assert list(scenes.CLASSES) == sorted(scenes.CLASSES) and "star_striped" in scenes.CLASSES
    for outline in SHAPES.values():
        assert np.linalg.norm(outline, axis=1).max() == pytest.approx(1)


@pytest.mark.parametrize("draw", [scenes.draw_classification, scenes.draw_segmentation])
def test_a_picture_depends_on_seed_split_and_index_alone(draw):
    picture = draw(0, "val", 5)[0]
    draw(3, "train", 11)
    assert np.array_equal(draw(0, "val", 5)[0], picture)
    for other in ((1, "val", 5), (0, "train", 5), (0, "val", 6)):
        assert not np.array_equal(draw(*other)[0], picture)


def test_the_pictures_of_this_version_have_not_changed():
    """When this fails, shipped weights no longer fit the pictures: raise the task's version in scenes and train again."""
    means = [[draw(0, "val", index)[0].mean() for index in range(3)]
             for draw in (scenes.draw_classification, scenes.draw_segmentation)]
    assert np.allclose(means, [[128.618, 95.139, 96.969], [126.952, 101.644, 143.644]], atol=0.05)


def test_labels_run_through_all_classes():
    labels = [scenes.draw_classification(0, "val", index)[1] for index in (0, 1, 99, 100, 201)]
    assert labels == [0, 1, 99, 0, 1]


@pytest.mark.parametrize("draw, side, count", [(scenes.draw_classification, 224, 16),
                                               (scenes.draw_segmentation, 480, 4)])
def test_jpeg_75_costs_what_it_costs_on_photographs(draw, side, count):
    costs = [jpeg_bpp(centre(draw(0, "val", index)[0], side), 75) for index in range(count)]
    assert min(costs) > 0.8 and max(costs) < 3


def test_backgrounds_have_the_spectrum_of_photographs():
    """The amplitude of natural pictures falls as f^-1 or so (slopes of 0.7 to 1.6 are found)."""
    slopes = []
    for index in range(6):
        grey = centre(scenes.draw_classification(0, "val", index)[0], 256).mean(axis=2)
        window = np.hanning(256)[:, None] * np.hanning(256)
        amplitude = np.abs(np.fft.fft2((grey - grey.mean()) * window))
        radius = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)) * 256
        bands = [amplitude[(radius >= low) & (radius < 2 * low)].mean() for low in (4, 8, 16, 32)]
        slopes.append(-np.polyfit(np.log2([4, 8, 16, 32]), np.log2(bands), 1)[0])
    assert 0.7 < np.mean(slopes) < 1.8


def test_every_object_of_a_segmentation_picture_is_inside_and_in_sight():
    for index in range(8):
        picture, instances = scenes.draw_segmentation(0, "val", index)
        assert picture.dtype == np.uint8 and sorted(picture.shape[:2]) == [480, 640]
        assert 2 <= len(instances) <= 6
        for instance in instances:
            assert 1 <= instance.category <= 20
            assert (instance.polygon >= -1).all() and (instance.polygon <= np.array(picture.shape[1::-1]) + 1).all()


def test_a_window_covers_the_polygon_in_coco_coordinates():
    window = drawing.Window.of(np.array([[2.0, 3], [6, 3], [6, 5], [2, 5]]), 10, 10)
    covered = np.zeros((10, 10))
    covered[window.rows, window.columns] = window.alpha
    expected = np.zeros((10, 10))
    expected[3:5, 2:6] = 1
    error = covered - expected
    assert error.min() == 0  # Pillow fills the border of its finer raster, too: up to half a pixel more
    assert not error[:, [0, 7, 8, 9]].any() and not error[[0, 1, 6, 7, 8, 9]].any() and error.max() < 0.55


# ---- files -----------------------------------------------------------------------------------------------------

def test_annotations_match_the_painted_pixels(monkeypatch, own_cache):
    """Paint each object flat in its class number: the loader must read that very mask from the annotations."""
    def flat(rng, canvas, view, outline, look):
        number = 1 + next(place for place, shape in enumerate(SHAPES.values()) if shape is outline)
        window = drawing.Window.of(drawing.project(view, outline), *canvas.shape[:2])
        canvas[window.rows, window.columns][window.alpha > 0.5] = number
    monkeypatch.setattr(drawing, "paint_object", flat)
    monkeypatch.setattr(drawing, "background", lambda rng, height, width, clutter: np.zeros((height, width, 3)))
    monkeypatch.setattr(drawing, "light", lambda rng, canvas: None)
    monkeypatch.setattr(drawing, "photograph", lambda rng, canvas: canvas.astype(np.uint8))
    dataset = scenes.open("segmentation", count=3)
    for place, image_id in enumerate(dataset.ids):
        painted = scenes.draw_segmentation(0, "val", place)[0][..., 0]
        assert (dataset.class_mask(image_id) != painted).mean() < 0.01


def test_sets_open_as_data_sets_of_the_two_loaders():
    classification = scenes.open("classification", count=100, limit=50)
    assert len(classification) == 50 and classification.num_classes == 100
    assert classification.labels == list(range(0, 100, 2))
    segmentation = scenes.open("segmentation", count=2)
    assert len(segmentation) == 2 and segmentation.num_classes == 21
    image, mask = segmentation[0]
    assert image.shape == (3, 513, 513) and (mask > 0).sum() > 1000 and mask.max() <= 20


def test_any_number_of_workers_writes_the_same_files(tmp_path):
    folders = [scenes.ensure_scenes("classification", "val", 24, root=tmp_path / str(n), workers=n) for n in (1, 3)]
    assert marker(folders[0]) == marker(folders[1])
    listed = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg")) for folder in folders]
    assert listed[0] == listed[1] and len(listed[0]) == 24
    first = folders[0] / "val" / scenes.CLASSES[0] / "000000.jpg"
    picture = np.asarray(Image.open(first)).astype(int)
    assert np.abs(picture - scenes.draw_classification(0, "val", 0)[0]).mean() < 6


def test_a_complete_set_is_used_as_it_is_and_a_damaged_one_drawn_again(monkeypatch):
    folder = scenes.ensure_scenes("classification", "val", 12, workers=1)
    good = marker(folder)
    victim = next(folder.rglob("*.jpg"))
    before = victim.stat().st_mtime_ns
    assert scenes.ensure_scenes("classification", "val", 12) == folder and victim.stat().st_mtime_ns == before
    drawn = victim.read_bytes()
    victim.unlink()
    (leftover := folder / "val" / "leftover.jpg").write_bytes(b"x")
    scenes.ensure_scenes("classification", "val", 12, workers=1)
    assert marker(folder) == good and victim.read_bytes() == drawn and not leftover.exists()
    assert len(list(folder.rglob("*.jpg"))) == 12


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_a_killed_run_is_resumed_to_the_same_set(own_cache):
    command = [*COMMAND, "--task", "classification", "--count", "240", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(list(own_cache.rglob("*.jpg"))) > 20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    early = {path: path.stat().st_mtime_ns for path in sorted(own_cache.rglob("*.jpg"))[:10]}
    assert not list(own_cache.rglob("complete.json"))
    folder = scenes.ensure_scenes("classification", "train", 240, workers=2)
    kept = [folder / path.relative_to(f"{folder}.unfinished") for path in early]
    assert [path.stat().st_mtime_ns for path in kept] == list(early.values())
    straight = scenes.ensure_scenes("classification", "train", 240, root=own_cache / "straight", workers=2)
    assert marker(folder) == marker(straight)


def test_two_processes_asking_at_once_draw_one_set(own_cache):
    command = [*COMMAND, "--task", "segmentation", "--count", "12", "--workers", "1"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0][0] == outputs[1][0] and Path(outputs[0][0].strip()).is_dir()
    assert sum("drawing scenes" in errors for _, errors in outputs) == 1
    assert not [entry for entry in os.listdir(own_cache) if entry.endswith("unfinished")]


# ---- lost and altered files ------------------------------------------------------------------

def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != manifest.FILE}


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}


def alter(path: Path, keep_times: bool = False) -> None:
    """One byte in the middle, so that the size stays."""
    data, before = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGE = {
    "deleted": Path.unlink, "cut short": lambda path: os.truncate(path, 100), "altered": alter,
    "altered with its time set back": lambda path: alter(path, keep_times=True)}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_only_the_damaged_files_of_a_set_are_drawn_again(damage, capsys):
    folder = scenes.ensure_scenes("segmentation", "val", 5, workers=1)
    good, before = contents(folder), times(folder)
    annotations = folder / "annotations" / "instances_val2017.json"
    victim = sorted(before)[2]
    for path in (victim, annotations):
        damage(path)
    assert scenes.ensure_scenes("segmentation", "val", 5, workers=1) == folder
    assert contents(folder) == good
    assert "2 files are lost or altered and are drawn again" in capsys.readouterr().err
    assert [path for path, time in times(folder).items() if before[path] != time] == [victim]


def test_a_picture_cut_short_in_an_unfinished_set_is_drawn_again(own_cache):
    straight = contents(scenes.ensure_scenes("classification", "val", 9, workers=1))
    folder = scenes.ensure_scenes("classification", "val", 9, root=own_cache / "resumed", workers=1)
    unfinished = folder.rename(f"{folder}.unfinished")
    (unfinished / "complete.json").unlink()
    os.truncate(sorted(times(unfinished))[4], 200)
    assert contents(scenes.ensure_scenes("classification", "val", 9, root=own_cache / "resumed", workers=1)) == straight


def test_a_copied_set_is_looked_at_once_and_not_drawn_again(own_cache, monkeypatch):
    folder = scenes.ensure_scenes("classification", "val", 6, workers=1)
    copy = own_cache / "copy" / folder.name
    shutil.copytree(folder, copy)
    for path in times(copy):
        os.utime(path, (1, 1))
    before = times(copy)
    assert scenes.ensure_scenes("classification", "val", 6, root=copy.parent) == copy and times(copy) == before
    monkeypatch.setattr(manifest, "sha256", lambda path: pytest.fail("looked at the content again"))
    scenes.ensure_scenes("classification", "val", 6, root=copy.parent)


@pytest.mark.parametrize("lost", ["gone", "garbage"])
def test_a_whole_set_without_its_list_is_kept(lost, monkeypatch):
    folder = scenes.ensure_scenes("classification", "val", 6, workers=1)
    before, path = times(folder), folder / manifest.FILE
    path.unlink() if lost == "gone" else path.write_bytes(b"\xff\x00 a b c\n" * 9)
    scenes.ensure_scenes("classification", "val", 6, workers=1)
    assert times(folder) == before
    monkeypatch.setattr(manifest, "sha256", lambda path: pytest.fail("the list was not made anew"))
    scenes.ensure_scenes("classification", "val", 6, workers=1)


def test_opening_looks_at_no_content(monkeypatch):
    scenes.ensure_scenes("classification", "val", 6, workers=1)
    monkeypatch.setattr(manifest, "sha256", lambda path: pytest.fail("looked at the content"))
    scenes.ensure_scenes("classification", "val", 6)


# ---- bad input -------------------------------------------------------------------------------------------------

def test_too_little_disk_space_is_found_before_drawing(monkeypatch, own_cache, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage(10 ** 9, 10 ** 9, 10 ** 6))
    assert command.main(["--task", "classification"]) == 2
    message = capsys.readouterr().err
    assert "1 MB are free" in message and message.count("\n") == 1
    assert not list(own_cache.rglob("*.jpg"))


def test_a_cache_that_cannot_be_written_is_one_clear_line(own_cache, capsys):
    (own_cache / "file").write_text("")
    assert command.main(["--task", "classification", "--root", str(own_cache / "file")]) == 2
    assert "this folder cannot be made" in capsys.readouterr().err


def test_more_processes_than_the_machine_bears_are_refused(capsys):
    assert command.main(["--task", "classification", "--workers", "999999999"]) == 2
    message = capsys.readouterr().err
    assert "--workers 999999999: this machine has" in message and message.count("\n") == 1


@pytest.mark.parametrize("task, count, words", [("detection", 5, "choose from classification, segmentation"),
                                                ("classification", 0, "at least one picture")])
def test_unknown_tasks_and_empty_sets_are_refused(task, count, words):
    with pytest.raises(SpicError, match=words):
        scenes.ensure_scenes(task, "val", count)
