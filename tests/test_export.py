"""`spic export`: what a bundle holds is what torch computes, and whatever is not a bundle is refused in one line."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from edge_cases import CODED, draw
from PIL import Image

from spic.coding import make_coder
from spic.coding.stream import FrameWriter
from spic.edge.bundle import MANIFEST, Bundle, Manifest, entry_of, write
from spic.edge.runtime import OnnxHalf
from spic.datasets.images import Preparation
from spic.errors import SpicError
from spic.export.check import Comparison
from spic.export.command import main
from spic.pipeline import Cloud, Edge
from spic.points import load_points

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install '.[edge]'")


@pytest.fixture
def copy(exported, tmp_path):
    """A bundle to be damaged."""
    return shutil.copytree(exported, tmp_path / "copy")


def test_what_the_manifest_says(exported):
    bundle = Bundle.open(exported)
    assert [point.name for point in bundle.points] == [f"classification/mine/{split}/{factor}" for split, factor in CODED]
    first, *late = bundle.points
    assert first.stages == ("stage0.onnx",) and all(point.stages == ("stage0.onnx", "stage1.onnx") for point in late)
    for point in bundle.points:
        assert point.measured["pictures"] == 4 and point.measured["symbols_equal"] >= 0.9999
        assert point.measured["within_one_step"] == 1
        assert point.measured["payload_bytes"] > 5 and point.measured["same_answers"] == 1
    assert set(bundle.manifest.files) == {path.name for path in exported.iterdir()} - {MANIFEST}
    assert bundle.manifest.preparation.to_json() == Preparation(72, 64).to_json()


@torch.inference_mode()
def test_the_exported_edge_gives_what_torch_gives_and_its_cloud_decodes_it(exported, tmp_path):
    bundle, points = Bundle.open(exported), load_points(exported.parent / "dict.yaml")
    half, image = OnnxHalf(bundle, bundle.points), Image.open(draw(tmp_path, 1, first=50)[0]).convert("RGB")
    for number, (point, mine) in enumerate(zip(half.points, points.values())):
        assert point.name == mine.name
        symbols = half.symbols(number, half.preparation.array(image))
        edge, cloud = Edge.load(mine, "rans"), Cloud.load(mine, "rans")
        sent = edge(Preparation(72, 64)(image)[None])
        assert (symbols == sent.symbols.numpy()).mean() >= 0.99 and np.unique(symbols).size > 3
        writer = FrameWriter(point.header)
        cloud.open(writer.header)
        received = cloud.receive([writer.frame(make_coder("rans", point.table).encode(symbols)[0])])
        assert (received.symbols.numpy() == symbols).all()


def test_points_share_the_front_in_memory(exported):
    bundle = Bundle.open(exported)
    half = OnnxHalf(bundle, bundle.points)
    assert len(half._sessions) == 2 + len(bundle.points)
    assert half._chains[0][0] is half._chains[1][0] is half._chains[2][0]


def test_a_zip_is_the_same_bundle(exported, tmp_path):
    bundle = Bundle.open(exported)
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    write(tmp_path / "b.zip", bundle.manifest, files)
    zipped = Bundle.open(tmp_path / "b.zip")
    assert zipped.manifest == bundle.manifest and {name: zipped.read(name) for name in files} == files
    write(tmp_path / "again.zip", zipped.manifest, files)
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_whole_numbers_and_the_cloud_half(exported, tmp_path, capsys):
    draw(tmp_path / "pictures", 8)
    assert main(["--points", str(exported.parent / "dict.yaml"), "--benchmark", "mine", "--split_point", "late",
                 "--compress_factor", "1",
                 "--int8", "--cloud", "--data", str(tmp_path / "pictures"), "--pictures", "4", "--output",
                 str(tmp_path / "b.zip")]) == 0
    assert "checked on 4 pictures" in capsys.readouterr().out
    (point,) = Bundle.open(tmp_path / "b.zip").points
    assert {point.decoder, point.back} == {"decoder_late_1.onnx", "back0.onnx"}
    assert 0.5 < point.measured["symbols_equal"] < 1 and 0 <= point.measured["same_answers"] <= 1
    assert b"QuantizeLinear" in Bundle.open(tmp_path / "b.zip").read("stage0.onnx")


def test_other_symbols_than_torchs_are_no_export():
    class Road:
        class point:
            name = "a/b/c/0"
    Comparison(Road, None, None, values=20_000, equal=19_998, near=20_000).require_equal()
    for equal, near in ((19_997, 20_000), (19_999, 19_999)):
        with pytest.raises(SpicError, match="nothing was written"):
            Comparison(Road, None, None, values=20_000, equal=equal, near=near).require_equal()


# ---- bad bundles --------------------------------------------------------------------------------------------------


def change(folder, **entries):
    """Other entries in the manifest; a function gets the old value."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name, value in entries.items():
        manifest[name] = value(manifest[name]) if callable(value) else value
    (folder / MANIFEST).write_text(json.dumps(manifest))


def replace_file(folder, name, data):
    """Another content, as if the manifest meant it."""
    (folder / name).write_bytes(data)
    change(folder, files=lambda files: files | {name: entry_of(data)})


