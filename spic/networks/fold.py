"""Fold BatchNorm into the convolution before it: the same function in evaluation mode, with less memory traffic."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@torch.no_grad()
def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold in place, at every depth; results change by rounding only (about 1e-6 relative).

    A BatchNorm follows a convolution when it stands right after it among its parent's modules, as in torchvision's
    networks and in the bottleneck units.
    """
    for parent in list(module.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, _CONVOLUTIONS) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, _fused(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return module


def _fused(conv: nn.Module, norm: nn.BatchNorm2d) -> nn.Module:
    """torch's own helper does not know grouped transposed convolutions, so the scale is applied here."""
    fused = copy.deepcopy(conv).requires_grad_(False)
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    grouped = (conv.groups, -1, conv.out_channels // conv.groups, *conv.kernel_size)
    if conv.transposed:  # weight [in, out / groups, k, k]
        fused.weight.copy_((conv.weight.view(grouped) * scale.view(conv.groups, 1, -1, 1, 1)).view_as(conv.weight))
    else:  # weight [out, in / groups, k, k]
        fused.weight.copy_(conv.weight * scale.view(-1, 1, 1, 1))
    bias = 0 if conv.bias is None else conv.bias
    fused.bias = nn.Parameter(norm.bias + (bias - norm.running_mean) * scale, requires_grad=False)
    return fused
