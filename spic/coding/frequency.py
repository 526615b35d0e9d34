"""Frequency tables: how often each symbol occurs in training images. A table is JSON, knows its entropy, and names
itself by a digest.

A *shared* table (the published way) holds one distribution for every symbol of an image. A table may instead hold
several distributions and an index that says which one codes the symbol at (channel, row, column):

    {"version": 1, "step": 2.0, "counts": {"0": 900, "1": 100}}
    {"version": 1, "step": 2.0, "counts": [{"0": 9}, {"0": 5, "1": 4}], "index": {"shape": [2, 1, 1], "values": [0, 1]}}

The index is stretched over the symbols of one image, [C, h, w]: for each channel an entry, or one for all; along rows
and columns each entry covers an equal share of them, so that an index of [C, 1, 1] names one distribution per channel
and one of [C, 8, 8] names them for the zones of a map of any size.

The command `python -m spic.coding.frequency` counts tables; it is spic.training.recount, by the name of what it makes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spic.coding.clusters import cluster
from spic.coding.symbols import symbol_matrix
from spic.errors import SpicError
from spic.files import write_whole

FORMAT_VERSION = 1
MAX_TABLE_SYMBOL = 65535
MAX_TOTAL = 1 << 40
"""Largest sum of counts of one distribution; keeps every Huffman code at 57 bits or fewer."""
MAX_DISTRIBUTIONS = 1024
MAX_CELLS = 1 << 22
"""Largest number of distributions × (largest symbol + 1): bounds the memory a table can ask for."""
MAX_FILE_BYTES = 16 << 20
TABLES = ("shared", "channel", "position")
POSITION_CLUSTERS = 64
"""Distributions of a table per position: more save hardly any bits, and cost the decoder memory."""
ZONES = 8
"""Rows and columns of zones in a table per position. Larger maps share a distribution inside a zone: with one for each
of 63 x 63 positions, a hundred training pictures are too few, and the file takes half a megabyte."""
MAX_COUNTED_CELLS = 1 << 26
"""Largest number of distributions × symbols that are counted: bounds memory."""


class FrequencyTable:
    """Counts of each symbol, for one distribution or several.

    counts: {symbol: count}, or a sequence of such mappings together with `index`.
    step: the quantisation step the symbols were made with.
    index: integers, stretched over the symbols [C, h, w]; entry = which distribution.
    """

    def __init__(self, counts: Mapping[int, int] | Sequence[Mapping[int, int]], step: float, index=None):
        several = not isinstance(counts, Mapping)
        self.distributions = tuple(_checked_counts(c) for c in (counts if several else [counts]))
        self.step = _checked_step(step)
        self.index = _checked_index(index, len(self.distributions), several)
        self.width = 1 + max(max(d) for d in self.distributions)
        if len(self.distributions) * self.width > MAX_CELLS:
            raise SpicError(f"table: {len(self.distributions)} distributions of {self.width} symbols are too many")
        self._contexts: dict[tuple[int, ...], np.ndarray] = {}

    @classmethod
    def from_symbols(cls, symbols, step: float, tables: str = "shared") -> FrequencyTable:
        """The table of one tensor of symbols [B, C, h, w]; for many batches use SymbolCounter."""
        counter = SymbolCounter(tables)
        counter.add(symbols)
        return counter.table(step)

    @classmethod
    def load(cls, path: str | Path) -> FrequencyTable:
        """Read a JSON table; a file that is missing, too large or not a valid table is a SpicError that names it."""
        try:
            if os.path.getsize(path) > MAX_FILE_BYTES:
                raise SpicError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
            data = json.loads(Path(path).read_text("utf-8"), object_pairs_hook=_unique_keys)
            return cls._from_json(data)
        except OSError as error:
            raise SpicError(f"frequency table {path}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise SpicError(f"frequency table {path}: not valid JSON ({error})") from None
        except SpicError as error:
            raise SpicError(f"frequency table {path}: {error}") from None

    @classmethod
    def _from_json(cls, data) -> FrequencyTable:
        if not isinstance(data, dict) or "version" not in data:
            raise SpicError("not a frequency table")
        if data["version"] != FORMAT_VERSION:
            raise SpicError(f"version {data['version']!r}, this program reads version {FORMAT_VERSION}")
        if not {"step", "counts"} <= data.keys() <= {"version", "step", "counts", "index"}:
            raise SpicError(f"unexpected or missing entries: {sorted(data)}")
        counts = data["counts"]
        parsed = [_json_counts(c) for c in counts] if isinstance(counts, list) else _json_counts(counts)
        return cls(parsed, data["step"], _json_index(data.get("index")))

    def to_json(self) -> dict:
        """The table as a JSON object, symbols in ascending order: the same table always gives the same text."""
        counts = [{str(s): d[s] for s in d} for d in self.distributions]
        if self.index is None:
            return {"version": FORMAT_VERSION, "step": self.step, "counts": counts[0]}
        index = {"shape": list(self.index.shape), "values": self.index.ravel().tolist()}
        return {"version": FORMAT_VERSION, "step": self.step, "counts": counts, "index": index}

    def save(self, path: str | Path) -> None:
        """Write the table; the file appears complete or not at all."""
        try:
            write_whole(Path(path), (json.dumps(self.to_json()) + "\n").encode())
        except OSError as error:
            raise SpicError(f"frequency table {path}: cannot be written ({error.strerror})") from None

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the table's content; both ends of a stream must have the same."""
        return hashlib.sha256(json.dumps(self.to_json(), separators=(",", ":")).encode()).hexdigest()

    @property
    def counts(self) -> dict[int, int]:
        """Symbol → count over all distributions."""
        pooled = Counter()
        for distribution in self.distributions:
            pooled.update(distribution)
        return dict(sorted(pooled.items()))

    @property
    def total(self) -> int:
        return sum(sum(d.values()) for d in self.distributions)

    @property
    def entropy(self) -> float:
        """Bits per symbol, averaged over the distributions by how often each was counted."""
        return sum(_information(d) for d in self.distributions) / self.total

    def contexts(self, shape: Sequence[int]) -> np.ndarray:
        """int32 [N]: the distribution of each symbol of an image of this shape."""
        shape = tuple(shape)
        if shape not in self._contexts:
            index = np.zeros((1,), np.int32) if self.index is None else self.index
            self._contexts[shape] = _stretched(index, shape).ravel()
        return self._contexts[shape]

    def histogram(self, symbols) -> np.ndarray:
        """How often each cell of the table occurs in symbols [B, ...]: int64 [distributions, width + 1].

        The last column counts symbols beyond the table's largest one."""
        matrix = symbol_matrix(symbols).numpy()
        cells = np.minimum(matrix, self.width)
        if self.index is not None:
            cells += self.contexts(symbols.shape[1:]) * (self.width + 1)
        size = len(self.distributions) * (self.width + 1)
        return np.bincount(cells.ravel(), minlength=size).reshape(-1, self.width + 1)

    def dense_counts(self) -> np.ndarray:
        """Counts as int64 [distributions, width]."""
        dense = np.zeros((len(self.distributions), self.width), np.int64)
        for row, distribution in zip(dense, self.distributions):
            row[list(distribution)] = list(distribution.values())
        return dense

    def count_escapes(self, symbols) -> int:
        """How many symbols [B, ...] have no count in the table."""
        histogram = self.histogram(symbols)
        return int(histogram[:, -1].sum() + histogram[:, :-1][self.dense_counts() == 0].sum())

    def cross_entropy(self, symbols) -> float:
        """Bits that an ideal coder for this table needs for symbols [B, ...], all images together.

        A symbol without a count costs one part in the total, plus the escape's raw bits (see docs/bitstream.md)."""
        histogram = self.histogram(symbols)
        counts = self.dense_counts()
        totals = counts.sum(axis=1, keepdims=True)
        costs = np.log2(totals) - np.log2(np.maximum(counts, 1))
        escapes = np.where(counts == 0, histogram[:, :-1], 0)
        bits = float((histogram[:, :-1] * costs).sum() + (histogram[:, -1:] * np.log2(totals)).sum())
        bits += float((escapes.sum(axis=0) * _escape_bits(np.arange(self.width))).sum())
        beyond = symbol_matrix(symbols).numpy()
        return bits + float(_escape_bits(beyond[beyond >= self.width]).sum())


