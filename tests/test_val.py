"""The real commands, end to end, on the embedded benchmark with the shipped weights."""

import csv
import json
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

from spic.networks import resnet50
from spic.points import ROOT
from spic.val import main

KEYS = {"task", "benchmark", "split_point", "compress_factor", "coder", "device", "images", "bpp", "bpp_wire",
        "bpp_bound", "bytes_per_image", "escapes", "uncoded_values_per_image", "seconds", "versions"}
SCORES = {"classification": {"top1", "top5", "baseline_top1", "baseline_top5"}, "segmentation": {"miou", "baseline_miou"}}


def run(task, tmp_path, *arguments, limit=40):
    output = tmp_path / "out.json"
    code = main(task, ["--limit", str(limit), "--workers", "0", "--output", str(output), *arguments])
    assert code == 0
    return json.loads(output.read_text())


@pytest.mark.parametrize("folder,task", [("Classification", "classification"), ("Segmentation", "segmentation")])
def test_the_command_of_the_readme(folder, task, tmp_path):
    output, rows = tmp_path / "point.json", tmp_path / "images.csv"
    command = [sys.executable, "val.py", "--split_point", "S1", "--compress_factor", "1", "--limit", "10",
               "--batch_size", "4", "--output", output, "--per_image", rows]
    done = subprocess.run(command, cwd=ROOT / folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(f"scenes benchmark, {task}")
    result = json.loads(output.read_text())
    assert KEYS | SCORES[task] <= set(result)
    assert result["images"] == 10
    with open(rows) as file:
        table = list(csv.DictReader(file))
    assert len(table) == 10
    assert sum(int(row["payload_bytes"]) for row in table) == result["bytes_per_image"] * 10


def test_the_last_partial_batch_counts_and_batch_size_does_not_matter(tmp_path):
    results = [run("classification", tmp_path, "--split_point", "S1", "--batch_size", size, limit=25) for size in "74"]
    assert results[0]["images"] == 25
    for key in ("top1", "top5", "baseline_top1"):
        assert results[0][key] == results[1][key]
    assert results[0]["bpp"] == pytest.approx(results[1]["bpp"], rel=1e-3)


def test_both_coders_give_the_same_predictions_and_rans_fewer_bits(tmp_path):
    huffman, rans = (run("classification", tmp_path, "--split_point", "S3", "--compress_factor", "1", "--coder", coder)
                     for coder in ("huffman", "rans"))
    assert huffman["top1"] == rans["top1"]
    assert huffman["escapes"] == rans["escapes"]
    assert rans["bpp"] < huffman["bpp"]
    assert rans["bytes_per_image"] * 8 <= rans["bpp_bound"] * 224 * 224 + 8
    assert huffman["bpp_wire"] > huffman["bpp"]


def test_several_points_in_one_pass_give_the_results_of_single_runs(tmp_path):
    code = main("classification", ["--split_point", "S1", "S3", "--compress_factor", "0", "1", "--limit", "20",
                                   "--workers", "0", "--output", str(tmp_path / "all")])
    assert code == 0
    for split, factor in (("S1", "0"), ("S3", "1")):
        together = json.loads((tmp_path / "all" / f"{split}_{factor}.json").read_text())
        single = run("classification", tmp_path, "--split_point", split, "--compress_factor", factor, limit=20)
        for key in ("top1", "top5", "bpp", "bpp_wire", "bpp_bound", "escapes"):
            assert together[key] == single[key]


@pytest.mark.parametrize("arguments,message", [
    (["--split_point", "S9"], "unknown split point 'S9'"),
    (["--compress_factor", "77"], "unknown compress factor '77'"),
    (["--benchmark", "mars"], "unknown benchmark 'mars'; for classification there are: imagenet"),
    (["--coder", "zip"], "unknown coder 'zip'"),
    (["--gpu", "True"], "no GPU"),
    (["--valdir", "nowhere"], "nowhere"),
    (["--output", "/proc/nowhere/out.json"], "cannot be written"),
    (["--backbone_weights", "nowhere.pth"], "nowhere.pth: no such file"),
])
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    if arguments[0] == "--gpu" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main("classification", arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert message in error[0]


def test_gpu_false_means_no_gpu(tmp_path):
    assert run("classification", tmp_path, "--gpu", "False", limit=2)["device"] == "cpu"


def test_a_published_point_that_is_not_imported_names_the_command(tmp_path, capsys):
    (tmp_path / "val" / "n01440764").mkdir(parents=True)
    Image.new("RGB", (300, 280), (90, 120, 40)).save(tmp_path / "val" / "n01440764" / "one.jpg")
    torch.save(resnet50().state_dict(), tmp_path / "backbone.pth")
    shutil.copy(ROOT / "dict.yaml", tmp_path)
    code = main("classification", ["--valdir", str(tmp_path), "--points", str(tmp_path / "dict.yaml"),
                                   "--backbone_weights", str(tmp_path / "backbone.pth")])
    assert code == 2
    assert "python -m spic.published --source" in capsys.readouterr().err
