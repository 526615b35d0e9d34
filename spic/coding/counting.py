"""Counting: from the symbols of training pictures to what a frequency table holds.

    counter = SymbolCounter("position")
    counter.add(symbols)                                          # int [B, C, h, w], batch by batch
    table = FrequencyTable.from_counter(counter, step=0.5)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spic.coding.clusters import cluster
from spic.coding.contexts import Contexts, planes_of, stretched
from spic.coding.symbols import folded, image_shape, symbol_matrix
from spic.errors import SpicError

MAX_TABLE_SYMBOL = 65535
MAX_DISTRIBUTIONS = 1024
MAX_ENTRIES = 1 << 19
"""Largest number of counted symbols of all distributions together: such a table is built in two seconds."""
KINDS = ("shared", "channel", "position", "context")
"""How a table shares out its distributions."""
POSITION_CLUSTERS = 64
"""Distributions of a table per position: more save hardly any bits, and cost the decoder memory."""
ZONES = 8
"""Rows and columns of zones in a table per position. Larger maps share a distribution inside a zone: with one for each
of 63 x 63 positions, a hundred training pictures are too few, and the file takes half a megabyte."""
MAX_COUNTED_CELLS = 1 << 26
"""Largest number of distributions × symbols that are counted: bounds memory."""


@dataclass(frozen=True)
class Counted:
    """What a table of several distributions is made of: FrequencyTable says what each part means. A shared one has no index."""

    distributions: list[dict[int, int]]
    index: np.ndarray | None = None
    contexts: Contexts | None = None


class SymbolCounter:
    """Counts symbols [B, C, h, w] batch by batch, then gives what a table holds.

    kind: "shared", one distribution for all; "channel", one per channel; "position", at most POSITION_CLUSTERS, each for
    the channels and positions (or zones of them, where there are more than ZONES in a row or column) whose symbols are
    distributed alike; "context", selected by the symbols decoded before, see fitting.py. signed: the symbols have a sign."""

    def __init__(self, kind: str = "shared", signed: bool = False):
        if kind not in KINDS:
            raise SpicError(f"unknown kind of tables {kind!r}, choose from {', '.join(KINDS)}")
        self.signed = signed
        self._counts = _Kept(signed) if kind == "context" else _ByPlace(kind)

    def add(self, symbols) -> None:
        """Count one batch; values above 65535 stay out of the table and will be escaped."""
        self._counts.add(symbol_matrix(folded(symbols) if self.signed else symbols), image_shape(symbols))

    def counted(self) -> Counted:
        """Of everything counted so far; a SpicError where that is nothing, or too much for a table."""
        return self._counts.counted()


class _ByPlace:
    """Counts where the place alone says which distribution a symbol belongs to."""

    def __init__(self, kind: str):
        self.kind = kind
        self._shape: tuple[int, ...] | None = None
        self._counts = np.zeros((1, 0), np.int64)

    def add(self, matrix: np.ndarray, image: tuple[int, ...]) -> None:
        shape = _index_shape(self.kind, image)
        self._shape = self._shape or shape
        if shape != self._shape:
            raise SpicError(f"symbols of shape {image} after symbols of another shape")
        rows = math.prod(shape)
        width = max(self._counts.shape[1], min(int(matrix.max(initial=0)), MAX_TABLE_SYMBOL) + 1)
        if rows * (width + 1) > MAX_COUNTED_CELLS:
            raise SpicError(f"symbols up to {width - 1} at {rows} positions are too many to count; use --tables shared")
        row_of = stretched(np.arange(rows).reshape(shape), image).ravel()
        cells = np.minimum(matrix, width) + row_of * (width + 1)
        counts = np.bincount(cells.ravel(), minlength=rows * (width + 1)).reshape(rows, width + 1)[:, :width]
        counts[:, : self._counts.shape[1]] += self._counts
        self._counts = counts

    def counted(self) -> Counted:
        _require_some(self._counts.any())
        index = np.arange(len(self._counts))
        limit = POSITION_CLUSTERS if self.kind == "position" else MAX_DISTRIBUTIONS
        if len(index) > limit:
            index = cluster(self._counts, limit)
        pooled = np.zeros((index.max() + 1, self._counts.shape[1]), np.int64)
        np.add.at(pooled, index, self._counts)
        return Counted(_distributions(pooled), None if self.kind == "shared" else index.reshape(self._shape))


class _Kept:
    """Symbols that are kept, because what counts is which of them lie side by side: those of all images, or where they are
    too many of every second, fourth, ... one."""

    def __init__(self, signed: bool):
        self.signed = signed
        self._kept: list[np.ndarray] = []
        self._image: tuple[int, ...] | None = None
        self._seen, self._every = 0, 1

    def add(self, matrix: np.ndarray, image: tuple[int, ...]) -> None:
        self._image = self._image or image
        if image != self._image:
            raise SpicError(f"symbols of shape {image} after symbols of another shape")
        if 2 * math.prod(image) > MAX_COUNTED_CELLS:
            raise SpicError(f"images of {math.prod(image)} symbols are too large to find contexts in; use --tables position")
        taken = matrix[-self._seen % self._every :: self._every]
        self._seen += len(matrix)
        self._kept.append(np.minimum(taken, MAX_TABLE_SYMBOL + 1).astype(np.int32))
        while sum(map(len, self._kept)) * matrix.shape[1] > MAX_COUNTED_CELLS:
            self._kept, self._every = [np.concatenate(self._kept)[::2].copy()], 2 * self._every

    def counted(self) -> Counted:
        _require_some(self._kept)
        from spic.coding.fitting import fit  # loaded where a table is made, never where one is read

        matrix = np.concatenate(self._kept)
        _require_some(matrix.size)
        width = min(int(matrix.max()), MAX_TABLE_SYMBOL) + 1
        counts, index, contexts = fit(matrix.reshape(len(matrix), *planes_of(self._image)), width, self.signed)
        return Counted(_distributions(counts), index, contexts)


def _require_some(symbols) -> None:
    if not symbols:
        raise SpicError("no symbols were counted, so there is no table")


def _distributions(counts: np.ndarray) -> list[dict[int, int]]:
    """Rows of counts [distributions, width] as a table takes several."""
    if len(counts) > 1 and np.count_nonzero(counts) > MAX_ENTRIES:
        raise SpicError(f"symbols up to {counts.shape[1] - 1} in {len(counts)} distributions are too many for a table "
                        f"({MAX_ENTRIES} entries at most); use --tables shared")
    return [{int(s): int(row[s]) for s in np.flatnonzero(row)} for row in counts]


def _index_shape(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the index of such a table for symbols of one image of this shape."""
    channels, *sides = shape
    return {"shared": (1,), "channel": (channels, *[1] * len(sides)),
            "position": (channels, *[min(side, ZONES) for side in sides])}[kind]
