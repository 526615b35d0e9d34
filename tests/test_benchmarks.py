"""Where networks get their weights: strict, never executing what a file holds, one clear line when something is off."""

import pickle
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from torchvision.models import ResNet50_Weights

from spic.benchmarks import benchmarks, find, of_points
from spic.networks.weights import load_strictly, read_state_dict
from spic.errors import SpicError
from spic.networks.narrow import resnet50
from spic.points import load_points


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
    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", offline)
    with pytest.raises(SpicError, match="could not be downloaded.*--backbone_weights FILE"):
        find("classification", "imagenet").build_network()


def test_an_unknown_benchmark_lists_those_of_the_task():
    with pytest.raises(SpicError, match="unknown benchmark 'coco'; for classification there are: imagenet, imagenette, photos, .*scenes"):
        find("classification", "coco")


def test_every_file_of_the_folder_is_found_and_complete():
    assert {("classification", "imagenet"), ("segmentation", "coco"), ("classification", "scenes"), ("segmentation", "scenes"),
            ("classification", "imagenette"), ("segmentation", "camvid")} <= set(benchmarks())
    for benchmark in benchmarks().values():
        assert len(benchmark.classes()) == benchmark.num_classes
        assert set(benchmark.cuts) == {"S1", "S2", "S3"} >= set(benchmark.geometry)


def test_every_point_of_the_project_belongs_to_a_benchmark():
    for point in load_points().values():
        benchmark = of_points([point])
        assert (benchmark.task, benchmark.name) == (point.task, point.benchmark)
        assert benchmark.cut_after(point)


POINT = "{step: 1, stride: 2, channels: 8, weights: w, table: t"


def points_of(tmp_path, text):
    path = tmp_path / "dict.yaml"
    path.write_text(text)
    return list(load_points(path).values())


def test_points_of_a_users_own_network_make_a_benchmark(tmp_path):
    (point,) = points_of(tmp_path, f"classification: {{own: {{deep: {{0: {POINT}, network: 'torchvision:mobilenet_v3_small', "
                         "cut: features.9}}}}")
    benchmark = of_points([point])
    assert (benchmark.num_classes, benchmark.image_size) == (1000, (224, 224))
    assert benchmark.cut_after(point) == "features.9" and benchmark.geometry_of(point) is None
    with pytest.raises(SpicError, match="own: say where the pictures are"):
        benchmark.open_data(None, None)


@pytest.mark.parametrize("entry,message", [
    ("}", "own is no benchmark of the project .*its points must name their `network:`"),
    (", network: 'torchvision:resnet81'}", "unknown network of torchvision 'resnet81'; the nearest are: .*resnet18"),
    (", network: 'torchvision:fcn_resnet50'}", "answers segmentation, not classification"),
    (", network: 'torchvision:resnet18'}", "nobody says where deep cuts torchvision:resnet18; name a node with `cut:`"),
])
def test_points_that_do_not_say_enough_are_one_clear_line(tmp_path, entry, message):
    (point,) = points_of(tmp_path, f"classification: {{own: {{deep: {{0: {POINT}{entry}}}}}}}")
    with pytest.raises(SpicError, match=message):
        of_points([point]).cut_after(point)


def test_points_of_two_networks_are_not_measured_together(tmp_path):
    points = points_of(tmp_path, f"classification: {{own: {{deep: {{0: {POINT}, network: a}}, 1: {POINT}, network: b}}}}}}}}")
    with pytest.raises(SpicError, match="belong to several networks .a, b."):
        of_points(points)
