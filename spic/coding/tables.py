"""Frequency tables: how often each symbol occurs in training images. A table is JSON, knows its entropy, and names
itself by a digest.

A *shared* table (the published way) holds one distribution for every symbol of an image. A table may instead hold
several distributions and an index that says which one codes the symbol at (channel, row, column):

    {"version": 1, "step": 2.0, "counts": {"0": 900, "1": 100}}
    {"version": 1, "step": 2.0, "counts": [{"0": 9}, {"0": 5, "1": 4}], "index": {"shape": [2, 1, 1], "values": [0, 1]}}
    {"version": 2, "step": 2.0, "counts": {"0": 9, "1": 3, "2": 4}, "signed": true}

Version 2 may say that symbols have a sign; then 0, -1, 1, -2, 2 ... are counted, and coded, as 0, 1, 2, 3, 4 ...

The index is stretched over the symbols of one image, [C, h, w]: for each channel an entry, or one for all; along rows
and columns each entry covers an equal share of them, so that an index of [C, 1, 1] names one distribution per channel
and one of [C, 8, 8] names them for the zones of a map of any size.

A *context* table, version 2, has `context` beside them: there the index names a row of choices, and the symbols that were
decoded before say which distribution of the row it is (contexts.py).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path

import numpy as np

from spic.coding.contexts import MAX_BIAS, MAX_CAP, MAX_SUM, Contexts, Selector, array_to_json, by_place, planes_of, stretched
from spic.coding.counting import MAX_DISTRIBUTIONS, MAX_ENTRIES, MAX_TABLE_SYMBOL, SymbolCounter
from spic.coding.neighbours import Neighbours
from spic.coding.symbols import MAX_SYMBOL, MAX_SYMBOLS, checked_shape, folded, image_shape, symbol_matrix
from spic.errors import SpicError
from spic.files import write_whole

KEYS = {1: {"version", "step", "counts", "index"}, 2: {"version", "step", "counts", "index", "context", "signed"}}
"""What a table of each version may say. A table is written in the earliest version that can say it, so that it keeps its
digest."""
MAX_TOTAL = 1 << 40
"""Largest sum of counts of one distribution; keeps every Huffman code at 57 bits or fewer."""
MAX_CELLS = 1 << 22
"""Largest number of distributions × (largest symbol + 1): bounds the memory a table can ask for."""
MAX_FILE_BYTES = 16 << 20
BIT_LENGTHS = MAX_SYMBOL.bit_length() + 1
"""Values beyond a table's largest symbol differ in their bit length, 0 to 24, by which an escape's price is known."""
KEPT_SHAPES = 16


class FrequencyTable:
    """Counts of each symbol, for one distribution or several.

    counts: {symbol: count}, or a sequence of such mappings together with `index`.
    step: the quantisation step the symbols were made with.
    index: integers, stretched over the symbols [C, h, w]; entry = which distribution, or which row of contexts.choices.
    signed: symbols have a sign; counts are of the integers that ``symbols.folded`` makes of them.
    contexts: how the symbols before it select a symbol's distribution; None: its place alone does.

    Anything else is a SpicError. Symbols are integers [B, C, h, w] (or [B, ...], as many axes as the index has), given
    as anything that numpy can view as an array.
    """

    def __init__(self, counts: Mapping[int, int] | Sequence[Mapping[int, int]], step: float, index=None,
                 signed: bool = False, contexts: Contexts | None = None):
        several = isinstance(counts, (list, tuple))
        self.distributions = tuple(_checked_counts(c) for c in (counts if several else [counts]))
        self.step = _checked_step(step)
        self.signed, self.contexts = signed, contexts
        if contexts is not None:
            contexts.check(len(self.distributions))
        rows = len(self.distributions) if contexts is None else len(contexts.choices)
        self.index = _checked_index(index, len(self.distributions), rows, several)
        self.width = 1 + max(max(d) for d in self.distributions)
        if len(self.distributions) * self.width > MAX_CELLS:
            raise SpicError(f"table: {len(self.distributions)} distributions of {self.width} symbols are too many")
        if (entries := sum(map(len, self.distributions))) > MAX_ENTRIES:
            raise SpicError(f"table: {entries} counted symbols in {len(self.distributions)} distributions, {MAX_ENTRIES} at "
                            "most; take a shared table or a larger step")
        self._selectors: dict[tuple[int, ...], Selector] = {}

    @classmethod
    def from_symbols(cls, symbols, step: float, kind: str = "shared", signed: bool = False) -> FrequencyTable:
        """The table of one array of symbols [B, C, h, w]; for many batches use SymbolCounter."""
        counter = SymbolCounter(kind, signed)
        counter.add(symbols)
        return cls.from_counter(counter, step)

    @classmethod
    def from_counter(cls, counter: SymbolCounter, step: float) -> FrequencyTable:
        """The table of everything counted so far."""
        counted = counter.counted()
        several = counted.index is not None
        return cls(counted.distributions if several else counted.distributions[0], step, counted.index, counter.signed,
                   counted.contexts)

    @classmethod
    def load(cls, path: str | Path) -> FrequencyTable:
        """Read a JSON table; a file that is missing, too large or not a valid table is a SpicError that names it."""
        try:
            if os.path.getsize(path) > MAX_FILE_BYTES:
                raise SpicError(f"frequency table {path}: larger than {MAX_FILE_BYTES >> 20} MiB")
            return cls.from_bytes(Path(path).read_bytes(), f"frequency table {path}")
        except OSError as error:
            raise SpicError(f"frequency table {path}: cannot be read ({error.strerror})") from None

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "frequency table") -> FrequencyTable:
        """The table in the bytes of a JSON file; ``name`` begins the message of what is none."""
        try:
            return cls._from_json(json.loads(data.decode(), object_pairs_hook=_unique_keys))
        except (ValueError, RecursionError) as error:
            raise SpicError(f"{name}: not valid JSON ({error})") from None
        except SpicError as error:
            raise SpicError(f"{name}: {error}") from None

    @classmethod
    def _from_json(cls, data) -> FrequencyTable:
        if not isinstance(data, dict) or "version" not in data:
            raise SpicError("not a frequency table")
        if not _is_int(data["version"], min(KEYS), max(KEYS)):
            raise SpicError(f"version {_shown(data['version'])}, this program reads versions {min(KEYS)} to {max(KEYS)}")
        if not {"step", "counts"} <= data.keys() <= KEYS[data["version"]]:
            raise SpicError(f"unexpected or missing entries: {sorted(data)}")
        if data["version"] > 1 and not data.keys() - KEYS[1]:
            raise SpicError(f"version {data['version']} that says nothing more than version 1: it must say so")
        if data.get("signed", True) is not True:
            raise SpicError(f"signed is {_shown(data['signed'])}: it is true, or left out")
        counts = data["counts"]
        parsed = [_json_counts(c) for c in counts] if isinstance(counts, list) else _json_counts(counts)
        index = None if data.get("index") is None else _json_array(data["index"], "index", 0, MAX_DISTRIBUTIONS)
        contexts = _json_contexts(data["context"]) if "context" in data else None
        return cls(parsed, data["step"], index, data.get("signed", False), contexts)

    def to_json(self) -> dict:
        """The table as a JSON object, symbols in ascending order: the same table always gives the same text."""
        counts = [{str(s): d[s] for s in d} for d in self.distributions]
        more = {} if self.contexts is None else {"context": self.contexts.to_json()}
        more |= {"signed": True} if self.signed else {}
        head = {"version": 2 if more else 1, "step": self.step}
        if self.index is None:
            return {**head, "counts": counts[0], **more}
        return {**head, "counts": counts, "index": array_to_json(self.index), **more}

    def to_bytes(self) -> bytes:
        """The content of its file."""
        return (json.dumps(self.to_json()) + "\n").encode()

    def save(self, path: str | Path) -> None:
        """Write the table; the file appears complete or not at all."""
        try:
            write_whole(Path(path), self.to_bytes())
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

    def selector(self, shape: Sequence[int]) -> Selector:
        """What selects the distributions of the symbols of images of this shape."""
        shape = checked_shape(shape)
        if shape not in self._selectors:
            contexts = self.contexts or by_place(len(self.distributions))
            index = np.zeros((1,), np.int32) if self.index is None else self.index
            over = shape if self.contexts is None else planes_of(shape)
            rows, bias = (stretched(array, over).ravel() for array in (index, contexts.bias))
            if len(self._selectors) >= KEPT_SHAPES:
                self._selectors.clear()
            self._selectors[shape] = Selector(contexts, rows, bias, shape, self.signed)
        return self._selectors[shape]

    def dense_counts(self) -> np.ndarray:
        """Counts as int64 [distributions, width]."""
        dense = np.zeros((len(self.distributions), self.width), np.int64)
        for row, distribution in zip(dense, self.distributions):
            row[list(distribution)] = list(distribution.values())
        return dense

    def histogram(self, symbols) -> np.ndarray:
        """How often each cell of the table occurs in symbols [B, ...]: int64 [distributions, width + BIT_LENGTHS].

        Column `width + n` counts symbols beyond the table's largest one that have n bits. Histograms of batches, and of
        processes, add up exactly; escapes_of and cross_entropy_of say what the sum costs."""
        matrix = symbol_matrix(folded(symbols) if self.signed else symbols)
        columns = self.width + BIT_LENGTHS
        cells = np.where(matrix < self.width, matrix, self.width + _bit_lengths(matrix)) if self._any_beyond(matrix) else matrix
        if self.index is not None:
            cells = cells + self.selector(image_shape(symbols)).contexts(matrix) * np.int64(columns)
        return np.bincount(cells.ravel(), minlength=len(self.distributions) * columns).reshape(-1, columns)

    def escapes_of(self, histogram: np.ndarray) -> int:
        """How many of the symbols in this sum of histograms have no count in the table."""
        return int(histogram[self._escaped].sum())

    def cross_entropy_of(self, histogram: np.ndarray) -> float:
        """Bits that an ideal coder for this table needs for the symbols in this sum of histograms: their cross-entropy with
        the table's distributions.

        A symbol without a count costs one part in the total, plus the escape's raw bits (see docs/bitstream.md). It is
        no lower bound on the bytes of one image: rANS starts from an empty state, on which a run of the most frequent
        symbol, the last ones of an image, can cost nothing."""
        at = np.nonzero(histogram)
        return math.fsum((histogram[at] * self.prices[at]).tolist())

    def count_escapes(self, symbols) -> int:
        """How many symbols [B, ...] have no count in the table."""
        return self.escapes_of(self.histogram(symbols))

    def cross_entropy(self, symbols) -> float:
        """Bits that an ideal coder for this table needs for symbols [B, ...], all images together: see cross_entropy_of.

        To sum over batches or processes, add their histograms: the bits then do not depend on how they were split."""
        return self.cross_entropy_of(self.histogram(symbols))

    def _any_beyond(self, matrix: np.ndarray) -> bool:
        return matrix.size > 0 and matrix.max() >= self.width

    @cached_property
    def _escaped(self) -> np.ndarray:
        """bool, as a histogram: the cells whose symbols have no count."""
        return np.pad(self.dense_counts() == 0, ((0, 0), (0, BIT_LENGTHS)), constant_values=True)

    @cached_property
    def prices(self) -> np.ndarray:
        """Bits of a symbol of each cell of a histogram, float64 [distributions, width + BIT_LENGTHS]."""
        counts = np.pad(self.dense_counts(), ((0, 0), (0, BIT_LENGTHS)))
        prices = np.log2(counts.sum(axis=1, keepdims=True)) - np.log2(np.maximum(counts, 1))
        lengths = np.append(_bit_lengths(np.arange(self.width)), np.arange(BIT_LENGTHS))
        return prices + np.where(counts == 0, 5 + np.maximum(lengths - 1, 0), 0)


def _bit_lengths(values: np.ndarray) -> np.ndarray:
    """int32: how many bits each value has, 0 for 0."""
    return np.frexp(values.astype(np.float64))[1]


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
            raise SpicError(f"table: symbol {_shown(symbol)} is not an integer in 0..{MAX_TABLE_SYMBOL}")
        if not _is_int(count, 1, MAX_TOTAL):
            raise SpicError(f"table: count {_shown(count)} of symbol {symbol} is not an integer in 1..{MAX_TOTAL}")
    checked = {int(s): int(counts[s]) for s in sorted(counts)}
    if sum(checked.values()) > MAX_TOTAL:
        raise SpicError(f"table: counts add up to more than {MAX_TOTAL}")
    return checked


def _shown(value) -> str:
    """A value of someone's file as part of a one-line message."""
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return f"of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _checked_step(step) -> float:
    number = isinstance(step, (int, float, np.number)) and not isinstance(step, bool)
    try:
        value = float(step) if number else math.nan
    except OverflowError:  # an integer larger than any float
        value = math.inf
    if not 0 < value < math.inf:
        raise SpicError(f"table: step must be a positive number, not {_shown(step)}")
    return value


