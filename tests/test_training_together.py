"""torchrun on a training: two processes take the steps of one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORK = """
import sys, torch
sys.path.insert(0, {tests!r})
from test_training_fit import *
from spic import parallel
parallel.start()
torch.manual_seed(0)
back = cut(resnet50(0.125, 5).eval(), "layer4.0", torch.zeros(1, 3, 96, 96))[1]
torch.manual_seed(1)
labels = torch.arange(83) % 5
features = torch.randn(83, CHANNELS, 3, 3).relu()
bottleneck = new_bottleneck()
fit(bottleneck, back, FeatureSet(features, labels.to(torch.int16), (96, 96)), options(steps=8, rate={rate!r}),
    LOSS, log=Path({log!r}))
if parallel.rank() == 0:
    torch.save(bottleneck.state_dict(), {weights!r})
parallel.stop()
"""


def train(folder: Path, rate: str, processes: int):
    log, weights, script = folder / f"{processes}.jsonl", folder / f"{processes}.pt", folder / f"{processes}.py"
    tests = str(Path(__file__).parent)
    script.write_text(WORK.format(tests=tests, rate=rate, log=str(log), weights=str(weights)).replace(
        "import sys, torch", "import sys, torch\nfrom pathlib import Path"))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    done = subprocess.run([sys.executable, *launcher, script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 8, "each step is logged once, by one process"
    return lines, torch.load(weights, weights_only=True)


@pytest.mark.parametrize("rate", ["table", "l1", "context"])
def test_two_processes_train_what_one_trains(tmp_path, rate):
    (one, weights), (two, others) = train(tmp_path, rate, 1), train(tmp_path, rate, 2)
    for a, b in zip(one, two):
        assert a["distortion"] == pytest.approx(b["distortion"], rel=0.02)
        assert a["bpp"] == pytest.approx(b["bpp"], rel=0.02)
    for name, value in weights.items():
        if value.is_floating_point():
            torch.testing.assert_close(others[name], value, rtol=0.05, atol=0.02, msg=name)
