"""Symbols as tensors: what every coder accepts, checked in one place."""

from __future__ import annotations

import math

import torch

from spic.errors import SpicError

MAX_SYMBOL = (1 << 24) - 1
"""Largest value an escape can carry."""
MAX_SYMBOLS = 1 << 24
"""Most symbols of one image; bounds what a decoder allocates."""
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def symbol_matrix(symbols, device="cpu") -> torch.Tensor:
    """Integer symbols [B, ...] (tensor or array) as a contiguous int32 tensor [B, N] on `device`; others are refused."""
    symbols = torch.as_tensor(symbols)
    if symbols.dtype not in INTEGERS:
        raise SpicError(f"symbols must be integers, not {symbols.dtype}: quantise the feature first")
    if symbols.ndim < 2:
        raise SpicError(f"symbols must have a batch axis and at least one more, not shape {tuple(symbols.shape)}")
    if symbols.numel():
        low, high = (int(bound) for bound in torch.aminmax(symbols))
        if low < 0 or high > MAX_SYMBOL:
            raise SpicError(f"symbols must lie in 0..{MAX_SYMBOL}, found {low}..{high}")
    rows = symbols.reshape(len(symbols), math.prod(symbols.shape[1:]))
    return rows.to(device, torch.int32).contiguous()


def checked_shape(shape) -> tuple[int, ...]:
    """The shape of one image's symbols, as a tuple, refused when it is not a shape or too large."""
    shape = tuple(int(n) for n in shape)
    if not shape or min(shape) < 0 or math.prod(shape) > MAX_SYMBOLS:
        raise SpicError(f"symbol shape {shape}: needs at least one axis and at most {MAX_SYMBOLS} symbols")
    return shape
