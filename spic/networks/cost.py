"""What a network or a part of one costs whoever runs it."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def cost(module: nn.Module, size: tuple[int, int], channels: int = 3) -> dict[str, int]:
    """Parameters, and multiply-accumulates of one image or feature [channels, *size] (torch counts two operations each)."""
    shapes_only = copy.deepcopy(module).to("meta")
    with FlopCounterMode(display=False) as counter:
        shapes_only(torch.empty(1, channels, *size, device="meta"))
    return {"parameters": sum(parameter.numel() for parameter in module.parameters()),
            "macs": counter.get_total_flops() // 2}
