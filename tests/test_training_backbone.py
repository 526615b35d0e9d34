"""Training of backbones: schedule, processes that work as one, first weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from spic.errors import SpicError
from spic import parallel
from spic.benchmarks import Cropping, Recipe, benchmarks, find
from spic.networks import zoo
from spic.training import backbone
from spic.training.backbone import build, optimizer_for
from spic.training.pictures import Pictures
from spic.training.schedule import NETWORK

RECIPE = Recipe(((2, 32), (1, 48)), Cropping((0.5, 1.0)), batch=8)
SMALL = replace(find("classification", "imagenette"), name="small", network="narrow:resnet50/0.125", num_classes=4, recipe=RECIPE)


def test_the_learning_rate_rises_once_and_falls_to_nothing():
    rates = [NETWORK(i / 100, 0.1) for i in range(101)]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(0.1) and rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[:peak + 1] == sorted(rates[:peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)


def test_pictures_grow_from_stage_to_stage():
    assert [RECIPE.size(epoch) for epoch in range(3)] == [32, 32, 48]
    for recipe in [entry.recipe for entry in benchmarks().values() if entry.recipe]:
        sizes = [size for _, size in recipe.stages]
        assert sizes == sorted(sizes)


def test_residual_blocks_start_as_the_identity_and_batchnorm_is_not_decayed():
    network = build(SMALL, 0)
    assert not network.layer3[1].bn3.weight.any()
    groups = optimizer_for(network, RECIPE).param_groups
    assert {p.ndim for p in groups[1]["params"]} == {1} and groups[1]["weight_decay"] == 0
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def _average(team, results):
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    (layer(torch.full((1, 2), float(team.rank + 1)))).sum().backward()
    team.mean_gradients(layer)
    results[team.rank] = layer.weight.grad[0]


def test_processes_see_the_mean_of_their_gradients():
    results = torch.zeros(3, 2).share_memory_()
    parallel.launch(_average, 3, results)
    assert results.tolist() == [[2.0, 2.0]] * 3


def _fail(team):
    if team.rank == 1:
        raise SpicError("one of them failed")
    team.mean([torch.zeros(1)])


def test_the_error_of_one_process_ends_all():
    with pytest.raises(SpicError, match="one of them failed"):
        parallel.launch(_fail, 2)


def test_a_network_begins_as_the_zoo_builds_it_at_random():
    fresh = zoo.find(SMALL.network).build(4, "random").state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in build(SMALL, 0).state_dict().items() if "bn3" not in name)


def test_a_network_is_trained_interrupted_and_resumed_to_the_same_weights(tmp_path, monkeypatch, capsys):
    def pictures(source, data):
        generator = torch.Generator().manual_seed(0)
        images = [torch.randint(0, 256, (3, 40, 50), generator=generator, dtype=torch.uint8) for _ in range(16)]
        return Pictures(images, [torch.tensor(i % 4) for i in range(16)])

    monkeypatch.setattr(backbone, "training_pictures", pictures)
    monkeypatch.setattr(backbone, "evaluation_pictures", lambda source, data: Pictures(
        [image[:, :32, :32].float() for image in pictures(source, data).images], pictures(source, data).targets))
    backbone.train(SMALL, None, tmp_path / "whole", output=tmp_path / "a")
    score = backbone.score

    def interrupted(*given):
        raise SpicError("interrupted")

    monkeypatch.setattr(backbone, "score", interrupted)
    with pytest.raises(SpicError, match="interrupted"):
        backbone.train(SMALL, None, tmp_path / "parts", output=tmp_path / "b")
    monkeypatch.setattr(backbone, "score", score)
    backbone.train(SMALL, None, tmp_path / "parts", output=tmp_path / "b")
    files = [tmp_path / place / "Weights/small/classification.safetensors" for place in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_network_that_is_not_ours_is_not_trained(tmp_path):
    with pytest.raises(SpicError, match="imagenet classification: .*not trained by this project.*scenes segmentation"):
        backbone.train(find("classification", "imagenet"), None, tmp_path)
    assert backbone.main(["--benchmark", "camvid", "--task", "classification"]) == 2
