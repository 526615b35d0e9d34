"""The real commands, end to end, on the embedded benchmark with the shipped weights."""

import csv
import json
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

from spic.coding.tables import KINDS
from spic.networks import resnet50
from spic.points import ROOT
from spic.val import main

KEYS = {"task", "benchmark", "split_point", "compress_factor", "coder", "device", "images", "bpp", "bpp_wire",
        "bpp_bound", "bytes_per_image", "tables", "escapes", "uncoded_values_per_image", "seconds", "versions"}
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


def test_several_points_are_told_in_one_table(tmp_path, capsys):
    arguments = ["--limit", "10", "--workers", "0", "--compress_factor", "all", "--output", str(tmp_path)]
    assert main("classification", ["--split_point", "S1", "S2", *arguments]) == 0
    told = capsys.readouterr().out.splitlines()
    records = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("S1_0", "S2_5")]
    header = next(i for i, line in enumerate(told) if line.startswith("split"))
    assert told[header - 3].endswith("huffman, 10 images, cpu") and len(told) == header + 13
    for row, record in zip((told[header + 1], told[-1]), records):
        assert row.split()[:3] == [record["split_point"], str(record["compress_factor"]), f"{record['top1']:.2f}"]
        assert f"{record['bpp']:.5f}" in row.split()


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


@pytest.mark.parametrize("coder", ["huffman", "rans"])
def test_tables_change_the_bits_and_nothing_else(coder, tmp_path):
    """Shipped points; one folder holds the results of all three kinds of tables."""
    arguments = ["--split_point", "S1", "S3", "--compress_factor", "2", "--limit", "40", "--workers", "0", "--coder", coder]
    outputs = ["--output", str(tmp_path / "out"), "--per_image", str(tmp_path / "rows")]
    for tables in KINDS:
        assert main("classification", [*arguments, *outputs, "--tables", tables]) == 0
    for split_point in ("S1", "S3"):
        shared, *particular = (tmp_path / "out" / f"{split_point}_2{mark}.json" for mark in ("", ".channel", ".position"))
        rows = [answers(tmp_path / "rows" / f"{path.stem}.csv") for path in (shared, *particular)]
        assert rows[0] == rows[1] == rows[2]
        shared, channel, position = (json.loads(path.read_text()) for path in (shared, *particular))
        assert (shared["tables"], channel["tables"], position["tables"]) == KINDS
        for key in ("top1", "top5", "baseline_top1", "images"):
            assert shared[key] == channel[key] == position[key]
        assert position["bpp_bound"] < 0.95 * shared["bpp_bound"] and channel["bpp_bound"] < 1.01 * shared["bpp_bound"]
        assert position["bpp"] < (0.95 if coder == "rans" else 1.01) * shared["bpp"]


def answers(path):
    """Image and prediction of every row."""
    with open(path) as file:
        return [(row["image"], row["prediction"]) for row in csv.DictReader(file)]


def test_a_finished_result_is_of_one_kind_of_table(tmp_path, capsys):
    """A record that lies about its kind, or was counted with another table, is measured again."""
    arguments = ["--split_point", "S1", "--compress_factor", "1", "--limit", "3", "--workers", "0",
                 "--output", str(tmp_path), "--tables", "channel"]
    assert main("classification", arguments) == 0
    file = tmp_path / "S1_1.channel.json"
    capsys.readouterr()
    assert main("classification", arguments) == 0 and "finished before" in capsys.readouterr().out
    file.write_text(json.dumps({**json.loads(file.read_text()), "tables": "shared"}))
    assert main("classification", arguments) == 0 and "finished before" not in capsys.readouterr().out
    assert json.loads(file.read_text())["tables"] == "channel"


def test_a_table_that_was_not_counted_names_the_command(tmp_path, capsys):
    (tmp_path / "Weights/scenes").mkdir(parents=True)
    for name in ("dict.yaml", "Weights/scenes/checksums.json"):
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("Weights/scenes/S1", "Freq_tab/scenes/S1"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.channel.json"))
    code = main("classification", ["--points", str(tmp_path / "dict.yaml"), "--tables", "channel", "--limit", "2"])
    error = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(error) == 1
    assert "classification_0.channel.json: no such file; count it by: python -m spic.training.recount" in error[0]


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
    assert "spic import --source" in capsys.readouterr().err
