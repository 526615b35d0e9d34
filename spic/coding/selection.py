"""Contexts in the loop: what the CPU engines, and whoever asks for the contexts of known symbols, compile.

Sums are made for a whole row of symbols before its first is decoded: all neighbours but those in the row itself are known
by then. `lanes` images lie side by side, entry [place × lanes + image], and are worked on as one vector. Indices are unsigned,
so that none is taken to count from the end.
"""

from __future__ import annotations

import numpy as np
from numba import int32, int64, uint64

from spic.coding.compiled import inlined, kernel
from spic.coding.neighbours import activity
from spic.coding.vectors import add_scaled, choose

LANES = 8
"""Images side by side where all symbols are known."""
size_of = inlined(activity)


def select_all(matrix: np.ndarray, arrays: tuple) -> np.ndarray:
    """The distribution of each symbol int32 [B, N], by the arrays of a selector: int32 [B, N]."""
    found = np.empty(matrix.shape, np.int32)
    _select_all(matrix, *arrays, found)
    return found


@inlined
def add_neighbours(sums, sizes, channel, y, height, width, starts, neighbours, lanes):
    """Add what the neighbours in the list give to the sums of row y of a channel."""
    for k in range(starts[channel], starts[channel + 1]):
        other, row, column, weight = neighbours[k, 0], y + neighbours[k, 1], int64(neighbours[k, 2]), neighbours[k, 3]
        left, right = max(0, -column), min(width, width - column)
        if 0 <= row < height:
            source = (other * height + row) * width + column
            for x in range(left, right):
                add_scaled(sums, x * lanes, sizes, (source + x) * lanes, weight, lanes)


@inlined
def begin_row(sums, bias, i, width, lanes):
    """The sums of the `width` symbols from place i on are their biases."""
    at = uint64(0)
    for x in range(uint64(width)):
        start = bias[uint64(i) + x]
        for _ in range(lanes):
            sums[at] = start
            at += uint64(1)


@inlined
def spread_right(sums, x, sizes, i, channel, starts, neighbours, lanes):
    """Tell the symbols to come in this row of the one at place i, column x; the sums reach MAX_DISTANCE beyond the row."""
    for k in range(starts[channel], starts[channel + 1]):
        add_scaled(sums, (x - neighbours[k, 2]) * lanes, sizes, i * lanes, neighbours[k, 3], lanes)


@inlined
def chosen(total, first, classes, choices):
    """The distribution of one sum."""
    clipped = min(max(total, int32(0)), int32(len(classes) - 1))
    return choices[uint64(first) + uint64(classes[uint64(clipped)])]


@inlined
def _select_group(matrix, planes, rows, bias, classes, choices, cap, signed, starts, outer, own_starts, inner, found, first, lanes,
                  sizes, sums, contexts):
    channels, height, width = planes
    for i in range(uint64(matrix.shape[1])):
        for lane in range(uint64(lanes)):
            sizes[i * uint64(lanes) + lane] = min(size_of(matrix[uint64(first) + lane, i], signed), cap)
    i = 0
    for channel in range(channels):
        for y in range(height):
            begin_row(sums, bias, i, width, lanes)
            add_neighbours(sums, sizes, channel, y, height, width, starts, outer, lanes)
            add_neighbours(sums, sizes, channel, y, height, width, own_starts, inner, lanes)
            for x in range(width):
                choose(sums, x * lanes, rows[uint64(i)], classes, len(classes) - 1, choices, contexts, lanes)
                for lane in range(uint64(lanes)):
                    found[uint64(first) + lane, uint64(i)] = contexts[lane]
                i += 1


@kernel
def _select_all(matrix, planes, rows, bias, classes, choices, cap, signed, starts, outer, own_starts, inner, found):
    sizes, contexts = np.empty(matrix.shape[1] * LANES, np.uint8), np.empty(LANES, np.int32)
    sums = np.empty(planes[2] * LANES, np.int32)
    whole = len(matrix) - len(matrix) % LANES
    for first in range(0, whole, LANES):
        _select_group(matrix, planes, rows, bias, classes, choices, cap, signed, starts, outer, own_starts, inner, found, first, LANES,
                      sizes, sums, contexts)
    for first in range(whole, len(matrix)):
        _select_group(matrix, planes, rows, bias, classes, choices, cap, signed, starts, outer, own_starts, inner, found, first, 1,
                      sizes, sums, contexts)
