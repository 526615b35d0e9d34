"""A name becomes a network, or one line that says what is near."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model

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
    entry = zoo.find("torchvision:efficientnet_b3")
    assert (entry.task, entry.num_classes) == ("classification", 1000)
    assert (entry.preparation.crop, entry.preparation.interpolation) == (300, "bicubic")
    assert entry.class_names[0] == "tench"
    assert zoo.find("torchvision:lraspp_mobilenet_v3_large").task == "segmentation"
    assert zoo.find("torchvision:fcn_resnet50").class_names[15] == "person"


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone():
    state = torch.get_rng_state()
    first, second = (zoo.find("torchvision:squeezenet1_1").build(4, "random") for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert not first.training and first(torch.zeros(1, 3, 64, 64)).shape == (1, 4)


def test_a_narrow_network_is_the_projects_own():
    network = zoo.find("narrow:resnet50/0.125").build(7)
    assert list(network.state_dict()) == list(resnet50(0.125, 7).state_dict())
    assert zoo.find("narrow:deeplabv3_resnet50/0.5").preparation.crop == 513


def test_weights_come_from_a_file(tmp_path):
    network = resnet50(0.125, 7)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    loaded = zoo.find("narrow:resnet50/0.125").build(7, tmp_path / "weights.pth")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), loaded.parameters()))
    with pytest.raises(SpicError, match="do not fit"):
        zoo.find("narrow:resnet50/0.25").build(7, tmp_path / "weights.pth")


def test_an_official_file_may_hold_an_auxiliary_head(tmp_path):
    name = "deeplabv3_mobilenet_v3_large"
    official = get_model(name, weights=None, weights_backbone=None, aux_loss=True)
    torch.save(official.state_dict(), tmp_path / "official.pth")
    loaded = zoo.find(f"torchvision:{name}").build(weights=tmp_path / "official.pth")
    assert torch.equal(loaded.classifier[4].weight, official.classifier[4].weight)


def test_a_users_function_in_a_file(source):
    network = zoo.find(f"{source}:small").build(5)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert isinstance(zoo.find(f"{source}:fixed").build(), nn.Conv2d)


def test_a_users_function_in_a_package():
    assert isinstance(zoo.find("spic.networks.narrow:resnet50").build(10), nn.Module)


@pytest.mark.parametrize("name,message", [
    ("torchvision:resnet19", "unknown network.*resnet1[0-9]"),
    ("resnet19", "did you mean torchvision:resnet1[0-9]"),
    ("narrow:vgg", "deeplabv3_resnet50, resnet50|resnet50, deeplabv3_resnet50"),
    ("narrow:resnet50/wide", "width 'wide' must be a number"),
    ("torchvision:resnet50/V9", "unknown weights of resnet50 'V9'"),
    ("no_such_module:net", "No module named 'no_such_module'; write torchvision:NAME"),
    ("missing.py:net", "no such file"),
    ("spic.networks.narrow:nothing", "unknown function in spic.networks.narrow 'nothing'"),
])
def test_an_unknown_network_is_one_line(name, message):
    with pytest.raises(SpicError, match=message) as raised:
        zoo.find(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("function,message", [
    ("wrong", "gives a int, not a torch.nn.Module"), ("broken", "stopped with ValueError: no such luck")])
def test_a_function_that_gives_no_network_is_one_line(source, function, message):
    with pytest.raises(SpicError, match=message):
        zoo.find(f"{source}:{function}").build()


def test_weights_that_cannot_be_downloaded_say_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(SpicError, match="could not be downloaded .no network.; get https://"):
        zoo.find("torchvision:squeezenet1_1").build()
