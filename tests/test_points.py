"""Operating points: dict.yaml is read, checked, and its files are verified."""

import json
from pathlib import Path

import pytest

from spic.coding.counting import KINDS
from spic.errors import SpicError
from spic.files import record_checksums, verify_file
from spic import points as points_module
from spic.points import ROOT, best_tables, beside, load_points, read_tree, record_point, select, supervised

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


def test_the_tables_that_code_where_nobody_asks_are_those_of_the_dict_yaml(tmp_path):
    (plain,) = load_points(write(tmp_path, GOOD)).values()
    (own,) = load_points(write(tmp_path, GOOD.replace("S1:", "default_tables: position, S1:"))).values()
    assert plain.with_tables(None) == plain and plain.settings == {}
    assert own.with_tables(None) == own.with_tables("position") and own.with_tables(None).tables == "position"
    assert own.with_tables(None).with_tables(None) == own.with_tables(None), "asked twice it is the same"
    assert own.with_tables(None).with_tables("shared") == own and own.table == plain.table and own.settings == {"default_tables": "position"}


def test_the_published_points_code_as_published_and_ours_by_what_was_decoded_before():
    points = [point.with_tables(None) for point in load_points().values()]
    published = [point for point in points if point.benchmark in ("imagenet", "coco")]
    assert len(published) == 61 and {point.tables for point in published} == {"shared"}
    ours = [point for point in points if point.benchmark not in ("imagenet", "coco")]
    assert {point.tables for point in ours} == {"context", "position", "shared"}
    assert all(point.tables == best_tables(point.form, KINDS) and point.table.exists() for point in ours)


def test_a_name_may_have_120_letters_and_a_stride_64(tmp_path):
    (point,) = load_points(write(tmp_path, GOOD.replace("S1", "S" * 120).replace("stride: 2", "stride: 64"))).values()
    assert point.split_point == "S" * 120 and point.stride == 64


@pytest.mark.parametrize("old,new,message", [
    ("classification", "detection", "task must be one of"),
    ("classification", "c" * 1000, "dict.yaml: c{120}.mine.S1.0: the task must be one of"),
    ("S1", "'a b'", "split point must be a name of letters"),
    ("0:", "x:", "compress factor must be a whole number"),
    ("0:", "true:", "compress factor must be a whole number"),
    ("0:", "-1:", "compress factor must be a whole number from 0"),
    ("step", "# " + "x" * (4 << 20) + "\n step", "larger than 4 MiB"),
    ("0:", "9" * 300 + ":", "compress factor must be a whole number from 0 to 2147483647"),
    ("step: 2", "step: true", "step must be a number > 0"),
    ("channels: 8", "channels: 100000000", "channels must be a whole number > 0, at most"),
    ("channels: 8", "channels: 0", "channels must be a whole number > 0"),
    ("stride: 2", "stride: -2", "stride must be a whole number > 0, at most 64"),
    ("stride: 2", "stride: 65", "stride must be a whole number > 0, at most 64"),
    ("step: 2", "step: 0", "step must be a number > 0"),
    ("step: 2", "step: 1000000", "step must be a number > 0"),
    ("S1", "S" * 121, "split point must be a name of letters"),
    (GOOD, "a: 1\nb: [", "line 2, column 5"),
    (GOOD, "a: 1\n\nb: 2\na: 3", "line 4: a stands twice here, first in line 1"),
    (GOOD, "b: 1\na: 1\na: 3", "line 3: a stands twice here, first in line 2"),
    ("0:", "2147483648:", "compress factor must be a whole number from 0 to 2147483647"),
    ("weights: w", "weights: " + 300 * "w", "a file name of over 255 characters"),
    ("weights: w", "default_tables: huffman, weights: w", "default_tables must be one of shared, channel, position, context"),
    ("weights: w", "activation: tanh, weights: w", "activation must be one of relu, none"),
    ("stride: 2", "stride: 2, stride: 2", "line 1: stride stands twice here"),
    (GOOD, GOOD[:-3] + ", 0: {step: 1, stride: 2, channels: 8, weights: w, table: t}}}}", "line 1: 0 stands twice"),
    (GOOD, "benchmark: 5", "benchmark must map benchmarks to entries"),
    (GOOD, "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b]\n"
     "d: &d [*c, *c, *c, *c, *c, *c, *c]\ne: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d]", "more than 50000 entries"),
    ("step: 2", "step: -2", "step must be a number > 0"),
    ("stride: 2", "stride: two", "stride must be a whole number"),
    ("channels: 8", "chanels: 8", "keys must be exactly"),
    ("weights: w", "weights: 3", "weights must be a file name"),
    ("{mine:", "[mine:", "not readable as YAML .line 1"),
    (GOOD, "classification: 3", "must map"),
])
def test_a_mistake_in_the_yaml_is_named(tmp_path, old, new, message):
    with pytest.raises(SpicError, match=message):
        load_points(write(tmp_path, GOOD.replace(old, new)))


