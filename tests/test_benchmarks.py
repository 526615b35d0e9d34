"""Where networks get their weights: strict, never executing what a file holds, one clear line when something is off."""

import pickle
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from spic.benchmarks import BENCHMARKS, find
from spic.networks.weights import load_strictly, read_state_dict
from spic.errors import SpicError
from spic.networks import resnet50


class Malice:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_state_dict_is_read_from_both_formats(tmp_path):
    state = resnet50(0.125, 4).state_dict()
    torch.save(state, tmp_path / "w.pth")
    save_file(state, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        network = resnet50(0.125, 4)
        load_strictly(network, read_state_dict(tmp_path / name), name)
        assert torch.equal(network.conv1.weight, state["conv1.weight"])


def test_pickled_code_is_not_executed(tmp_path):
    with open(tmp_path / "evil.pth", "wb") as file:
        pickle.dump({"conv1.weight": Malice(tmp_path / "pwned")}, file)
    with pytest.raises(SpicError, match="not a readable state dict"):
        read_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04 truncated", b"x" * 100])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_named(tmp_path, content, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(SpicError, match=f"broken{suffix}: not a readable state dict"):
        read_state_dict(path)


def test_wrong_keys_are_named():
    state = resnet50(0.125, 4).state_dict()
    state["fc.weights"] = state.pop("fc.weight")
    state["conv1.weight"] = torch.zeros(1)
    message = (r"file: these weights do not fit the network \(1 missing: fc.weight; 1 unexpected: fc.weights; "
               r"1 of another shape: conv1.weight\)")
    with pytest.raises(SpicError, match=message):
        load_strictly(resnet50(0.125, 4), state, "file")


def test_a_failed_download_says_what_to_do(monkeypatch):
    benchmark = BENCHMARKS["classification", "imagenet"]

    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(type(benchmark.official), "get_state_dict", offline)
    with pytest.raises(SpicError, match="could not be downloaded.*--backbone_weights FILE"):
        benchmark.build_network()


def test_an_unknown_benchmark_lists_those_of_the_task():
    with pytest.raises(SpicError, match="unknown benchmark 'coco'; for classification there are: imagenet, scenes"):
        find("classification", "coco")
