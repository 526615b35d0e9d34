"""Huffman codes as the published coder builds them, and the arrays with which engines read and write them."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np

END = -1
"""The end-of-file leaf: fills the last byte of a payload and introduces an escaped value. Sorts before every symbol."""


def huffman_code(counts: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """symbol (and END) → (length in bits, code), the code's first bit being its most significant.

    Of two nodes with equal counts the one whose first leaf is the smaller symbol is taken first; the first node taken
    becomes the 0 branch. A node's first leaf is that of its 0 branch."""
    heap = [(count, symbol, symbol) for symbol, count in counts.items()] + [(1, END, END)]
    heapq.heapify(heap)
    while len(heap) > 1:
        zero, one = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (zero[0] + one[0], zero[1], (zero[2], one[2])))
    return dict(_leaves(heap[0][2]))


def _leaves(root):
    stack = [(root, 0, 0)]
    while stack:
        node, length, code = stack.pop()
        if isinstance(node, int):
            yield node, (length, code)
        else:
            stack.append((node[0], length + 1, code << 1))
            stack.append((node[1], length + 1, code << 1 | 1))


MAX_LENGTH = 57
"""Longest code of any valid table: MAX_TOTAL allows no longer one, and a 64-bit window at any bit offset holds it."""
LOOKUP_BITS = 12
"""Size of the look-up window for a table with a single distribution; its two tables fit the first-level cache."""
SMALL_LOOKUP_BITS = 8
"""The same where every distribution has a look-up table of its own."""
BURST = 6
"""The most symbols that one look-up of a burst table gives."""


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
        codes = [huffman_code(counts) for counts in distributions]
        ordered = [sorted((code << 64 - length, length, symbol) for symbol, (length, code) in c.items()) for c in codes]
        self.codes = np.array([code for row in ordered for code, _, _ in row], np.uint64)
        self.values = np.array([length | (symbol + 1) << 8 for row in ordered for _, length, symbol in row], np.uint32)
        self.bounds = np.cumsum([0] + [len(row) for row in ordered])
        for context, row in enumerate(ordered):
            self._fill(context, row)
        self.bursts = _bursts(self.lookup[0].astype(np.uint64))
        self.longest = max(max(length for length, _ in c.values()) for c in codes)
        self.entries, self.lookup = self.entries.ravel(), self.lookup.ravel()

    def _fill(self, context: int, ordered: list[tuple[int, int, int]]) -> None:
        for aligned, length, symbol in ordered:
            self.entries[context, symbol] = aligned >> 64 - length | length << 57
            if length <= self.lookup_bits:
                first = aligned >> 64 - self.lookup_bits
                self.lookup[context, first : first + (1 << self.lookup_bits - length)] = length | symbol + 1 << 8


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