def load(folder):
    bundle = Bundle.open(folder)
    return OnnxHalf(bundle, bundle.points)


def test_a_bundle_with_one_altered_bit_is_refused_whichever_file_it_is_in(copy):
    for name in Bundle.open(copy).points[-1].files:
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        with pytest.raises(SpicError, match=f"{name} is truncated or altered"):
            Bundle.open(copy).read(name)
    with pytest.raises(SpicError, match="truncated or altered"):
        load(copy)


def point_with(**entries):
    return lambda points: [points[0] | entries, *points[1:]]


@pytest.mark.parametrize("entries,message", [
    ({"format": 2}, "of format 2, this program reads format 1: update spic"),
    ({"format": True}, "not the manifest"),
    ({"points": []}, "must be a list of some"),
    ({"points": lambda points: points + points[:1]}, "stands twice"),
    ({"points": point_with(stages=["../../etc/passwd"])}, "not among the files"),
    ({"points": point_with(shape=[1 << 30, 1, 1])}, "symbol shape"),
    ({"points": point_with(step=0)}, "step must be"),
    ({"points": point_with(coder="zip")}, "unknown coder"),
    ({"files": lambda files: files | {"../x": next(iter(files.values()))}}, "files: must name"),
    ({"files": lambda files: {name: entry | {"bytes": -1} for name, entry in files.items()}}, "files: must name"),
    ({"preparation": {}}, "no known way to prepare"),
    ({"network": 3}, "network: must be a text"),
    ({"more": 1}, "unexpected or missing"),
])
def test_a_manifest_from_outside_is_checked(copy, entries, message):
    change(copy, **entries)
    with pytest.raises(SpicError, match=message) as error:
        Bundle.open(copy)
    assert str(copy) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format": NaN}', "\0"])
def test_what_is_no_manifest_is_refused(copy, text):
    (copy / MANIFEST).write_text(text)
    with pytest.raises(SpicError, match=MANIFEST):
        Bundle.open(copy)


def test_a_bundle_of_another_network_is_refused(copy):
    late = (copy / "encoder_late_0.onnx").read_bytes()
    replace_file(copy, "encoder_early_1.onnx", late)
    half = load(copy)
    with pytest.raises(SpicError, match="export the bundle again"):
        half.symbols(0, np.zeros((3, 64, 64), np.float32))


def test_a_table_of_another_point_and_a_model_that_is_none_are_refused(copy):
    other = (copy / "table_late_0.json").read_bytes()
    (copy / "table_late_0.json").rename(copy / "kept")
    replace_file(copy, "table_late_0.json", (copy / "table_late_1.json").read_bytes())
    with pytest.raises(SpicError, match="is not the table that the manifest says"):
        load(copy)
    replace_file(copy, "table_late_0.json", other)
    replace_file(copy, "stage0.onnx", b"\x08\x01not a model")
    with pytest.raises(SpicError, match="stage0.onnx: not a model"):
        load(copy)


def test_missing_files_other_archives_and_bombs(copy, tmp_path):
    with pytest.raises(SpicError, match="no such bundle"):
        Bundle.open(tmp_path / "nowhere")
    (tmp_path / "x.zip").write_bytes(b"no archive")
    with pytest.raises(SpicError, match="neither a folder nor a readable .zip"):
        Bundle.open(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(SpicError, match="holds no manifest.json"):
        Bundle.open(tmp_path / "empty.zip")
    (copy / "stage0.onnx").unlink()
    with pytest.raises(SpicError, match="holds no stage0.onnx"):
        Bundle.open(copy).read("stage0.onnx")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(copy / MANIFEST, MANIFEST)
        archive.writestr("encoder_late_0.onnx", bytes(50 << 20))
    with pytest.raises(SpicError, match="truncated or altered"):
        Bundle.open(tmp_path / "bomb.zip").read("encoder_late_0.onnx")


def test_a_cut_archive_is_refused(exported, tmp_path):
    bundle = Bundle.open(exported)
    write(tmp_path / "b.zip", bundle.manifest, {name: bundle.read(name) for name in bundle.manifest.files})
    data = (tmp_path / "b.zip").read_bytes()
    for cut in (10, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.zip").write_bytes(data[:cut])
        with pytest.raises(SpicError):
            load(tmp_path / "cut.zip")


def test_manifest_survives_json(exported):
    manifest = Bundle.open(exported).manifest
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


# ---- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words,message", [
    (["--split_point", "S9"], "unknown split point"),
    (["--benchmark", "nothing"], "unknown benchmark"),
    (["--task", "segmentation", "--benchmark", "coco"], "as published, this is no split"),
    (["--data", "/nowhere"], "/nowhere"),
    (["--pictures", "0"], "not a whole number above 0"),
    (["--coder", "zip"], "invalid choice"),
])
def test_bad_input_is_one_line(words, message, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="needs onnxscript: pip install '.[export]'")
    try:
        code = main([*words, "--output", str(tmp_path / "b.zip")])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["full", "x.txt", "/proc/nowhere/b.zip"])
def test_outputs_that_cannot_be_are_refused_before_the_work(name, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="needs onnxscript: pip install '.[export]'")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert main(["--output", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
