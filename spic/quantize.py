"""Step size: float feature <-> integer symbol. Published as ``step * round(x / step)``; only the integer crosses."""

from __future__ import annotations

import torch
from torch import Tensor


def quantize(feature: Tensor, step: float) -> Tensor:
    """Float feature of any shape -> int32 symbols of the same shape, rounded half to even as published."""
    return torch.round(feature.float() / step).to(torch.int32)


def dequantize(symbols: Tensor, step: float) -> Tensor:
    """Integer symbols -> float32 feature, the value the decoder of the bottleneck expects."""
    return symbols.to(torch.float32) * step
