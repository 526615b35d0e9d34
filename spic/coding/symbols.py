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
MAX_SIGNED = MAX_SYMBOL >> 1
"""Signed symbols lie in -MAX_SIGNED - 1 .. MAX_SIGNED: folded, they reach MAX_SYMBOL."""
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


def folded(symbols):
    """Signed symbols -> those that are coded: 0, -1, 1, -2, 2 ... become 0, 1, 2, 3, 4 ...

    Takes what numpy can view, or a tensor of int32 on a GPU; gives an int64 array, or such a tensor. Out of range: SpicError.
    """
    if getattr(symbols, "is_cuda", False):
        return (symbols << 1) ^ (symbols >> 31)  # what is out of range becomes negative, and the engine refuses that
    array = np.asarray(symbols)
    require_integers(array.dtype.kind in "iu", array.dtype)
    if array.size:
        check_range(int(array.min()), int(array.max()), -MAX_SIGNED - 1, MAX_SIGNED)
    wide = array.astype(np.int64)
    return (wide << 1) ^ (wide >> 63)


def unfolded(coded):
    """The inverse of ``folded``, for arrays and tensors of any integer type with a sign."""
    return (coded >> 1) ^ -(coded & 1)


def require_integers(are: bool, dtype) -> None:
    if not are:
        raise SpicError(f"symbols must be integers, not {dtype}: quantise the feature first")


def check_range(low: int, high: int, least: int = 0, most: int = MAX_SYMBOL) -> None:
    """Refuse symbols whose smallest and largest are these, if they leave least..most."""
    if low in _NOT_A_NUMBER:
        raise SpicError(f"symbols must lie in {least}..{most}, found {low}: that is what NaN or infinity becomes when it is "
                        "quantised; check the feature")
    if low < least or high > most:
        raise SpicError(f"symbols must lie in {least}..{most}, found {low}..{high}: a larger step gives smaller ones")


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
