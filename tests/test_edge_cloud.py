"""Two halves and a socket: `spic edge` against `spic cloud` answers what val.py counts."""

import base64
import io
import json
import subprocess

import numpy as np
import pytest
import torch
from cloud_cases import running
from PIL import Image

from spic.benchmarks import find
from spic.cloud.served import load_served
from spic.datasets.pictures import read_rgb
from spic.datasets.scenes.kinds import KINDS
from spic.edge.bundle import Bundle
from spic.edge.client import Away, Client
from spic.edge.command import main
from spic.evaluate import Settings, lay_roads
from spic.networks import trace
from spic.points import DICT_FILE, load_points

pytest.importorskip("urllib3", reason="needs urllib3: pip install '.[edge]'")
PICTURES = {"classification": 10, "segmentation": 2}
SPLIT = {"classification": "S3", "segmentation": "S3"}


@torch.inference_mode()
def predictions_of_val(task, point, paths):
    """Class numbers (or maps of them) that val.py scores for these files."""
    benchmark, (_, height, width) = find(task, "scenes"), (3, *find(task, "scenes").image_size)
    traced = trace(benchmark.build_network(), torch.zeros(1, 3, height, width)).to(memory_format=torch.channels_last)
    (stretch,) = lay_roads(benchmark, traced, [point], (height, width), Settings("rans"))
    images = torch.stack([benchmark.preparation(read_rgb(path))
                          for path in paths]).contiguous(memory_format=torch.channels_last)
    (road,) = stretch.roads
    return road.cloud.receive(road.edge.send(stretch.front(images)).frames).logits.argmax(1).numpy()


def run(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0
    *rows, last = map(json.loads, capsys.readouterr().out.splitlines())
    return rows, last["summary"]


def as_classes(answer):
    if "top" in answer:
        return np.array(answer["top"][0]["class"])
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["map"]))))


@pytest.mark.parametrize("task", PICTURES)
def test_a_dozen_pictures_are_answered_as_val_counts_them(task, tmp_path, capsys):
    point = load_points()[task, "scenes", SPLIT[task], 1].with_tables(None)
    for number in range(PICTURES[task]):
        (tmp_path / f"{number}.jpg").write_bytes(KINDS[task].jpeg(0, "val", number))
    paths = sorted(tmp_path.iterdir())
    with running(load_served([point], ["huffman", "rans"], torch.device("cpu"))) as client:
        rows, summary = run(capsys, DICT_FILE, f"127.0.0.1:{client.port}", tmp_path, "--task", task, "--split_point",
                            SPLIT[task],
                            "--compress_factor", 1, "--batch", 4)
        assert client.metric("spic_pictures_total") == len(paths)
    assert [row["picture"] for row in rows] == [str(path) for path in paths] and summary["answered"] == len(paths)
    pairs = zip(rows, predictions_of_val(task, point, paths), strict=True)
    same = [np.mean(as_classes(row["answer"]) == expected) for row, expected in pairs]
    least = 0.9999 if task == "segmentation" else 1.0  # rounding may turn one pixel of ten thousand
    assert np.mean(same) >= least


@pytest.mark.parametrize("asked", ["shared", "position"])
def test_an_edge_with_other_tables_than_the_cloud_s_is_refused(asked, tmp_path, capsys):
    point = load_points()["classification", "scenes", "S1", 1].with_tables(None)
    (tmp_path / "0.jpg").write_bytes(KINDS["classification"].jpeg(0, "val", 0))
    with running(load_served([point], ["rans"], torch.device("cpu"))) as client:
        words = [DICT_FILE, f"127.0.0.1:{client.port}", tmp_path, "--split_point", "S1", "--compress_factor", 1]
        assert main([*map(str, [*words, "--tables", asked])]) == 2
        assert "another table there" in capsys.readouterr().err
        assert run(capsys, *words, "--tables", point.tables)[1]["answered"] == 1
        assert client.metric("spic_pictures_total") == 1


@pytest.fixture(scope="module")
def mine(exported):
    """The cloud halves of the points of the bundle."""
    return load_served(list(load_points(exported.parent / "dict.yaml").values()), ["rans", "huffman"], torch.device("cpu"))


def test_a_bundle_over_a_real_cloud_with_a_token(exported, mine, tmp_path, capsys, monkeypatch):
    """The edge by ONNX gives the answers of the edge by torch, at every point that both sides hold."""
    points = list(load_points(exported.parent / "dict.yaml").values())
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(KINDS["classification"].jpeg(0, "val", number))
    monkeypatch.setenv("SPIC_TOKEN", "a secret of this test")
    with running(mine, token="a secret of this test") as client:
        for point in points:
            chosen = ["--split_point", point.split_point, "--compress_factor", point.compress_factor]
            by_onnx, _ = run(capsys, exported, f"127.0.0.1:{client.port}", tmp_path, *chosen)
            by_torch, _ = run(capsys, exported.parent / "dict.yaml", f"127.0.0.1:{client.port}", tmp_path, *chosen,
                              "--benchmark", "mine")
            first, second = ([row["answer"]["top"][0]["class"] for row in rows] for rows in (by_onnx, by_torch))
            assert first == second
        monkeypatch.setenv("SPIC_TOKEN", "another one")
        assert main([str(exported), f"127.0.0.1:{client.port}", str(tmp_path), *map(str, chosen)]) == 2
        assert "refuses this token" in capsys.readouterr().err


def test_over_tls_the_certificate_counts(exported, mine, tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days",
                        "1", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs openssl to make a certificate ({error})")
    headers = [Bundle.open(exported).header(point) for point in Bundle.open(exported).points]
    with running(mine, tls=(cert, key)) as client:
        Client(f"https://localhost:{client.port}", ca=cert).require(headers)
        with pytest.raises(Away, match="certificate"):
            Client(f"https://localhost:{client.port}").require(headers)
