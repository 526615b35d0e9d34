"""torchrun with 2 and 3 processes gives exactly the single-process result, whatever the data-set size."""

import csv
import json
import subprocess
import sys

import pytest

from spic.points import ROOT

ARGUMENTS = ["val.py", "--split_point", "S1", "--compress_factor", "1", "--limit", "13", "--batch_size", "3",
             "--workers", "0"]


def measure(tmp_path, name, *launcher):
    output, rows = tmp_path / f"{name}.json", tmp_path / f"{name}.csv"
    command = [sys.executable, *launcher, *ARGUMENTS, "--output", output, "--per_image", rows]
    done = subprocess.run(command, cwd=ROOT / "Classification", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top-1 accuracy") == 1
    with open(rows) as file:
        return json.loads(output.read_text()), list(csv.DictReader(file))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return measure(tmp_path_factory.mktemp("single"), "single")


@pytest.mark.parametrize("processes", [2, 3])
def test_the_result_does_not_depend_on_the_number_of_processes(processes, single, tmp_path):
    result, rows = measure(tmp_path, "many", "-m", "torch.distributed.run", "--standalone",
                           f"--nproc_per_node={processes}")
    expected, expected_rows = single
    for key in ("images", "baseline", "bpp", "bpp_wire", "bpp_table", "escapes", "bytes_per_image"):
        assert result[key] == expected[key], key
    # the divergence is of logits, whose last digits are those of the batch they were computed in
    assert result["scores"] == {**expected["scores"], "divergence": pytest.approx(expected["scores"]["divergence"], abs=1e-5)}
    assert [row["image"] for row in rows] == [row["image"] for row in expected_rows]
