"""The arrays with which engines read and write Huffman codes, built fast; `huffman_code` of reference.py defines them."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
from numba import uint64

from spic.coding.compiled import kernel
from spic.coding.huffman.reference import END

MAX_LENGTH = 57
"""Longest code of any valid table: MAX_TOTAL allows no longer one, and a 64-bit window at any bit offset holds it. In an entry
its length lies above so many bits of code."""
ESCAPE_BITS = 28
"""The most bits that follow END in an escape: five for the length, 23 below the leading one."""
LOOKUP_BITS = 12
"""Size of the look-up window for a table with a single distribution; its two tables fit the first-level cache."""
SMALL_LOOKUP_BITS = 8
"""The same where every distribution has a look-up table of its own."""
BURST = 6
"""The most symbols that one look-up of a burst table gives."""
RANK_BITS = 17
"""Bits of a leaf's place among all leaves of a distribution, 65537 at most."""


class HuffmanTables:
    """The arrays an engine needs. Codes with their first bit at bit 63 are called aligned.

    entries: uint64 [distributions × (width + 2)], code | length << 57; 0 = not in the table. Column `width` stands
        for all larger symbols and is 0; the last column is END.
    lookup: uint32 [distributions << lookup_bits], length | (symbol + 1) << 8 of the code that the window begins
        with; 0 = a longer one.
    codes, values: all aligned codes in ascending order and their `lookup` entries, per distribution from bounds[d]
        to bounds[d + 1].
    bursts: uint64 [1 << lookup_bits] for a single distribution, bits | count << 4 | symbols << 8, 16, ...: every symbol
        that lies completely in the window, up to BURST of them, all below 256; count 0 = none.
    """

    def __init__(self, distributions: Sequence[Mapping[int, int]]):
        self.width = 1 + max(max(counts) for counts in distributions)
        self.entries = np.zeros((len(distributions), self.width + 2), np.uint64)
        self.lookup_bits = LOOKUP_BITS if len(distributions) == 1 else SMALL_LOOKUP_BITS
        self.lookup = np.zeros((len(distributions), 1 << self.lookup_bits), np.uint32)
        rows = [self._fill(context, counts) for context, counts in enumerate(distributions)]
        self.codes = np.concatenate([codes for codes, _, _ in rows])
        self.values = np.concatenate([values for _, values, _ in rows])
        self.bounds = np.cumsum([0] + [len(codes) for codes, _, _ in rows])
        self.longest = max(longest for _, _, longest in rows)
        self.bursts = _bursts(self.lookup[0].astype(np.uint64))
        self.entries, self.lookup = self.entries.ravel(), self.lookup.ravel()

    def _fill(self, context: int, counts: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray, int]:
        """Fill the rows of one distribution; its aligned codes, their values, and the longest code's length."""
        symbols = np.array([END, *counts], np.int64)
        lengths, codes = code_arrays(np.array([1, *counts.values()], np.int64))
        self.entries[context, symbols] = codes | lengths << np.uint64(MAX_LENGTH)  # END, -1, is the last column
        aligned = codes << np.uint64(64) - lengths
        values = lengths.astype(np.uint32) | (symbols + 1).astype(np.uint32) << np.uint32(8)
        order = np.argsort(aligned)
        aligned, values, lengths = aligned[order], values[order], lengths[order]
        windows = np.arange(1 << self.lookup_bits, dtype=np.uint64) << np.uint64(64 - self.lookup_bits)
        found = np.searchsorted(aligned, windows, side="right") - 1
        self.lookup[context] = np.where(lengths[found] <= self.lookup_bits, values[found], np.uint32(0))
        return aligned, values, int(lengths.max())


@kernel
def code_arrays(counts):
    """Lengths and codes, uint64 [n], of leaves in ascending order of their symbols (END first), int64 counts [n] given.

    A node is known by its count and its first leaf, which is what huffman_code compares: one number holds both."""
    n = len(counts)
    heap = [(counts[leaf] << RANK_BITS) | leaf for leaf in range(n)]
    heapq.heapify(heap)
    node_of = np.arange(n)  # first leaf → node; nodes below n are leaves, n + k is the k-th parent
    children = np.empty((n - 1, 2), np.int64)
    rank = (1 << RANK_BITS) - 1
    for k in range(n - 1):
        zero, one = heapq.heappop(heap), heapq.heappop(heap)
        children[k, 0], children[k, 1] = node_of[zero & rank], node_of[one & rank]
        node_of[zero & rank] = n + k
        heapq.heappush(heap, (((zero >> RANK_BITS) + (one >> RANK_BITS)) << RANK_BITS) | (zero & rank))
    lengths, codes = np.zeros(2 * n - 1, np.uint64), np.zeros(2 * n - 1, np.uint64)
    for k in range(n - 2, -1, -1):
        for branch in range(2):
            child = children[k, branch]
            lengths[child] = lengths[n + k] + uint64(1)
            codes[child] = (codes[n + k] << uint64(1)) | uint64(branch)
    return lengths[:n].copy(), codes[:n].copy()


def _bursts(lookup: np.ndarray) -> np.ndarray:
    """All windows at once: take one more symbol from what is left of each window while it holds a complete one."""
    windows = np.arange(len(lookup), dtype=np.uint64)
    used, count, packed = (np.zeros(len(lookup), np.uint64) for _ in range(3))
    live = np.ones(len(lookup), bool)
    for _ in range(BURST):
        entry = lookup[windows << used & np.uint64(len(lookup) - 1)]
        length, symbol = entry & np.uint64(255), (entry >> np.uint64(8)) - np.uint64(1)
        live &= (entry != 0) & (symbol < 256) & (used + length <= LOOKUP_BITS)
        packed[live] |= symbol[live] << (np.uint64(8) * (count[live] + np.uint64(1)))
        used[live] += length[live]
        count[live] += np.uint64(1)
    return used | count << np.uint64(4) | packed
