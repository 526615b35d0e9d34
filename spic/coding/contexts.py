"""Which distribution codes a symbol: a choice by its place, and by symbols that were decoded before it.

A *selector* does this for images of one shape. With a table of the first version the place alone decides: its selector
has one class and no neighbours. docs/bitstream.md says the same in words.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from spic.coding.neighbours import Neighbours, activity
from spic.errors import SpicError

MAX_SUM = 4095
"""Largest limit of a class: a table of classes for each sum stays small."""
MAX_CLASSES = 256
MAX_CAP = 255
MAX_BIAS = 1 << 24
"""With MAX_CAP, MAX_WEIGHT and MAX_NEIGHBOURS it keeps every sum below 2**31."""
MAX_CHOICES = 1 << 18
"""Rows × classes."""


@dataclass(frozen=True, eq=False)
class Contexts:
    """What selects among the distributions of a row.

    cap: larger symbols count as this one. limits: int32 [classes - 1], ascending; the class of a sum is how many of them it
    reaches. choices: int32 [rows, classes], the distribution. bias: int32, stretched over the symbols like an index; the sum
    begins with it.
    """

    cap: int
    limits: np.ndarray
    choices: np.ndarray
    bias: np.ndarray
    neighbours: Neighbours

    def check(self, distributions: int) -> None:
        """Refuse what no decoder can select by, with one line."""
        if not 0 <= self.cap <= MAX_CAP:
            raise SpicError(f"table: cap must lie in 0..{MAX_CAP}")
        if self.limits.ndim != 1 or len(self.limits) >= MAX_CLASSES or (np.diff(self.limits) <= 0).any() or \
                (len(self.limits) and not 1 <= self.limits[0] <= self.limits[-1] <= MAX_SUM):
            raise SpicError(f"table: limits must be ascending integers in 1..{MAX_SUM}, {MAX_CLASSES - 1} at most")
        if self.choices.ndim != 2 or self.choices.shape[1] != len(self.limits) + 1 or self.choices.size > MAX_CHOICES:
            raise SpicError(f"table: choices must be rows of {len(self.limits) + 1} entries, {MAX_CHOICES} in all")
        if self.choices.size == 0 or self.choices.min() < 0 or self.choices.max() >= distributions:
            raise SpicError(f"table: choices must be integers in 0..{distributions - 1}")
        if self.bias.size == 0 or abs(self.bias).max() > MAX_BIAS:
            raise SpicError(f"table: bias must be integers in -{MAX_BIAS}..{MAX_BIAS}")
        self.neighbours.check()

    def to_json(self) -> dict:
        neighbours = {field.name: getattr(self.neighbours, field.name).tolist() for field in fields(Neighbours)}
        return {"cap": self.cap, "limits": self.limits.tolist(), "choices": array_to_json(self.choices),
                "bias": array_to_json(self.bias), "neighbours": neighbours}


def array_to_json(array: np.ndarray) -> dict:
    """Row-major, beside its shape."""
    return {"shape": list(array.shape), "values": array.ravel().tolist()}


def by_place(distributions: int) -> Contexts:
    """One class and no neighbours: row and distribution are the same."""
    rows = np.arange(distributions, dtype=np.int32).reshape(-1, 1)
    return Contexts(0, np.zeros(0, np.int32), rows, np.zeros(1, np.int32), Neighbours.none())


def planes_of(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """A shape as channels, rows and columns: the first axis, if there are two, those between, and the last."""
    return shape[0] if len(shape) > 1 else 1, math.prod(shape[1:-1]), shape[-1]


def stretched(index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The index over symbols of this shape; place i of n takes entry i * entries // n."""
    entries = (1,) * (len(shape) - index.ndim) + index.shape
    fits = len(entries) == len(shape) and entries[0] in (1, shape[0])
    if not fits or any(several > max(size, 1) for several, size in zip(entries, shape)):
        raise SpicError(f"table made for symbols of shape {index.shape} cannot code shape {shape}")
    if 0 in shape:
        return np.empty(shape, index.dtype)
    places = [np.arange(size) * several // size for several, size in zip(entries, shape)]
    return np.ascontiguousarray(index.reshape(entries)[np.ix_(*places)])


class Selector:
    """Contexts for images of one shape.

    contexts: the table's. rows, bias: int32 [N], of each place. shape: of one image's symbols. signed: whether those have a
    sign. Symbols are given here as they are coded.
    """

    def __init__(self, contexts: Contexts, rows: np.ndarray, bias: np.ndarray, shape: tuple[int, ...], signed: bool = False):
        self.table, self.rows, self.bias, self.signed = contexts, rows, bias, int(signed)
        self.planes = planes_of(shape)
        known = contexts.neighbours.of
        if len(known) and known[-1] >= self.planes[0]:
            raise SpicError(f"table made for {known[-1] + 1} channels or more cannot code shape {shape}")

    def __len__(self) -> int:
        """N, the symbols of an image."""
        return len(self.rows)

    @property
    def adaptive(self) -> bool:
        """Whether a decoder learns the contexts on its way only."""
        return len(self.table.neighbours.of) > 0

    def contexts(self, matrix: np.ndarray) -> np.ndarray:
        """The distribution of each symbol of int32 [B, N] or, where the place alone decides, of all images: int32 [B or 1, N]."""
        if not self.adaptive:
            return self.known
        from spic.coding.selection import select_all  # numba is loaded with the first symbols

        return select_all(matrix, self.arrays)

    @cached_property
    def known(self) -> np.ndarray:
        """int32 [1, N]: what the place alone selects, all neighbours being 0."""
        classes = np.searchsorted(self.table.limits, self.bias, side="right")
        return self.table.choices[self.rows, classes].astype(np.int32)[None]

    def plainly(self, i: int, symbols: Sequence[int]) -> int:
        """The distribution of symbol i, those before it being known: the definition, one symbol at a time."""
        channels, height, width = self.planes
        channel, place = divmod(i, height * width)
        y, x = divmod(place, width)
        total = int(self.bias[i])
        for other, row, column, weight in self._plain[channel]:
            if 0 <= y + row < height and 0 <= x + column < width:
                size = activity(symbols[(other * height + y + row) * width + x + column], self.signed)
                total += weight * min(size, self.table.cap)
        return int(self.table.choices[self.rows[i], bisect_right(self.table.limits, total)])

    @cached_property
    def _plain(self) -> list[list[tuple[int, ...]]]:
        """For each channel its neighbours."""
        found: list[list[tuple[int, ...]]] = [[] for _ in range(self.planes[0])]
        of, *entries = (getattr(self.table.neighbours, field.name).tolist() for field in fields(Neighbours))
        for channel, entry in zip(of, zip(*entries)):
            found[channel].append(entry)
        return found

    @cached_property
    def arrays(self) -> tuple:
        """What kernels take: (planes int64 [3], first int32 [N], bias int32 [N], classes int32 [reach + 1],
        choices int32 [rows × classes], cap, signed, outer, inner).

        first: where a place's row begins in `choices`. classes: of each sum from 0 to its end, beyond which all are alike.
        inner: the neighbours in the symbol's own row, which is being decoded; outer: all others. Each is (starts int64
        [channels + 1], int32 [neighbours, 4]: channel, row, column, weight).
        """
        contexts, of = self.table, self.table.neighbours
        reach = int(contexts.limits[-1]) if len(contexts.limits) else 0
        classes = np.searchsorted(contexts.limits, np.arange(reach + 1), side="right").astype(np.int32)
        first = (self.rows * contexts.choices.shape[1]).astype(np.int32)
        own_row = (of.channel == of.of) & (of.row == 0)
        lists = (self._list(np.flatnonzero(~own_row)), self._list(np.flatnonzero(own_row)))
        return (np.array(self.planes), first, self.bias, classes, contexts.choices.ravel(), contexts.cap, self.signed,
                *lists[0], *lists[1])

    def _list(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of = self.table.neighbours
        starts = np.searchsorted(of.of[chosen], np.arange(self.planes[0] + 1))
        columns = (of.channel, of.row, of.column, of.weight)
        return starts.astype(np.int64), np.stack([column[chosen] for column in columns], axis=1).astype(np.int32)
