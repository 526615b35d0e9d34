"""Training of backbones: schedule, processes that work as one, first weights."""

import pytest
import torch
from torch import nn

from spic.errors import SpicError
from spic.training import parallel
from spic.training.augment import RandomCrop
from spic.training.backbone import RECIPES, Recipe, build, learning_rate, optimizer_for

SMALL = Recipe(0.125, 4, ((2, 32), (1, 48)), RandomCrop((0.5, 1.0)), batch=8)


def test_the_learning_rate_rises_once_and_falls_to_nothing():
    rates = [learning_rate(i / 100, 0.1) for i in range(101)]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(0.1) and rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[:peak + 1] == sorted(rates[:peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)


def test_pictures_grow_from_stage_to_stage():
    assert [SMALL.size(epoch) for epoch in range(3)] == [32, 32, 48]
    for recipe in RECIPES.values():
        sizes = [size for _, size in recipe.stages]
        assert sizes == sorted(sizes)


def test_residual_blocks_start_as_the_identity_and_batchnorm_is_not_decayed():
    network = build(SMALL, "classification", 0)
    assert not network.layer3[1].bn3.weight.any()
    groups = optimizer_for(network, SMALL).param_groups
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
