"""Operating points: dict.yaml is read, checked, and its files are verified."""

import json
from pathlib import Path

import pytest

from spic.errors import SpicError
from spic.files import record_checksums, verify_file
from spic.points import ROOT, beside, load_points, select

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
GOOD = "classification: {mine: {S1: {0: {step: 2, stride: 2, channels: 8, weights: w, table: t}}}}"


def write(tmp_path, text):
    path = tmp_path / "dict.yaml"
    path.write_text(text)
    return path


def test_the_shipped_file_holds_every_published_point():
    points = load_points()
    assert sum(key[:2] == ("classification", "imagenet") for key in points) == 30
    assert sum(key[:2] == ("segmentation", "coco") for key in points) == 31
    for task in ("classification", "segmentation"):
        for split in ("S1", "S2", "S3", "US1", "US2"):
            assert sum(key[:3] == (task, "scenes", split) for key in points) >= 3


def test_published_values_are_those_of_the_published_file():
    source = SHARED / "paper" / "points.json"
    if not source.exists():
        pytest.skip(f"needs {source}")
    points = load_points()
    names = {"classification": "imagenet", "segmentation": "coco"}
    for task, splits in json.loads(source.read_text()).items():
        for split, factors in splits.items():
            for factor, entry in factors.items():
                point = points[task, names[task], split, int(factor)]
                assert (point.step, point.stride, point.channels) == (entry["step"], entry["stride"], entry["channels"])


def test_a_point_names_files_beside_the_yaml(tmp_path):
    (point,) = load_points(write(tmp_path, GOOD)).values()
    assert point.weights == tmp_path / "w"
    assert point.name == "classification/mine/S1/0"
    assert point.location == "S1"
    assert point.tables == "shared" and point.with_tables("shared") == point


def test_tables_of_other_kinds_lie_beside_the_shared_one(tmp_path):
    (point,) = load_points(write(tmp_path, GOOD.replace("table: t", "table: deep/S1_0.json"))).values()
    own = point.with_tables("position")
    assert own.table == tmp_path / "deep" / "S1_0.position.json" and own.tables == "position"
    assert (own.name, own.weights, own.root) == (point.name, point.weights, point.root)
    assert beside(Path("S1_0.csv"), "channel") == Path("S1_0.channel.csv")


@pytest.mark.parametrize("old,new,message", [
    ("classification", "detection", "task must be one of"),
    ("S1", "S7", "split point must be one of"),
    ("0:", "x:", "compress factor must be a whole number"),
    ("step: 2", "step: -2", "step must be a number > 0"),
    ("stride: 2", "stride: two", "stride must be a whole number"),
    ("channels: 8", "chanels: 8", "keys must be exactly"),
    ("weights: w", "weights: 3", "weights must be a file name"),
    ("{mine:", "[mine:", "not readable as YAML"),
    (GOOD, "classification: 3", "must map"),
])
def test_a_mistake_in_the_yaml_is_named(tmp_path, old, new, message):
    with pytest.raises(SpicError, match=message):
        load_points(write(tmp_path, GOOD.replace(old, new)))


@pytest.mark.parametrize("arguments,message", [
    (("mars", ["S1"], ["0"]), "unknown benchmark 'mars'; for classification there are: mine"),
    (("mine", ["S2"], ["0"]), "unknown split point 'S2'; in mine there are: S1"),
    (("mine", ["S1"], ["4"]), "unknown compress factor '4'; of S1 in mine there are: 0"),
])
def test_an_unknown_choice_lists_the_valid_ones(tmp_path, arguments, message):
    with pytest.raises(SpicError, match=message):
        select(load_points(write(tmp_path, GOOD)), "classification", *arguments)


def test_all_stands_for_every_point():
    points = load_points()
    assert len(select(points, "classification", "imagenet", ["all"], ["all"])) == 30
    assert len(select(points, "segmentation", "coco", ["S3"], ["all"])) == 7


def test_altered_truncated_missing_and_unknown_files_are_refused(tmp_path):
    folder = tmp_path / "Weights" / "mine"
    folder.mkdir(parents=True)
    file = folder / "a.bin"
    file.write_bytes(b"weights")
    with pytest.raises(SpicError, match="so no file beside it can be checked"):
        verify_file(file, "mine", "do this", tmp_path)
    record_checksums("mine", [file], tmp_path)
    assert verify_file(file, "mine", "do this", tmp_path) == file
    file.unlink()
    record_checksums("mine", [file], tmp_path)
    assert json.loads((folder / "checksums.json").read_text()) == {}, "a file that is gone has no checksum"
    file.write_bytes(b"weights")
    record_checksums("mine", [file], tmp_path)
    file.write_bytes(b"weight")
    with pytest.raises(SpicError, match="truncated or altered.*do this"):
        verify_file(file, "mine", "do this", tmp_path)
    with pytest.raises(SpicError, match="no such file; do this"):
        verify_file(folder / "b.bin", "mine", "do this", tmp_path)
    (folder / "c.bin").write_bytes(b"")
    with pytest.raises(SpicError, match="has no checksum"):
        verify_file(folder / "c.bin", "mine", "do this", tmp_path)


def test_every_file_of_our_own_points_is_shipped_and_intact():
    for point in load_points().values():
        if point.benchmark == "scenes":
            verify_file(point.weights, point.benchmark, "restore it", ROOT)
            verify_file(point.table, point.benchmark, "restore it", ROOT)
