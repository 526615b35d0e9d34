"""Points between others: the same weights with another step and a table of its own, from dict.yaml to edge and cloud."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from edge_cases import Server, draw, serving, stub

from spic.benchmarks import of_points
from spic.coding import FrequencyTable
from spic.datasets.pictures import read_rgb
from spic.edge.bundle import Bundle
from spic.edge.command import main
from spic.edge.network import TorchHalf
from spic.edge.rate import REQUEST_BYTES, WithinBudget
from spic.edge.runtime import OnnxHalf
from spic.files import record_checksums
from spic.pipeline import load_clouds, load_edges
from spic.points import load_points, record_point
from spic.quantize import quantize

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install '.[edge]'")
BETWEEN = {2: 0.4, 3: 0.15}
"""Compress factor → step of the new points, beside 0.25 of late/0."""


def add_points(root):
    """The points of BETWEEN, with tables counted on the pictures that the others were counted on."""
    first = load_points(root / "dict.yaml")["classification", "mine", "late", 0]
    (edge,) = load_edges([first], "rans")
    images = torch.stack([of_points([first]).preparation(read_rgb(path)) for path in sorted((root / "counted").glob("*.jpg"))])
    with torch.no_grad():
        encoded = edge.encoder(edge.front(images))
    for factor, step in BETWEEN.items():
        table = first.table.with_name(f"late_{factor}.json")
        FrequencyTable.from_symbols(quantize(encoded, step), step).save(table)
        record_checksums("mine", [table], root)
        record_point(root / "dict.yaml", ("classification", "mine", "late", factor), {
            "step": step, "stride": first.stride, "channels": first.channels, "network": first.network, "cut": first.cut,
            **{name: str(path.relative_to(root)) for name, path in (("weights", first.weights), ("table", table))}})


@pytest.fixture(scope="module")
def between(exported, tmp_path_factory):
    """(the points of one weights file, the bundle of them and another point)."""
    from spic.export.command import export

    root = tmp_path_factory.mktemp("between") / "root"
    shutil.copytree(exported.parent, root, ignore=shutil.ignore_patterns("bundle"))
    add_points(root)
    points = load_points(root / "dict.yaml")
    chosen = [points["classification", "mine", "late", factor] for factor in (0, 1, 2, 3)]
    export(chosen, root / "bundle.zip", data=root / "counted", pictures=4, cloud=True)
    return [point for point in chosen if point.compress_factor != 1], root / "bundle.zip"


def test_a_bundle_holds_their_encoder_once_and_a_quantiser_for_each(between):
    bundle = Bundle.open(between[1])
    files = [name for name in bundle.manifest.files if name.startswith(("encoder", "quantiser", "table"))]
    assert sorted(files) == ["encoder_late_0.onnx", "encoder_late_1.onnx", *(f"quantiser_late_{n}.onnx" for n in (0, 2, 3)),
                             *(f"table_late_{n}.json" for n in range(4))]
    half = OnnxHalf(bundle, bundle.points)
    first, other, *rest = half._chains
    assert len(half._sessions) == 1 + 2 + 3
    assert all(chain[0] is other[0] and chain[1] is first[1] and chain[2] is not first[2] for chain in rest)
    for point in bundle.points:
        assert point.measured["symbols_equal"] >= 0.9999 and point.measured["within_one_step"] == 1


def test_edges_and_clouds_of_torch_hold_their_halves_once(between):
    edges, clouds = load_edges(between[0], "rans"), load_clouds(between[0], ["rans", "huffman"])
    assert len({id(edge.front) for edge in edges}) == len({id(edge.encoder) for edge in edges}) == 1
    assert len({id(cloud.back) for cloud in clouds}) == len({id(cloud.decoder) for cloud in clouds}) == 1
    assert len({edge.step for edge in edges}) == len({edge.table.digest for edge in edges}) == 3


def test_a_decoder_of_another_form_from_the_same_file_is_another_one(between):
    one, other = between[0][0], replace(between[0][1], activation="none")
    first, second = load_clouds([one, other], ["rans"])
    assert first.decoder is not second.decoder and first.back is second.back


@torch.inference_mode()
def test_each_step_gives_its_own_symbols_that_its_own_cloud_decodes(between, tmp_path):
    points, path = between
    bundle = Bundle.open(path)
    half, by_torch = OnnxHalf(bundle, [point for point in bundle.points if not point.name.endswith("/1")]), TorchHalf(points, "rans")
    image = half.preparation.array(read_rgb(draw(tmp_path, 1, 40)[0]))
    sizes = []
    for number, (edge, cloud) in enumerate(zip(load_edges(points, "rans"), load_clouds(points, ["rans"]), strict=True)):
        symbols = half.symbols(number, image)
        assert (symbols == by_torch.symbols(number, image)).mean() > 0.99
        (payload,) = edge.coder.encode(symbols)
        assert (cloud.symbols([payload]).numpy() == symbols).all()
        sizes.append(len(payload))
    assert sizes[1] < sizes[0] < sizes[2], "the smaller the step, the more bytes"


def test_a_budget_takes_the_point_between(between, tmp_path, capsys):
    bundle = Bundle.open(between[1])
    half = OnnxHalf(bundle, [bundle.points[0], *bundle.points[2:]])
    points = [replace(point, quality=90.0) for point in half.points]  # four pictures say nothing of which is better
    sizes = [point.payload_bytes for point in points]
    assert sizes[1] < sizes[0] < sizes[2]
    for wanted, size in enumerate(sizes):
        choice = WithinBudget(points, [0.0] * 3, 0.008 * (size + REQUEST_BYTES + 0.1), lambda: 0.0, lambda seconds: None)
        assert choice.choose(0) == wanted
    draw(tmp_path, 2)
    with serving(Server([point.header for point in points], stub)) as address:
        assert main([str(between[1]), address, str(tmp_path), "--compress_factor", "0", "2", "3", "--json", "--budget_kbps",
                     "1000"]) == 0
    *rows, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(rows) == 2 and {row["point"] for row in rows} <= {point.name for point in points}


def test_the_same_name_with_another_step_says_both_sides(between, tmp_path, capsys):
    """The edge has late/2; the server's late/2 was made with another step, so that its table is another one."""
    bundle = Bundle.open(between[1])
    mine = bundle.header(bundle.points[2])
    theirs = replace(mine, table=bundle.points[3].digest)
    draw(tmp_path, 1)
    with serving(Server([theirs], stub)) as address:
        assert main([str(between[1]), address, str(tmp_path), "--compress_factor", "2"]) == 2
    told = capsys.readouterr().err
    assert mine.table in told and theirs.table in told and "another table" in told and told.count("\n") == 1
