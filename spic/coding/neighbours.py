"""Which symbols decoded before tell of a symbol, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spic.errors import SpicError

MAX_DISTANCE = 8
"""Rows and columns between a symbol and its farthest neighbour."""
MAX_WEIGHT = 1 << 12
MAX_NEIGHBOURS = 64
"""Of one channel."""


def activity(coded, signed):
    """How large symbols are as neighbours, before the cap. coded: as they are coded; signed: 1 where they have a sign, which
    folding put into the lowest bit, else 0."""
    return (coded + signed) >> signed


@dataclass(frozen=True, eq=False)
class Neighbours:
    """int32 arrays, one entry for each neighbour: it adds `weight` times the symbol of `channel` that lies `row` rows and
    `column` columns from it to the sum of a symbol of the channel `of`. Sorted by `of`."""

    of: np.ndarray
    channel: np.ndarray
    row: np.ndarray
    column: np.ndarray
    weight: np.ndarray

    @classmethod
    def none(cls) -> Neighbours:
        return cls(*np.zeros((5, 0), np.int32))

    def check(self) -> None:
        """Refuse what a decoder cannot know, and what lets sums grow too large."""
        inside = (abs(self.row) <= MAX_DISTANCE) & (abs(self.column) <= MAX_DISTANCE) & (abs(self.weight) <= MAX_WEIGHT)
        if not inside.all() or (self.of < 0).any() or (self.channel < 0).any():
            raise SpicError(f"table: neighbours lie at most {MAX_DISTANCE} rows and columns away, with weights up to {MAX_WEIGHT}")
        before = (self.row < 0) | ((self.row == 0) & (self.column < 0))
        if not ((self.channel < self.of) | ((self.channel == self.of) & before)).all():
            raise SpicError("table: a neighbour is decoded after the symbol it is to select for")
        if (np.diff(self.of) < 0).any() or (len(self.of) and np.bincount(self.of).max() > MAX_NEIGHBOURS):
            raise SpicError(f"table: neighbours must be sorted by their channel `of`, at most {MAX_NEIGHBOURS} of each")
