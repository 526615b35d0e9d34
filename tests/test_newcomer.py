"""How many files a newcomer touches: a benchmark is one file, a network and a split point are words on the command line."""

import json

import numpy as np
import pytest
from PIL import Image

import spic.benchmarks
from spic.benchmarks import benchmarks, find
from spic.errors import SpicError
from spic.training.curve import Pictures, open_pictures
from spic.tryout import main as try_out
from spic.training.command import main as train
from spic.val import main as val

ONE_FILE = '''
from spic.benchmarks.benchmark import Benchmark
from spic.datasets.folder import open_folder
from spic.datasets.images import Preparation

PREPARATION = Preparation(40, 32)
BENCHMARKS = (
    Benchmark("classification", "mine", "narrow:resnet50/0.125", 3, PREPARATION,
              lambda data, limit: open_folder(data, PREPARATION, 3, limit), lambda: ("a", "b", "c"), (), {"S1": "layer4.2"}),
)
'''


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(rng.integers(0, 255, (48, 48, 3), np.uint8)).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


def test_a_benchmark_is_one_file(tmp_path, monkeypatch, pictures):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "mine_alone.py").write_text(ONE_FILE)
    monkeypatch.setattr(spic.benchmarks, "__path__", [*spic.benchmarks.__path__, str(folder)])
    benchmarks.cache_clear()
    try:
        mine = find("classification", "mine")
        assert len(mine.open_data(pictures, None)) == 12 and mine.build_network("random").fc.out_features == 3
        with pytest.raises(SpicError, match="mine: says nothing of training pictures for classification"):
            open_pictures(mine, Pictures(pictures), labelled=False)
    finally:
        benchmarks.cache_clear()


NETWORK = '''
from torch import nn
from spic.datasets.images import Preparation

CLASSES = ("a", "b", "c")
PREPARATION = Preparation(40, 32)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8))
        self.body = nn.Conv2d(8, 16, 3, 2, 1)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).relu().mean((2, 3)))


def make():
    return Net()
'''


def test_a_network_and_a_split_point_are_words_on_the_command_line(tmp_path, pictures, capsys):
    """From a file of the user's own to a trained, measured and shown point, by name and cut alone."""
    (tmp_path / "net.py").write_text(NETWORK)
    network = f"{tmp_path / 'net.py'}:make"
    mine = tmp_path / "mine"
    weights = ["--backbone_weights", str(save_weights(tmp_path, network))]
    assert train("classification", ["--network", network, "--cut", "stem", "--split_point", "middle", "--data", str(pictures),
                                    "--channels", "4", "--steps", "6", "--batch_size", "4", "--output", str(mine), *weights]) == 0
    common = ["--points", str(mine / "dict.yaml"), "--benchmark", "own", "--split_point", "middle", *weights]
    assert val("classification", [*common, "--data", str(pictures), "--workers", "0", "--output", str(tmp_path / "r.json")]) == 0
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["images"] == 12 and set(record["scores"]) == {"top1", "top5", "agreement", "divergence"}
    assert "activation: \"none\"" in (mine / "dict.yaml").read_text(), "the stem's feature takes negative values"
    photo = next(pictures.rglob("*.png"))
    assert try_out([str(photo), *common, "--compress_factor", "0", "--output", str(tmp_path / "t.png")]) == 0
    assert "cut after stem" in capsys.readouterr().out


def save_weights(folder, network):
    from safetensors.torch import save_file

    from spic.networks import zoo

    save_file(zoo.find(network).build(weights="random").state_dict(), folder / "net.safetensors")
    return folder / "net.safetensors"
