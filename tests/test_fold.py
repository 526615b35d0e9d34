"""Folding BatchNorm changes nothing but rounding."""

import copy

import pytest
import torch
from torch import nn

from spic.bottleneck import GEOMETRY, make_bottleneck
from spic.networks import NETWORKS
from spic.networks.fold import fold_batch_norm


def with_statistics(module, *shape):
    module.train()(torch.randn(*shape))
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    return module.eval()


def check(module, x):
    folded = fold_batch_norm(copy.deepcopy(module))
    with torch.no_grad():
        torch.testing.assert_close(folded(x), module(x), rtol=1e-4, atol=1e-4)
    return folded


@pytest.mark.parametrize("task,size", [("classification", 64), ("segmentation", 65)])
def test_a_folded_network_is_the_same_function(task, size):
    torch.manual_seed(0)
    network = with_statistics(NETWORKS[task](0.125, 7), 4, 3, size, size)
    folded = check(network, torch.randn(2, 3, size, size))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize("task,location,stride", [(*key, stride) for key, g in GEOMETRY.items() for stride in g.decoder])
def test_a_folded_bottleneck_is_the_same_function(task, location, stride):
    torch.manual_seed(0)
    bottleneck = with_statistics(make_bottleneck(task, location, 12, 5, stride), 4, 12, 17, 17)
    check(bottleneck, torch.randn(2, 12, 17, 17))