def test_the_largest_factor_is_taken(tmp_path):
    (key,) = load_points(write(tmp_path, GOOD.replace("0:", "2147483647:")))
    assert key[-1] == 2147483647


@pytest.mark.parametrize("writable", [True, False])
def test_a_root_that_cannot_be_written_to_is_one_clear_line(tmp_path, monkeypatch, writable):
    monkeypatch.setattr(points_module.os, "access", lambda path, mode: writable and path == tmp_path)
    if writable:
        points_module.check_root(tmp_path)
    else:
        with pytest.raises(SpicError, match="you cannot write here.*SPIC_ROOT"):
            points_module.check_root(tmp_path)


@pytest.mark.parametrize("arguments,message", [
    (("mars", ["S1"], ["0"]), "unknown benchmark 'mars'; for classification there are: mine"),
    (("mine", ["S2"], ["0"]), "unknown split point 'S2'; in mine there are: S1"),
    (("mine", ["S1"], ["4"]), "unknown compress factor '4'; of S1 in mine there are: 0"),
])
def test_an_unknown_choice_lists_the_valid_ones(tmp_path, arguments, message):
    with pytest.raises(SpicError, match=message):
        select(load_points(write(tmp_path, GOOD)), "classification", *arguments)


def test_a_wrong_choice_beside_all_is_not_ignored(tmp_path):
    points = load_points(write(tmp_path, GOOD))
    with pytest.raises(SpicError, match="unknown split point 'S9'"):
        select(points, "classification", "mine", ["S1", "all", "S9"], ["all"])
    with pytest.raises(SpicError, match="unknown compress factor '99'"):
        select(points, "classification", "mine", ["all"], ["all", "99"])


def test_network_cut_and_activation_may_stand_at_any_level(tmp_path):
    text = GOOD.replace("{mine: {S1: {0: {", "{mine: {network: 'torchvision:resnet18', middle: {cut: layer3, 1: {step: 1, "
                        "stride: 2, channels: 8, weights: w, table: t}, 0: {activation: none, cut: layer2, ")
    inner, outer = (load_points(write(tmp_path, text))["classification", "mine", "middle", factor] for factor in (0, 1))
    assert (inner.network, inner.cut, inner.activation) == ("torchvision:resnet18", "layer2", "none")
    assert (outer.network, outer.cut, outer.activation) == ("torchvision:resnet18", "layer3", "relu")
    assert outer.location == "middle" and not supervised("middle")


def test_a_recorded_point_is_read_back_and_leaves_the_others_alone(tmp_path):
    path = write(tmp_path, "# a head\n" + GOOD)
    entry = {"step": 0.5, "stride": 1, "channels": 3, "weights": "a b", "table": "t", "network": "x.py:make", "cut": "f.1",
             "activation": "none"}
    record_point(path, ("classification", "own", "US1", 4), entry)
    record_point(path, ("segmentation", "own", "deep", 0), entry)
    points = load_points(path)
    assert path.read_text().startswith("# a head\n") and len(points) == 3
    own = points["classification", "own", "US1", 4]
    assert (own.weights, own.network, own.cut, own.activation) == (tmp_path / "a b", "x.py:make", "f.1", "none")
    assert points["classification", "mine", "S1", 0] == load_points(write(tmp_path, GOOD))["classification", "mine", "S1", 0]


def test_recording_a_shipped_point_again_changes_no_line(tmp_path):
    path = write(tmp_path, (ROOT / "dict.yaml").read_text())
    key = ("classification", "scenes", "S1", 0)
    record_point(path, key, read_tree(path)["classification"]["scenes"]["S1"][0])
    assert path.read_text() == (ROOT / "dict.yaml").read_text()


@pytest.mark.parametrize("name,location,labels", [("S1", "S1", True), ("US2", "S2", False), ("Upper", "Upper", False)])
def test_the_papers_names_say_where_and_how(name, location, labels):
    assert (points_module.location(name), supervised(name)) == (location, labels)


def test_all_stands_for_every_point():
    points = load_points()
    assert len(select(points, "classification", "imagenet", ["all"], ["all"])) == 30
    assert len(select(points, "segmentation", "coco", ["S3"], ["all"])) == 7


def test_a_linked_weights_folder_is_as_good_as_a_real_one(tmp_path):
    (tmp_path / "elsewhere" / "mine").mkdir(parents=True)
    (tmp_path / "Weights").symlink_to(tmp_path / "elsewhere")
    file = tmp_path / "Weights" / "mine" / "a.bin"
    file.write_bytes(b"weights")
    record_checksums("mine", [file], tmp_path)
    assert verify_file(file, "mine", "do this", tmp_path) == file


@pytest.mark.parametrize("content", ["[]", "null", "5", "{", "[" * 100_000])
def test_a_list_of_checksums_that_is_none_is_one_clear_line(tmp_path, content):
    file = tmp_path / "Weights" / "mine" / "a.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    (file.parent / "checksums.json").write_text(content)
    with pytest.raises(SpicError, match="checksums.json: missing or not a list of checksums.*do this"):
        verify_file(file, "mine", "do this", tmp_path)


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
