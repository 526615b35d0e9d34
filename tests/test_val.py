"""The real commands, end to end, on the embedded benchmark with the shipped weights."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from spic.coding.counting import KINDS
from spic.curves.samples import Rows
from spic.files import record_checksums
from spic.networks.narrow import resnet50
from spic.points import ROOT, beside, load_points
from spic.record import read_results
from spic.val import default_coder, main

KEYS = {"task", "benchmark", "split_point", "compress_factor", "coder", "device", "images", "bpp", "bpp_wire", "scores",
        "baseline", "bpp_table", "bytes_per_image", "tables", "escapes", "uncoded_values_per_image", "seconds", "versions"}
SCORES = {"classification": {"top1", "top5", "agreement", "divergence"}, "segmentation": {"miou", "agreement", "divergence"}}


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
    assert KEYS <= set(result) and SCORES[task] == set(result["scores"]) == set(result["baseline"])
    assert result["images"] == 10
    with open(rows) as file:
        table = list(csv.DictReader(file))
    assert len(table) == 10
    assert sum(int(row["payload_bytes"]) for row in table) == result["bytes_per_image"] * 10
    (record,) = read_results([output]).records
    samples = Rows([tmp_path]).of(record)
    for summands, scores in ((samples.own, record.scores), (samples.plain, record.baseline)):
        first = record.of.scores[0].key
        assert record.of.score_of_sums(summands.sum(0), 10) == pytest.approx(scores[first]), "any images can be scored again"
    assert samples.wire.mean() / samples.payload.mean() == pytest.approx(record.bpp_wire / record.bpp)


def test_several_points_are_told_in_one_table(tmp_path, capsys):
    arguments = ["--limit", "10", "--workers", "0", "--compress_factor", "all", "--output", str(tmp_path)]
    assert main("classification", ["--split_point", "S1", "S2", *arguments]) == 0
    told = capsys.readouterr().out.splitlines()
    records = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("S1_0.context", "S2_5.context")]
    header = next(i for i, line in enumerate(told) if line.startswith("split"))
    assert told[header - 3].endswith("rans, context tables, 10 images, cpu") and max(map(len, told)) <= 80 and len(told) == header + 13
    for row, record in zip((told[header + 1], told[-1]), records):
        assert row.split()[:3] == [record["split_point"], str(record["compress_factor"]), f"{record['scores']['top1']:.2f}"]
        assert f"{record['bpp']:.5f}" in row.split()


def test_the_last_partial_batch_counts_and_batch_size_does_not_matter(tmp_path):
    results = [run("classification", tmp_path, "--split_point", "S1", "--batch_size", size, limit=25) for size in "74"]
    assert results[0]["images"] == 25
    for key in ("scores", "baseline"):
        a, b = (result[key] for result in results)
        assert a.pop("divergence", 0.0) == pytest.approx(b.pop("divergence", 0.0), abs=1e-5)  # of logits, not of answers
        assert a == b
    assert results[0]["bpp"] == pytest.approx(results[1]["bpp"], rel=1e-3)


def test_both_coders_give_the_same_predictions_and_rans_fewer_bits(tmp_path):
    huffman, rans = (run("classification", tmp_path, "--split_point", "S3", "--compress_factor", "1", "--coder", coder)
                     for coder in ("huffman", "rans"))
    assert huffman["scores"] == rans["scores"]
    assert huffman["escapes"] == rans["escapes"]
    assert rans["bpp"] < huffman["bpp"]
    assert rans["bytes_per_image"] * 8 <= rans["bpp_table"] * 224 * 224 + 8
    assert huffman["bpp_wire"] > huffman["bpp"]


def test_the_published_points_are_coded_as_published_and_others_by_rans():
    points = load_points()
    published, ours = points["classification", "imagenet", "S1", 0], points["classification", "scenes", "S1", 0]
    alike = points["classification", "photos", "US1", 0]  # a shared table is its default, too
    for chosen, coder in (([published], "huffman"), ([published.with_tables("channel")], "rans"), ([ours.with_tables(None)], "rans"),
                          ([ours], "rans"), ([alike.with_tables(None)], "rans"), ([published, ours], "rans")):
        assert default_coder(chosen) == coder


@pytest.mark.parametrize("coder", ["huffman", "rans"])
def test_tables_change_the_bits_and_nothing_else(coder, tmp_path):
    """Shipped points; one folder holds the results of all kinds of tables."""
    arguments = ["--split_point", "S1", "S3", "--compress_factor", "2", "--limit", "40", "--workers", "0", "--coder", coder]
    outputs = ["--output", str(tmp_path / "out"), "--per_image", str(tmp_path / "rows")]
    for tables in KINDS:
        assert main("classification", [*arguments, *outputs, "--tables", tables]) == 0
    for split_point in ("S1", "S3"):
        paths = [tmp_path / "out" / beside(Path(f"{split_point}_2.json"), kind) for kind in KINDS]
        rows = [answers(tmp_path / "rows" / f"{path.stem}.csv") for path in paths]
        assert all(row == rows[0] for row in rows)
        records = [json.loads(path.read_text()) for path in paths]
        assert tuple(record["tables"] for record in records) == KINDS
        for key in ("scores", "baseline", "images"):
            assert all(record[key] == records[0][key] for record in records)
        shared, channel, position, context = records
        assert context["bpp_table"] < 0.95 * position["bpp_table"]
        assert position["bpp_table"] < 0.95 * shared["bpp_table"] and channel["bpp_table"] < 1.01 * shared["bpp_table"]
        assert position["bpp"] < (0.95 if coder == "rans" else 1.01) * shared["bpp"]


def test_a_strength_saves_bits_and_0_changes_nothing(tmp_path):
    arguments = ["--coder", "rans", "--tables", "context", "--split_point", "S3", "--compress_factor", "2"]
    nearest, zero, chosen = (run("classification", tmp_path, *arguments, *rdo)
                             for rdo in ((), ("--rdo", "0"), ("--rdo", "0.2")))
    assert [zero[key] for key in ("bpp", "bpp_table", "scores", "inputs")] == [
        nearest[key] for key in ("bpp", "bpp_table", "scores", "inputs")]
    assert chosen["bpp"] < 0.9 * nearest["bpp"] and chosen["inputs"]["rdo"] == 0.2
    assert chosen["scores"]["top1"] > nearest["scores"]["top1"] - 15


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
    assert "classification_0.channel.json: no such file; count it by: spic recount" in error[0]


def test_several_points_in_one_pass_give_the_results_of_single_runs(tmp_path):
    code = main("classification", ["--split_point", "S1", "S3", "--compress_factor", "0", "1", "--limit", "20",
                                   "--workers", "0", "--output", str(tmp_path / "all")])
    assert code == 0
    for split, factor in (("S1", "0"), ("S3", "1")):
        together = json.loads((tmp_path / "all" / f"{split}_{factor}.context.json").read_text())
        single = run("classification", tmp_path, "--split_point", split, "--compress_factor", factor, limit=20)
        for key in ("scores", "baseline", "bpp", "bpp_wire", "bpp_table", "escapes"):
            assert together[key] == single[key]


@pytest.mark.parametrize("arguments,message", [
    (["--split_point", "S9"], "unknown split point 'S9'"),
    (["--split_point", "S1", "all", "S9"], "unknown split point 'S9'"),
    (["--compress_factor", "77"], "unknown compress factor '77'"),
    (["--compress_factor", "all", "99"], "unknown compress factor '99'"),
    (["--benchmark", "mars"], "unknown benchmark 'mars'; for classification there are: imagenet"),
    (["--benchmark", ""], "unknown benchmark ''"),
    (["--gpu", "True"], "no GPU"),
    (["--valdir", "nowhere", "--benchmark", "imagenette"], "nowhere"),
    (["--valdir", "nowhere", "--benchmark", "scenes"], "nowhere: the scenes are drawn"),
    (["--output", "/proc/nowhere/out.json"], "cannot be"),
    (["--output", "out.json", "--compress_factor", "all"], "6 points were asked for, each gets a file of its own"),
    (["--backbone_weights", "nowhere.pth"], "nowhere.pth: no such file"),
    (["--workers", "999999999", "--limit", "3"], "--workers 999999999: this machine has"),
])
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    if arguments[0] == "--gpu" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main("classification", arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert message in error[0]


@pytest.mark.parametrize("arguments,message", [
    (["--coder", "zip"], "invalid choice: 'zip'"),
    (["--batch_size", "9" * 20], "is not a whole number from 0"),
    (["--seed", "9" * 20], "is not a whole number from 0"),
    (["--limit", "0"], "not a whole number above 0"),
    (["--output", ""], "name a file or a folder"),
    (["--output", "x.txt"], "neither a .json or .csv file nor"),
    (["--compress", "1"], "unrecognized arguments: --compress"),
    *((["--rdo", strength], "is not a number from 0 (off) on") for strength in ("-1", "inf", "nan", "much", "")),
])
def test_a_wrong_command_ends_in_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main("classification", arguments)
    error = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(error) == 1 and message in error[0]


def test_record_and_rows_may_not_be_one_file(tmp_path, capsys):
    both = str(tmp_path / "both.json")
    assert main("classification", ["--limit", "3", "--output", both, "--per_image", both]) == 2
    assert "both.json" in capsys.readouterr().err


def test_rows_of_other_pictures_do_not_count_as_done(tmp_path, capsys):
    """A record and rows that were written by different calls do not belong together."""
    arguments = ["--split_point", "S1", "--compress_factor", "1", "--workers", "0", "--output", str(tmp_path / "out")]
    assert main("classification", [*arguments, "--limit", "4", "--per_image", str(tmp_path / "rows")]) == 0
    old = (tmp_path / "rows" / "S1_1.context.csv").read_text()
    assert main("classification", [*arguments, "--limit", "6"]) == 0
    capsys.readouterr()
    assert main("classification", [*arguments, "--limit", "6", "--per_image", str(tmp_path / "rows")]) == 0
    assert "finished before" not in capsys.readouterr().out
    new = (tmp_path / "rows" / "S1_1.context.csv").read_text()
    assert (old.count("\n"), new.count("\n")) == (5, 7)
    assert main("classification", [*arguments, "--limit", "6", "--per_image", str(tmp_path / "rows")]) == 0
    assert "finished before" in capsys.readouterr().out


def test_another_backbone_is_not_finished_before(tmp_path, capsys):
    """The shipped network's file is replaced between two calls with the same --output."""
    root = tmp_path / "root"
    for folder in ("Weights/scenes", "Freq_tab/scenes"):
        shutil.copytree(ROOT / folder, root / folder)
    shutil.copy(ROOT / "dict.yaml", root)
    weights = root / "Weights/scenes/classification.safetensors"
    state = load_file(weights)
    program = ("import sys; from spic.val import main; sys.exit(main('classification', ['--limit', '4', '--workers', '0', "
               f"'--output', {str(tmp_path / 'out')!r}]))")
    def run_once():
        done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "SPIC_ROOT": str(root)}, capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout
    run_once()
    assert "finished before" in run_once()
    state["fc.weight"] = -state["fc.weight"]
    save_file(state, weights)
    record_checksums("scenes", [weights], root)
    assert "finished before" not in run_once()


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
