"""From counts to the integer probabilities of the rANS coder. Integers only: both ends of a stream must arrive at
the same slots.

A distribution shares out 2**precision slots. Each symbol that is frequent enough owns some of them, ESCAPE owns the
rest (at least one) and stands for every other value. docs/bitstream.md specifies each rule.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

ESCAPE = -1
PRECISIONS = range(12, 17)
RARE = 8
"""A symbol with less than 1/RARE of a slot to its count owns none and is escaped."""
MAX_SLOTS = 1 << 20
"""Upper limit of distributions × slots, for the memory of tables with several; 12 bits are always allowed."""
LOG_BITS = 20


def slot_counts(counts: Mapping[int, int], precision: int) -> dict[int, int]:
    """symbol (and ESCAPE, last) → number of its slots; they sum to 2**precision, each at least 1."""
    slots, total = 1 << precision, sum(counts.values())
    frequent = sorted(counts, key=lambda s: (-counts[s], s))[: slots - 1]
    kept = sorted(s for s in frequent if counts[s] * slots * RARE >= total)
    weights = [counts[s] for s in kept]
    weights.append(total - sum(weights))
    shares = [max(1, (2 * w * slots + total) // (2 * total)) for w in weights]
    _settle(shares, weights, slots)
    return dict(zip([*kept, ESCAPE], shares))


def _settle(shares: list[int], weights: list[int], slots: int) -> None:
    """Take slots from whoever feels it least, or give to whoever needs it most, until they sum to `slots` (Webster)."""
    surplus = sum(shares) - slots
    if surplus > 0:
        heap = [((w << 32) // (2 * f - 1), -i) for i, (w, f) in enumerate(zip(weights, shares)) if f > 1]
    else:
        heap = [(-((w << 32) // (2 * f + 1)), i) for i, (w, f) in enumerate(zip(weights, shares))]
    heapq.heapify(heap)
    for _ in range(abs(surplus)):
        i = abs(heapq.heappop(heap)[1])
        shares[i] += -1 if surplus > 0 else 1
        if surplus < 0:
            heapq.heappush(heap, (-((weights[i] << 32) // (2 * shares[i] + 1)), i))
        elif shares[i] > 1:
            heapq.heappush(heap, ((weights[i] << 32) // (2 * shares[i] - 1), -i))


def escape_bits(value: int) -> int:
    """Raw bits of an escaped value: five for its bit length, then the bits below its leading one."""
    return 5 + max(0, value.bit_length() - 1)


def choose_precision(distributions: Sequence[Mapping[int, int]], n_symbols: int) -> int:
    """The smallest precision that costs at most 0.1 % of the entropy and 2 bits per image, or the largest allowed."""
    total = sum(sum(counts.values()) for counts in distributions)
    ideal = sum(_ideal_cost(tuple(counts.values())) for counts in distributions)
    allowed = [n for n in PRECISIONS if n == PRECISIONS[0] or len(distributions) << n <= MAX_SLOTS]
    for precision in allowed[:-1]:
        loss = sum(_cost(counts, precision) for counts in distributions) - ideal
        if 1000 * loss <= ideal and n_symbols * loss <= 2 * total << LOG_BITS:
            return precision
    return allowed[-1]


@lru_cache(maxsize=64)
def _ideal_cost(counts: tuple[int, ...]) -> int:
    total = _log2(sum(counts))
    return sum(c * (total - _log2(c)) for c in counts)


def _cost(counts: Mapping[int, int], precision: int) -> int:
    shares = slot_counts(counts, precision)
    escape = shares[ESCAPE]
    return sum(
        c * ((precision << LOG_BITS) - _log2(shares[s]))
        if s in shares
        else c * ((precision + escape_bits(s) << LOG_BITS) - _log2(escape))
        for s, c in counts.items()
    )


@lru_cache(maxsize=1 << 17)
def _log2(value: int) -> int:
    """Base-2 logarithm of a positive integer with LOG_BITS fractional bits, rounded down digit by digit."""
    result = value.bit_length() - 1
    mantissa = value << 40 >> result
    for _ in range(LOG_BITS):
        mantissa = mantissa * mantissa >> 40
        digit = mantissa >> 41
        mantissa >>= digit
        result = result << 1 | digit
    return result


def spread(shares: Mapping[int, int], precision: int) -> tuple[np.ndarray, np.ndarray]:
    """Who owns each slot: (position of the owner in `shares`, rank of the slot among the owner's), both int64
    [2**precision].

    The j-th slot of an owner with f slots would like to lie at (2j + 1) / 2f of the table; slots are given out in that
    order. So every owner's slots are spread evenly, and already a small state codes at nearly the right cost."""
    counts = np.fromiter(shares.values(), np.int64)
    owner = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = (2 * rank + 1 << 40) // (2 * counts[owner])  # two different fractions differ by more than 2**-34
    order = np.argsort(place, kind="stable")
    return owner[order], rank[order]


class RansTables:
    """The arrays an engine needs, for `n_symbols` symbols per image.

    entries: uint64 [distributions × (width + 2)], slots owned | first of them in `slots` << 32; 0 = none. Column
        `width` stands for all larger symbols and is 0; the last column is the escape.
    slots: uint16 [distributions × 2**precision], each owner's slots in ascending order.
    lookup: uint64 [distributions × 2**precision], slots of the owner | rank << 16 | symbol << 32 (negative: escape).
    """

    def __init__(self, distributions: Sequence[Mapping[int, int]], n_symbols: int):
        self.precision = choose_precision(distributions, n_symbols)
        self.width = 1 + max(max(counts) for counts in distributions)
        self.entries = np.zeros((len(distributions), self.width + 2), np.uint64)
        self.slots = np.zeros((len(distributions), 1 << self.precision), np.uint16)
        self.lookup = np.zeros((len(distributions), 1 << self.precision), np.uint64)
        for context, counts in enumerate(distributions):
            self._fill(context, slot_counts(counts, self.precision))
        self.entries, self.slots, self.lookup = self.entries.ravel(), self.slots.ravel(), self.lookup.ravel()

    def _fill(self, context: int, shares: Mapping[int, int]) -> None:
        owner, rank = spread(shares, self.precision)
        symbols = np.fromiter(shares, np.int64)
        owned = np.fromiter(shares.values(), np.int64)
        first = (context << self.precision) + np.cumsum(owned) - owned
        self.entries[context, symbols] = (owned | first << 32).astype(np.uint64)  # ESCAPE, -1, is the last column
        self.slots[context] = np.argsort(owner, kind="stable")
        self.lookup[context] = (owned[owner] | rank << 16 | symbols[owner] << 32).astype(np.uint64)