class SymbolCounter:
    """Counts symbols [B, C, h, w] batch by batch, then gives the table.

    tables: "shared", one distribution for all; "channel", one per channel; "position", at most POSITION_CLUSTERS,
    each for the channels and positions (or zones of them, where there are more than ZONES in a row or column) whose
    symbols are distributed alike."""

    def __init__(self, tables: str = "shared"):
        if tables not in TABLES:
            raise SpicError(f"unknown kind of tables {tables!r}, choose from {', '.join(TABLES)}")
        self.tables = tables
        self._shape: tuple[int, ...] | None = None
        self._counts = np.zeros((1, 0), np.int64)

    def add(self, symbols) -> None:
        """Count one batch; values above 65535 stay out of the table and will be escaped."""
        matrix = symbol_matrix(symbols).numpy()
        shape = _index_shape(self.tables, tuple(symbols.shape[1:]))
        self._shape = self._shape or shape
        if shape != self._shape:
            raise SpicError(f"symbols of shape {tuple(symbols.shape[1:])} after symbols of another shape")
        rows = math.prod(shape)
        width = max(self._counts.shape[1], min(int(matrix.max(initial=0)), MAX_TABLE_SYMBOL) + 1)
        if rows * (width + 1) > MAX_COUNTED_CELLS:
            raise SpicError(f"symbols up to {width - 1} at {rows} positions are too many to count; use --tables shared")
        row_of = _stretched(np.arange(rows).reshape(shape), tuple(symbols.shape[1:])).ravel()
        cells = np.minimum(matrix, width) + row_of * (width + 1)
        counts = np.bincount(cells.ravel(), minlength=rows * (width + 1)).reshape(rows, width + 1)[:, :width]
        counts[:, : self._counts.shape[1]] += self._counts
        self._counts = counts

    def table(self, step: float) -> FrequencyTable:
        """The table of everything counted so far."""
        if not self._counts.any():
            raise SpicError("no symbols were counted, so there is no table")
        index = np.arange(len(self._counts))
        limit = POSITION_CLUSTERS if self.tables == "position" else MAX_DISTRIBUTIONS
        if len(index) > limit:
            index = cluster(self._counts, limit)
        pooled = np.zeros((index.max() + 1, self._counts.shape[1]), np.int64)
        np.add.at(pooled, index, self._counts)
        counts = [{int(s): int(row[s]) for s in np.flatnonzero(row)} for row in pooled]
        if self.tables == "shared":
            return FrequencyTable(counts[0], step)
        return FrequencyTable(counts, step, index.reshape(self._shape))


