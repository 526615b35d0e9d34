"""The arrays with which engines code rANS, built fast; slot_counts, choose_precision and spread of reference.py define
them. Integers only: a product that 64 bits cannot hold is taken in two parts."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from spic.coding.compiled import kernel
from spic.coding.rans.reference import ESCAPE, LOG_BITS, MAX_SLOTS, PRECISIONS, RARE, spread

LOW_PART = (1 << 20) - 1


class RansTables:
    """The arrays an engine needs, for `n_symbols` symbols per image.

    entries: uint64 [distributions × (width + 2)], slots owned | first of them in `slots` << 32; 0 = none. Column
        `width` stands for all larger symbols and is 0; the last column is the escape.
    slots: uint16 [distributions × 2**precision], each owner's slots in ascending order.
    lookup: uint64 [distributions × 2**precision], slots of the owner | rank << 16 | symbol << 32 (negative: escape).
    """

    def __init__(self, distributions: Sequence[Mapping[int, int]], n_symbols: int):
        counted = [_arrays(counts) for counts in distributions]
        self.precision = fast_precision(counted, n_symbols)
        self.width = 1 + max(int(symbols[-1]) for symbols, _ in counted)
        self.entries = np.zeros((len(counted), self.width + 2), np.uint64)
        self.slots = np.zeros((len(counted), 1 << self.precision), np.uint16)
        self.lookup = np.zeros((len(counted), 1 << self.precision), np.uint64)
        for context, (symbols, counts) in enumerate(counted):
            kept, owned = slot_arrays(counts, self.precision)
            self._fill(context, np.append(symbols[kept], ESCAPE), owned)
        self.entries, self.slots, self.lookup = self.entries.ravel(), self.slots.ravel(), self.lookup.ravel()

    def _fill(self, context: int, symbols: np.ndarray, owned: np.ndarray) -> None:
        owner, rank = spread(owned)
        first = (context << self.precision) + np.cumsum(owned) - owned
        self.entries[context, symbols] = (owned | first << 32).astype(np.uint64)  # ESCAPE, -1, is the last column
        self.slots[context] = np.argsort(owner, kind="stable")
        self.lookup[context] = (owned[owner] | rank << 16 | symbols[owner] << 32).astype(np.uint64)


def _arrays(counts: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.fromiter(counts, np.int64, len(counts)), np.fromiter(counts.values(), np.int64, len(counts))


def slot_arrays(counts: np.ndarray, precision: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in `counts` (ascending symbols) that own slots, and how many each of them and, last, ESCAPE owns."""
    slots, total = 1 << precision, int(counts.sum())
    kept = np.flatnonzero(counts * (slots * RARE) >= total)
    if len(kept) > slots - 1:
        kept = np.sort(kept[np.argsort(-counts[kept], kind="stable")[: slots - 1]])
    weights = np.append(counts[kept], total - int(counts[kept].sum()))
    shares = np.maximum(1, (weights * (2 * slots) + total) // (2 * total))
    surplus = int(shares.sum()) - slots
    if surplus:
        _settle(shares, weights, surplus)
    return kept, shares


@kernel
def _settle(shares, weights, surplus):
    """Take |surplus| slots, or give them, one by one: see the reference."""
    sign = 1 if surplus > 0 else -1
    heap = [_claim(weights[i], shares[i], i, sign) for i in range(len(shares)) if sign < 0 or shares[i] > 1]
    heapq.heapify(heap)
    for _ in range(abs(surplus)):
        i = abs(heapq.heappop(heap)[2])
        shares[i] -= sign
        if sign < 0 or shares[i] > 1:
            heapq.heappush(heap, _claim(weights[i], shares[i], i, sign))


@kernel
def _claim(weight, share, i, sign):
    """What the heap sorts by: ±(weight << 32) // (2 * share ∓ 1), its upper and lower 32 bits, and ∓i."""
    divisor = 2 * share - sign
    whole, rest = weight // divisor, weight % divisor
    return sign * whole, sign * ((rest << 32) // divisor), -sign * i


def fast_precision(counted: Sequence[tuple[np.ndarray, np.ndarray]], n_symbols: int) -> int:
    """choose_precision of the reference, for (symbols, counts) of each distribution."""
    allowed = [n for n in PRECISIONS if n == PRECISIONS[0] or len(counted) << n <= MAX_SLOTS]
    if len(allowed) == 1:
        return allowed[0]
    total = sum(int(counts.sum()) for _, counts in counted)
    ideal = sum(_ideal_cost(counts) for _, counts in counted)
    for precision in allowed[:-1]:
        loss = sum(_cost(symbols, counts, precision) for symbols, counts in counted) - ideal
        if 1000 * loss <= ideal and n_symbols * loss <= 2 * total << LOG_BITS:
            return precision
    return allowed[-1]


def _ideal_cost(counts: np.ndarray) -> int:
    total = counts.sum()
    return _product(counts, log2(np.array([total])) - log2(counts))


def _cost(symbols: np.ndarray, counts: np.ndarray, precision: int) -> int:
    kept, shares = slot_arrays(counts, precision)
    logarithms = _logarithms()
    bits = (precision + _escape_bits(symbols) << LOG_BITS) - logarithms[shares[-1]]
    bits[kept] = (precision << LOG_BITS) - logarithms[shares[:-1]]
    return _product(counts, bits)


def _escape_bits(values: np.ndarray) -> np.ndarray:
    """int64: five bits for the bit length, then those below the leading one."""
    return 5 + np.maximum(0, np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1)


def _product(counts: np.ndarray, bits: np.ndarray) -> int:
    """Σ counts · bits, exactly: counts add up to 2**40 at most, bits are below 2**26."""
    return (int((counts >> 20) @ bits) << 20) + int((counts & LOW_PART) @ bits)


@lru_cache(maxsize=1)
def _logarithms() -> np.ndarray:
    """log2 of 1 to 2**16, the numbers of slots; int64, the entry at 0 is 0."""
    return np.append(0, log2(np.arange(1, (1 << PRECISIONS[-1]) + 1)))


def log2(values: np.ndarray) -> np.ndarray:
    """Base-2 logarithms of integers in 1..2**40 with LOG_BITS fractional bits, rounded down digit by digit; int64."""
    result = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1
    mantissa = values << 40 - result
    for _ in range(LOG_BITS):
        high, low = mantissa >> 20, mantissa & LOW_PART
        mantissa = high * high + ((2 * high * low << 20) + low * low >> 40)  # mantissa * mantissa >> 40
        digit = mantissa >> 41
        mantissa >>= digit
        result = result << 1 | digit
    return result
