"""Symbols chosen for what they cost: rate-distortion optimised quantisation at the edge. The decoder does not change.

In coding order, each symbol is the one of least (error in steps)² + strength × bits among the nearest integer and the two
beside it; bits are those of the table in the context that the symbols chosen before give. What a symbol does to the contexts
of later ones is left out. Strength 0 is the nearest integer, always.
"""

from __future__ import annotations

import numpy as np
from numba import int64

from spic.coding.compiled import inlined, kernel
from spic.coding.neighbours import MAX_DISTANCE
from spic.coding.selection import add_neighbours, begin_row, chosen, size_of, spread_right
from spic.coding.symbols import folded, image_shape, symbol_matrix, unfolded
from spic.coding.tables import FrequencyTable


def choose(features: np.ndarray, nearest: np.ndarray, table: FrequencyTable, strength: float) -> np.ndarray:
    """Symbols int32 [B, ...] for features float [B, ...], in steps, and the integers nearest to them.

    strength: a number from 0 on, how much squared error a bit is worth."""
    found, selector = symbol_matrix(folded(nearest) if table.signed else nearest).copy(), table.selector(image_shape(nearest))
    steps = np.ascontiguousarray(features, np.float32).reshape(found.shape)
    _choose(steps, table.prices, table.width, strength, *selector.arrays, found)
    coded = found.reshape(np.shape(nearest))
    return unfolded(coded) if table.signed else coded


@inlined
def _price(prices, context, symbol, width):
    """Bits of a symbol; one beyond the table is known by its bit length alone."""
    if symbol < width:
        return prices[context, symbol]
    length = 0
    while symbol >> length:
        length += 1
    return prices[context, width + length]


@inlined
def _cheapest(feature, nearest, prices, context, width, signed, strength):
    """The best of three symbols, as it is coded; nearest: as it is coded, too."""
    middle = (nearest >> 1) ^ -(nearest & 1) if signed else nearest
    best, least = nearest, np.inf
    for symbol in (middle, middle - 1, middle + 1):
        coded = (symbol << 1) ^ (symbol >> 63) if signed else symbol
        if coded >= 0:
            cost = (feature - symbol) ** 2 + strength * _price(prices, context, coded, width)
            if cost < least:
                best, least = coded, cost
    return best


@kernel
def _choose(steps, prices, width, strength, planes, first, bias, classes, choices, cap, signed, starts, outer, own_starts, inner, found):
    channels, height, columns = planes
    sizes, sums = np.empty(found.shape[1], np.uint8), np.empty(columns + MAX_DISTANCE, np.int32)
    for image in range(len(found)):
        i = 0
        for channel in range(channels):
            for y in range(height):
                begin_row(sums, bias, i, columns, 1)
                add_neighbours(sums, sizes, channel, y, height, columns, starts, outer, 1)
                for x in range(columns):
                    context = chosen(sums[x], first[i], classes, choices)
                    symbol = _cheapest(float(steps[image, i]), int64(found[image, i]), prices, context, width, signed, strength)
                    found[image, i], sizes[i] = symbol, min(size_of(symbol, signed), cap)
                    spread_right(sums, x, sizes, i, channel, own_starts, inner, 1)
                    i += 1