def _index_shape(tables: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the index of such a table for symbols of one image of this shape."""
    channels, *sides = shape
    return {"shared": (1,), "channel": (channels, *[1] * len(sides)),
            "position": (channels, *[min(side, ZONES) for side in sides])}[tables]


def _stretched(index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The index over symbols of this shape; place i of n takes entry i * entries // n."""
    entries = (1,) * (len(shape) - index.ndim) + index.shape
    fits = len(entries) == len(shape) and entries[0] in (1, shape[0])
    if not fits or any(several > max(size, 1) for several, size in zip(entries, shape)):
        raise SpicError(f"table made for symbols of shape {index.shape} cannot code shape {shape}")
    places = [np.arange(size) * several // max(size, 1) for several, size in zip(entries, shape)]
    return np.ascontiguousarray(index.reshape(entries)[np.ix_(*places)])


def _escape_bits(values: np.ndarray) -> np.ndarray:
    """Raw bits of an escaped value: five for its bit length, then all bits below the leading one."""
    return 5 + np.maximum(np.frexp(values.astype(np.float64))[1] - 1, 0)


def _information(counts: Mapping[int, int]) -> float:
    total = sum(counts.values())
    return sum(c * math.log2(total / c) for c in counts.values())


def _is_int(value, low: int, high: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and low <= value <= high


def _checked_counts(counts) -> dict[int, int]:
    if not isinstance(counts, Mapping) or not counts:
        raise SpicError("table: counts must map at least one symbol to its count")
    for symbol, count in counts.items():
        if not _is_int(symbol, 0, MAX_TABLE_SYMBOL):
            raise SpicError(f"table: symbol {symbol!r} is not an integer in 0..{MAX_TABLE_SYMBOL}")
        if not _is_int(count, 1, MAX_TOTAL):
            raise SpicError(f"table: count {count!r} of symbol {symbol} is not an integer in 1..{MAX_TOTAL}")
    if sum(counts.values()) > MAX_TOTAL:
        raise SpicError(f"table: counts add up to more than {MAX_TOTAL}")
    return {int(s): int(counts[s]) for s in sorted(counts)}


def _checked_step(step) -> float:
    if isinstance(step, bool) or not isinstance(step, (int, float, np.number)) or not math.isfinite(step) or step <= 0:
        raise SpicError(f"table: step must be a positive number, not {step!r}")
    return float(step)


def _checked_index(index, distributions: int, several: bool) -> np.ndarray | None:
    if not several and index is None:
        return None
    if not several or index is None or not 1 <= distributions <= MAX_DISTRIBUTIONS:
        raise SpicError(f"table: an index goes with 1 to {MAX_DISTRIBUTIONS} distributions in a list")
    index = np.asarray(index)
    if index.dtype.kind not in "iu" or index.size == 0 or index.min() < 0 or index.max() >= distributions:
        raise SpicError(f"table: index entries must be integers in 0..{distributions - 1}")
    return index.astype(np.int32)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise SpicError("an entry occurs twice")
    return mapping


def _json_counts(counts) -> dict[int, int]:
    if not isinstance(counts, dict) or not all(s.isascii() and s.isdigit() and str(int(s[:9])) == s for s in counts):
        raise SpicError("counts must map symbols, written as plain integers, to counts")
    return {int(s): c for s, c in counts.items()}


def _json_index(index) -> np.ndarray | None:
    if index is None:
        return None
    shape, values = (index.get("shape"), index.get("values")) if isinstance(index, dict) else (None, None)
    if not isinstance(shape, list) or not isinstance(values, list) or len(shape) > 8:
        raise SpicError("index must have a shape and values")
    if not all(_is_int(n, 1, 1 << 24) for n in shape) or not all(_is_int(v, 0, MAX_DISTRIBUTIONS) for v in values):
        raise SpicError("index: shape and values must be lists of integers")
    if math.prod(shape) != len(values):
        raise SpicError(f"index: shape {shape} does not hold {len(values)} values")
    return np.array(values, np.int32).reshape(shape)


if __name__ == "__main__":  # the command needs networks and pictures: it lives in the layer above, which is loaded only now
    from spic.training.recount import main

    raise SystemExit(main())
