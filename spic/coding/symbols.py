"""Symbols as arrays: what every coder accepts, checked in one place."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np

from spic.errors import SpicError, reason

MAX_SYMBOL = (1 << 24) - 1
"""Largest value an escape can carry."""
MAX_SYMBOLS = 1 << 24
"""Most symbols of one image; bounds what a decoder allocates."""
MAX_AXES = 8
_NOT_A_NUMBER = (-(1 << 31), -(1 << 63))
"""What NaN and infinity become when a processor turns them into an integer."""


def symbol_matrix(symbols) -> np.ndarray:
    """Integer symbols [B, ...] as a contiguous int32 array [B, N]; a SpicError says what no coder can take.

    symbols: whatever numpy can view without a copy (an array of any integer type, byte order and strides, a CPU tensor),
    or nested lists."""
    try:
        array = np.asarray(symbols)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpicError(f"symbols must be an array in the memory of the CPU ({reason(error)})") from None
    require_integers(array.dtype.kind in "iu", array.dtype)
    size = math.prod(image_shape(array))
    if np.can_cast(array.dtype, np.int32):
        matrix = np.require(array.reshape(len(array), size), np.int32, "CA")
        if matrix.size and matrix.view(np.uint32).max() > MAX_SYMBOL:  # a negative one is large as an unsigned one
            check_range(int(matrix.min()), int(matrix.max()))
        return matrix
    if array.size:
        check_range(int(array.min()), int(array.max()))
    return np.require(array.reshape(len(array), size), np.int32, "CA")


def require_integers(are: bool, dtype) -> None:
    if not are:
        raise SpicError(f"symbols must be integers, not {dtype}: quantise the feature first")


def check_range(low: int, high: int) -> None:
    """Refuse symbols whose smallest and largest are these, if they leave 0..MAX_SYMBOL."""
    if low in _NOT_A_NUMBER:
        raise SpicError(f"symbols must lie in 0..{MAX_SYMBOL}, found {low}: that is what NaN or infinity becomes when it is "
                        "quantised; check the feature")
    if low < 0 or high > MAX_SYMBOL:
        raise SpicError(f"symbols must lie in 0..{MAX_SYMBOL}, found {low}..{high}: a larger step gives smaller ones")


def image_shape(symbols) -> tuple[int, ...]:
    """The shape of one image of symbols [B, ...], checked."""
    try:
        shape = np.shape(symbols)
    except ValueError:
        raise SpicError("symbols must be an array, not lists of different lengths") from None
    if len(shape) < 2:
        raise SpicError(f"symbols must have a batch axis and at least one more, not shape {tuple(shape)}")
    return checked_shape(shape[1:])


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one image's symbols, as a tuple, refused when it is not a shape or too large; 0 counts as 1 there, so
    that no axis is longer than an image may be."""
    try:
        sizes = tuple(operator.index(n) for n in shape)
    except TypeError:
        raise SpicError(f"symbol shape {shape!r}: must be a sequence of integers") from None
    if not 1 <= len(sizes) <= MAX_AXES or min(sizes) < 0 or math.prod(max(n, 1) for n in sizes) > MAX_SYMBOLS:
        raise SpicError(f"symbol shape {sizes}: needs 1 to {MAX_AXES} axes and at most {MAX_SYMBOLS} symbols")
    return sizes
