"""A name becomes a network, or one line that says what is near."""

import pytest
import torch
from torch import nn

from spic.errors import SpicError
from spic.networks import zoo
from spic.networks.narrow import resnet50

SOURCE = """
import torch
def small(num_classes=3):
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(num_classes))
def fixed():
    return torch.nn.Conv2d(3, 2, 1)
def wrong():
    return 5
def broken():
    raise ValueError("no such luck")
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_torchvision_name_knows_its_task_input_and_classes():
    spec = zoo.find("torchvision:efficientnet_b3")
    assert (spec.task, spec.num_classes, spec.input.crop, spec.input.interpolation) == ("classification", 1000, 300, "bicubic")
    assert spec.classes[0] == "tench"
    assert zoo.find("torchvision:lraspp_mobilenet_v3_large").task == "segmentation"
    assert zoo.find("torchvision:fcn_resnet50").classes[15] == "person"


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone():
    state = torch.get_rng_state()
    first, second = (zoo.find("torchvision:squeezenet1_1").build(num_classes=4) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert not first.training and first(torch.zeros(1, 3, 64, 64)).shape == (1, 4)


def test_a_narrow_network_is_the_projects_own():
    network = zoo.find("narrow:resnet50/0.125").build(num_classes=7)
    assert list(network.state_dict()) == list(resnet50(0.125, 7).state_dict())
    assert zoo.find("narrow:deeplabv3_resnet50/0.5").input.crop == 513


def test_weights_come_from_a_file(tmp_path):
    network = zoo.find("narrow:resnet50/0.125").build(7, seed=3)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    loaded = zoo.find("narrow:resnet50/0.125").build(7, tmp_path / "weights.pth")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), loaded.parameters()))
    with pytest.raises(SpicError, match="do not fit"):
        zoo.find("narrow:resnet50/0.25").build(7, tmp_path / "weights.pth")


def test_official_weights_of_a_segmentation_network_come_with_their_auxiliary_head(tmp_path):
    spec = zoo.find("torchvision:deeplabv3_mobilenet_v3_large")
    with_head = spec.make(21, {"aux_classifier.0": None})
    torch.save(with_head.state_dict(), tmp_path / "official.pth")
    assert spec.build(weights=tmp_path / "official.pth").aux_classifier is not None


def test_a_users_function_in_a_file(source):
    network = zoo.find(f"{source}:small").build(num_classes=5)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert isinstance(zoo.find(f"{source}:fixed").build(), nn.Conv2d)


def test_a_users_function_in_a_package():
    assert isinstance(zoo.find("spic.networks.narrow:resnet50").build(10), nn.Module)


@pytest.mark.parametrize("name,message", [
    ("torchvision:resnet19", "unknown network.*torchvision:resnet1[0-9]"),
    ("resnet18", "torchvision:resnet18"),
    ("narrow:vgg", "narrow:resnet50/WIDTH"),
    ("narrow:resnet50/wide", "width has to be a number"),
    ("no_such_module:net", "no installed module"),
    ("missing.py:net", "no such file"),
    ("spic.networks.narrow:nothing", "has no function 'nothing'"),
])
def test_an_unknown_network_is_one_line(name, message):
    with pytest.raises(SpicError, match=message) as raised:
        zoo.find(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("function,options,message", [
    ("wrong", {}, "has to give a torch.nn.Module"), ("broken", {}, "failed: ValueError: no such luck"),
    ("fixed", {"num_classes": 3}, "takes no num_classes")])
def test_a_function_that_gives_no_network_is_one_line(source, function, options, message):
    with pytest.raises(SpicError, match=message):
        zoo.find(f"{source}:{function}").build(**options)


def test_weights_that_do_not_exist_are_refused():
    with pytest.raises(SpicError, match="no default weights"):
        zoo.find("narrow:resnet50/0.25").build(weights="default")
    with pytest.raises(SpicError, match="1000 classes, not 10"):
        zoo.find("torchvision:resnet18").build(10, "default")


def test_weights_that_cannot_be_downloaded_say_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(SpicError, match="could not be downloaded .no network.; get https://"):
        zoo.find("torchvision:squeezenet1_1").build(weights="default")


def test_the_task_is_guessed_from_the_answer():
    assert zoo.guess_task((1, 10)) == "classification"
    assert zoo.guess_task((1, 21, 64, 64)) == "segmentation"
    with pytest.raises(SpicError, match="neither"):
        zoo.guess_task((1, 2, 3))
