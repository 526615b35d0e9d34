"""Fold BatchNorm into the convolution before it: the same function in evaluation mode, with less memory traffic."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import fx, nn

from spic.errors import SpicError
from spic.networks.graph import record

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@torch.no_grad()
def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold in place and return the module; results change by rounding only (about 1e-6 relative).

    By data flow: a norm is folded where it alone takes what a convolution gives, and both are called once. In a traced
    network (``graph.trace``) or a half of one, the modules of the network it was made from stay as they are. A module whose
    forward torch.fx cannot follow is folded child by child.
    """
    if isinstance(module, fx.GraphModule):
        return _fold_by(module.graph, module)
    try:
        traced = record(module)
    except SpicError:
        for child in module.children():
            fold_batch_norm(child)
        return module
    return _fold_by(traced.graph, module)


def _fold_by(graph: fx.Graph, module: nn.Module) -> nn.Module:
    owners = [node.target if node.op == "call_module" else node.target.rpartition(".")[0] for node in graph.nodes
              if node.op in ("call_module", "get_attr")]  # who reads a module's weight uses the module, too
    calls = Counter(id(module.get_submodule(owner)) for owner in owners)
    for node in [node for node in graph.nodes if node.op == "call_module"]:
        called = module.get_submodule(node.target)
        if not isinstance(module, fx.GraphModule) and not type(called).__module__.startswith("torch."):
            fold_batch_norm(called)  # a part that torch.fx could not follow
        for norm in _foldable(module, node, calls):
            fused, rest = _fused(called, module.get_submodule(norm.target))
            module.set_submodule(node.target, fused)
            module.set_submodule(norm.target, rest)
            if "memory" in node.meta:  # what is left of the norm gives the memory of the convolution itself
                node.meta["memory"] = norm.meta["memory"] = node.meta["memory"] | norm.meta["memory"]
    return module


def _foldable(module: nn.Module, node: fx.Node, calls: Counter) -> list[fx.Node]:
    """The norm to be folded into the convolution of this node: none or one."""
    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module":
        return []
    conv, norm = module.get_submodule(node.target), module.get_submodule(users[0].target)
    alone = calls[id(conv)] == calls[id(norm)] == 1
    fits = type(conv) in _CONVOLUTIONS and type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats
    return users if alone and fits and not norm.training else []


class Shift(nn.Module):
    """Adds a number to each channel of maps [B, C, H, W], in place."""

    def __init__(self, bias: torch.Tensor):
        super().__init__()
        self.bias = nn.Parameter(bias.view(-1, 1, 1), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add_(self.bias)


def _fused(conv: nn.Module, norm: nn.BatchNorm2d) -> tuple[nn.Module, nn.Module]:
    """(the convolution, what is left of the norm).

    torch's own helper does not know grouped transposed convolutions, so the scale is applied here. Theirs is the only bias
    that stays outside: with one, torch takes ten times as long for them on a CPU, to the very same numbers.
    """
    fused = copy.deepcopy(conv).requires_grad_(False)
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    grouped = (conv.groups, -1, conv.out_channels // conv.groups, *conv.kernel_size)
    if conv.transposed:  # weight [in, out / groups, k, k]
        fused.weight.copy_((conv.weight.view(grouped) * scale.view(conv.groups, 1, -1, 1, 1)).view_as(conv.weight))
    else:  # weight [out, in / groups, k, k]
        fused.weight.copy_(conv.weight * scale.view(-1, 1, 1, 1))
    bias = norm.bias + ((0 if conv.bias is None else conv.bias) - norm.running_mean) * scale
    if conv.transposed and conv.groups > 1:
        fused.bias = None
        return fused, Shift(bias)
    fused.bias = nn.Parameter(bias, requires_grad=False)
    return fused, nn.Identity()
