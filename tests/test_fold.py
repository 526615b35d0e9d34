"""Folding BatchNorm goes by the data flow, and changes nothing but rounding."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spic.networks.cut import cut, cut_many
from spic.networks.fold import _fused, fold_batch_norm
from spic.networks.graph import trace
from spic.networks.narrow import deeplabv3_resnet50, resnet50

NETWORKS = {"classification": (resnet50, 64, ["layer3.4", "layer4.0", "layer4.2"]),
            "segmentation": (deeplabv3_resnet50, 65, ["backbone.layer3.5", "backbone.layer4.1", "classifier.0"])}


def with_statistics(module, *shape):
    torch.manual_seed(0)
    module.train()(torch.randn(*shape))
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    return module.eval().requires_grad_(False)


def norms(module):
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def close(folded, module, x):
    torch.testing.assert_close(folded(x), module(x), rtol=1e-4, atol=1e-4)


def folded_by_neighbourhood(network):
    """As published and shipped points were measured: a norm right behind a convolution among its parent's children."""
    for parent in list(network.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                fused, rest = _fused(conv, norm)
                setattr(parent, name, fused)
                setattr(parent, norm_name, rest)
    return network


@pytest.mark.parametrize("task", NETWORKS)
def test_a_folded_network_is_the_same_function(task):
    make, size, _ = NETWORKS[task]
    network, x = with_statistics(make(0.125, 7), 4, 3, size, size), torch.randn(2, 3, size, size)
    folded = fold_batch_norm(copy.deepcopy(network))
    close(folded, network, x)
    assert norms(folded) == 0


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("stride, kernel, padding", [(2, 3, 0), (2, 3, 1), (4, 5, 0), (8, 9, 0)])
def test_a_transposed_convolution_keeps_its_bits_whether_its_bias_lies_within_or_not(groups, stride, kernel, padding):
    conv, norm = nn.ConvTranspose2d(8, 8, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(8)
    part = with_statistics(nn.Sequential(conv, norm), 4, 8, 7, 7)
    folded, x = fold_batch_norm(copy.deepcopy(part)), torch.randn(3, 8, 7, 7)
    close(folded, part, x)
    assert norms(folded) == 0 and (folded[0].bias is None) == (groups > 1)
    if groups > 1:
        within = F.conv_transpose2d(x, folded[0].weight, folded[1].bias.flatten(), stride, padding, groups=groups)
        assert torch.equal(folded(x), within)


@pytest.mark.parametrize("task", NETWORKS)
def test_halves_of_the_folded_graph_give_the_bits_of_the_network_folded_by_neighbourhood(task):
    make, size, cuts = NETWORKS[task]
    network = with_statistics(make(0.125, 7), 4, 3, size, size)
    x = torch.randn(2, 3, size, size).contiguous(memory_format=torch.channels_last)
    old, seen = folded_by_neighbourhood(copy.deepcopy(network)).to(memory_format=torch.channels_last), {}
    for name in cuts:
        old.get_submodule(name).register_forward_hook(lambda module, _, given, name=name: seen.update({name: given.clone()}))
    expected = old(x)
    traced = fold_batch_norm(trace(network, x)).to(memory_format=torch.channels_last)
    feature = x
    for name, stage, back, frontier in zip(cuts, *cut_many(traced, cuts, x)):
        feature = stage(feature)
        assert frontier.after == name
        assert torch.equal(feature, seen[name])
        assert torch.equal(back(feature), expected)


def test_folding_a_traced_network_leaves_the_network_alone():
    network = with_statistics(resnet50(0.125, 7), 4, 3, 64, 64)
    before, x = norms(network), torch.randn(1, 3, 64, 64)
    expected = network(x)
    traced = fold_batch_norm(trace(network, x))
    assert (norms(traced), norms(network)) == (0, before)
    assert torch.equal(network(x), expected)


def test_a_half_is_folded_too():
    network, x = with_statistics(resnet50(0.125, 7), 4, 3, 64, 64), torch.randn(1, 3, 64, 64)
    front, back, _ = cut(network, "layer2", x)
    feature = front(x)
    expected = back(feature)
    torch.testing.assert_close(fold_batch_norm(back)(feature), expected, rtol=1e-4, atol=1e-4)
    assert norms(back) == 0


def test_cutting_between_a_convolution_and_its_folded_norm_overwrites_nothing():
    unit = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1))
    network, x = with_statistics(unit, 4, 3, 8, 8), torch.randn(2, 3, 8, 8)
    front, back, _ = cut(fold_batch_norm(trace(network, x)), "0", x)
    feature = front(x)
    kept = feature.clone()
    back(feature)
    assert torch.equal(feature, kept) and kept.lt(0).any()


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.ConvTranspose2d(6, 12, 3, 2, groups=3, bias=False), nn.BatchNorm2d(12)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


def test_grouped_transposed_convolutions_are_folded():
    module, x = with_statistics(Transposed(), 4, 6, 5, 5), torch.randn(2, 6, 5, 5)
    folded = fold_batch_norm(copy.deepcopy(module))
    close(folded, module, x)
    assert norms(folded) == 0


class Elsewhere(nn.Module):
    """The norm stands right behind the convolution, and is called on something else."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.conv(x) + self.norm(x)


class Shared(Elsewhere):
    """Somebody else takes what the convolution gives, too."""

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class Repeated(Elsewhere):
    def forward(self, x):
        return self.norm(self.conv(self.norm(self.conv(x))))


class Reading(Elsewhere):
    """The convolution's weight is used by hand, too."""

    def forward(self, x):
        return F.conv2d(self.norm(self.conv(x)), self.conv.weight)


@pytest.mark.parametrize("kind", [Elsewhere, Shared, Repeated, Reading])
def test_what_does_not_belong_together_is_not_folded(kind):
    module, x = with_statistics(kind(), 4, 4, 5, 5), torch.randn(2, 4, 5, 5)
    folded = fold_batch_norm(copy.deepcopy(module))
    assert norms(folded) == 1 and torch.equal(folded(x), module(x))


class Deciding(nn.Module):
    """torch.fx cannot follow it; its parts can be folded all the same."""

    def __init__(self):
        super().__init__()
        self.unit = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.unit(x) if x.sum() > 0 else self.unit(-x)


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: nn.Sequential(module, nn.ReLU())])
def test_parts_that_cannot_be_traced_are_folded_by_themselves(wrap):
    module, x = with_statistics(wrap(Deciding()), 4, 4, 5, 5), torch.randn(2, 4, 5, 5)
    folded = fold_batch_norm(copy.deepcopy(module))
    close(folded, module, x)
    assert norms(folded) == 0
