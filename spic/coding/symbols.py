"""Symbols as arrays: what every coder accepts, checked in one place."""

from __future__ import annotations

import math

import numpy as np
import torch

from spic.errors import SpicError

MAX_SYMBOL = (1 << 24) - 1
"""Largest value an escape can carry."""


def symbol_matrix(symbols) -> np.ndarray:
    """Integer symbols [B, ...] (tensor on any device, or array) as a contiguous int32 array [B, N]; anything else is refused."""
    array = symbols.detach().cpu().numpy() if isinstance(symbols, torch.Tensor) else np.asarray(symbols)
    if not np.issubdtype(array.dtype, np.integer):
        raise SpicError(f"symbols must be integers, not {array.dtype}: quantise the feature first")
    if array.ndim < 2:
        raise SpicError(f"symbols must have a batch axis and at least one more, not shape {array.shape}")
    if array.size and (array.min() < 0 or array.max() > MAX_SYMBOL):
        raise SpicError(f"symbols must lie in 0..{MAX_SYMBOL}, found {array.min()}..{array.max()}")
    return np.ascontiguousarray(array.reshape(len(array), math.prod(array.shape[1:])), dtype=np.int32)