def _checked_index(index, distributions: int, rows: int, several: bool) -> np.ndarray | None:
    if not several and index is None:
        return None
    if not several or index is None or not 1 <= distributions <= MAX_DISTRIBUTIONS:
        raise SpicError(f"table: an index goes with 1 to {MAX_DISTRIBUTIONS} distributions in a list")
    try:
        index = np.asarray(index)
    except ValueError:
        raise SpicError("table: index must be an array of integers") from None
    if index.dtype.kind not in "iu" or index.size == 0 or index.min() < 0 or index.max() >= rows:
        raise SpicError(f"table: index entries must be integers in 0..{rows - 1}")
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


def _json_array(array, name: str, low: int, high: int) -> np.ndarray:
    """int32, from its shape and values in row-major order."""
    shape, values = (array.get("shape"), array.get("values")) if isinstance(array, dict) else (None, None)
    if not isinstance(shape, list) or len(shape) > 8 or not all(_is_int(n, 1, MAX_SYMBOLS) for n in shape):
        raise SpicError(f"{name} must have a shape and values")
    values = _json_integers(values, name, low, high)
    if math.prod(shape) != len(values):
        raise SpicError(f"{name}: shape {shape} does not hold {len(values)} values")
    return values.reshape(shape)


def _json_integers(values, name: str, low: int, high: int) -> np.ndarray:
    """int32, from a list."""
    if not isinstance(values, list) or not all(_is_int(value, low, high) for value in values):
        raise SpicError(f"{name} must be a list of integers in {low}..{high}")
    return np.array(values, np.int32)


def _json_contexts(data) -> Contexts:
    names = [field.name for field in fields(Neighbours)]
    lists = data.get("neighbours") if isinstance(data, dict) else None
    if not isinstance(lists, dict) or set(lists) != set(names) or set(data) != {field.name for field in fields(Contexts)}:
        raise SpicError("context must have cap, limits, choices, bias and neighbours (of, channel, row, column, weight)")
    if not _is_int(data["cap"], 0, MAX_CAP):
        raise SpicError(f"cap: {_shown(data['cap'])} is not an integer in 0..{MAX_CAP}")
    entries = [_json_integers(lists[name], f"neighbours: {name}", -MAX_SYMBOLS, MAX_SYMBOLS) for name in names]
    if len({len(entry) for entry in entries}) > 1:
        raise SpicError("neighbours must be lists of one length")
    return Contexts(data["cap"], _json_integers(data["limits"], "limits", 1, MAX_SUM),
                    _json_array(data["choices"], "choices", 0, MAX_DISTRIBUTIONS),
                    _json_array(data["bias"], "bias", -MAX_BIAS, MAX_BIAS), Neighbours(*entries))
