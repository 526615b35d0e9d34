"""rANS on the CPU: LANES images in lockstep, so that their dependent instructions overlap; no branch but escapes.

Two decoders: one for contexts that are known beforehand, one that selects them by what it has decoded.
"""

from __future__ import annotations

import numpy as np
from numba import int32, int64, uint8, uint32, uint64
from numba.extending import intrinsic

from spic.coding.engine import BAD_ESCAPE, LEFT_OVER, OK
from spic.coding.compiled import inlined, kernel
from spic.coding.cpu import CpuEngine
from spic.coding.neighbours import MAX_DISTANCE
from spic.coding.rans.reference import LOW, SYMBOL_BYTES
from spic.coding.rans.tables import RansTables
from spic.coding.selection import add_neighbours, begin_row, size_of, spread_right
from spic.coding.vectors import INT, LONG, big_endian, choose, measure, on_lanes

LANES = 4
WIDE_LANES = 16
"""The same where the decoder selects contexts: vectors of images, as wide as processors have them. Where contexts are known, four
images as plain numbers are decoded twice as fast as such vectors."""


class RansCpu(CpuEngine):
    def __init__(self, tables: RansTables, threads: int | None = None):
        super().__init__(threads)
        self.tables = tables

    def encode_part(self, matrix, contexts):
        room = matrix.shape[1] * SYMBOL_BYTES + 8
        out = np.empty(len(matrix) * room, np.uint8)
        starts = np.empty(len(matrix), np.int64)
        t = self.tables
        _encode(matrix, contexts, t.entries, t.width, t.slots, t.precision, out, starts)
        return out, starts, np.arange(1, len(matrix) + 1) * room

    def decode_part(self, buffer, offsets, selector, matrix, status):
        t = self.tables
        if selector.adaptive:
            _decode_adaptive(buffer, offsets, *selector.arrays, t.lookup, t.entries, t.width, t.precision, matrix, status)
        else:
            _decode(buffer, offsets, selector.known[0], t.lookup, t.entries, t.width, t.precision, matrix, status)


@inlined
def _push_bits(x, p, out, value, count):
    """Put raw bits on the state x, its overflow to out before p."""
    while x >= uint64(1) << uint64(32 - count):
        p -= 1
        out[p] = uint8(x)
        x >>= uint64(8)
    return (x << uint64(count)) | uint64(value), p


@inlined
def _push_escaped(x, p, out, value):
    length = 0
    while value >> length:
        length += 1
    if length > 1:
        x, p = _push_bits(x, p, out, value - (1 << (length - 1)), length - 1)
    return _push_bits(x, p, out, length, 5)


@inlined
def _encode_group(symbols, contexts, entries, width, slots, precision, out, starts, first, lanes, states, places):
    room = out.size // symbols.shape[0]
    row = uint64(width + 2)
    own = len(contexts) > 1  # contexts of its own has each image, or all the same
    for lane in range(lanes):
        states[lane] = 0
        places[lane] = (first + lane + 1) * room
    for i in range(symbols.shape[1] - 1, -1, -1):
        for lane in range(lanes):
            base = uint64(contexts[uint64((first + lane) * own), uint64(i)]) * row
            x, p = states[lane], places[lane]
            s = symbols[first + lane, i]
            entry = entries[base + uint64(min(s, width))]
            if uint32(entry) == 0:
                wide, p = _push_escaped(uint64(x), p, out, int64(s))
                x = uint32(wide)
                entry = entries[base + row - uint64(1)]
            f = uint32(entry)
            limit = f << uint32(32 - precision)
            out[uint64(p - 1)] = uint8(x)
            out[uint64(p - 2)] = uint8(x >> uint32(8))
            count = int64(x >= limit) + int64((x >> uint32(8)) >= limit)
            places[lane] = p - count
            x = x >> uint32(8 * count)
            quotient = x // f
            slot = slots[(entry >> uint64(32)) + uint64(x - quotient * f)]
            states[lane] = (quotient << uint32(precision)) + slot
    for lane in range(lanes):
        x, p = states[lane], places[lane]
        while x:
            p -= 1
            out[p] = uint8(x)
            x >>= uint32(8)
        starts[first + lane] = p


@kernel
def _encode(symbols, contexts, entries, width, slots, precision, out, starts):
    states = np.empty(LANES, np.uint32)
    places = np.empty(LANES, np.int64)
    whole = len(symbols) - len(symbols) % LANES
    for first in range(0, whole, LANES):
        _encode_group(symbols, contexts, entries, width, slots, precision, out, starts, first, LANES, states, places)
    for first in range(whole, len(symbols)):
        _encode_group(symbols, contexts, entries, width, slots, precision, out, starts, first, 1, states, places)


@inlined
def _refill(x, p, stop, buffer):
    while x < LOW and p < stop:
        x = (x << uint64(8)) | uint64(buffer[p])
        p += 1
    return x, p


@inlined
def _pop_escaped(x, p, stop, buffer):
    """The value of an escape, or -1 for an impossible one."""
    length = int64(x & uint64(31))
    x, p = _refill(x >> uint64(5), p, stop, buffer)
    value = length
    if length > 24:
        value = -1
    elif length > 1:
        top = int64(1) << (length - 1)
        value = top | (int64(x) & (top - 1))
        x, p = _refill(x >> uint64(length - 1), p, stop, buffer)
    return value, x, p


@inlined
def _begin(buffer, offsets, first, lanes, states, places, status):
    for lane in range(lanes):
        x, p = _refill(uint64(0), offsets[first + lane], offsets[first + lane + 1], buffer)
        states[lane], places[lane] = uint32(x), p
        status[first + lane] = OK


@inlined
def _pop(buffer, stop, base, lookup, precision, states, places, lane):
    """The look-up's entry of the next symbol of a lane."""
    x, p = states[lane], places[lane]
    entry = lookup[base + uint64(x & uint32((1 << precision) - 1))]
    f, rank = uint32(entry & uint64(0xFFFF)), uint32((entry >> uint64(16)) & uint64(0xFFFF))
    x = f * (x >> uint32(precision)) + rank
    count = min(int64(x < uint32(LOW)) + int64(x < uint32(LOW >> 8)), stop - p)
    tail = (uint32(buffer[uint64(p)]) << uint32(8)) | uint32(buffer[uint64(p + 1)])
    states[lane] = (x << uint32(8 * count)) | (tail >> uint32(16 - 8 * count))
    places[lane] = p + count
    return int64(entry)


@inlined
def _pop_rest(buffer, offsets, base, entries, width, symbols, status, image, i, states, places, lane):
    """The value behind an escape."""
    x, p, stop = uint64(states[lane]), places[lane], offsets[image + 1]
    s, x, p = _pop_escaped(x, p, stop, buffer)
    if s < 0 or entries[base + min(s, width)] != 0:
        status[image] = BAD_ESCAPE
    symbols[image, i] = s
    states[lane], places[lane] = uint32(x), p


@inlined
def _end(buffer, offsets, first, lanes, states, places, status):
    for lane in range(lanes):
        start, stop = offsets[first + lane], offsets[first + lane + 1]
        padded = stop > start and buffer[start] == 0
        if status[first + lane] == OK and (states[lane] != 0 or places[lane] != stop or padded):
            status[first + lane] = LEFT_OVER


@inlined
def _decode_group(
    buffer, offsets, contexts, lookup, entries, width, precision, symbols, status, first, lanes, states, places
):
    _begin(buffer, offsets, first, lanes, states, places, status)
    for i in range(symbols.shape[1]):
        base = uint64(contexts[i]) << uint64(precision)
        signs = int64(0)
        for lane in range(lanes):
            entry = _pop(buffer, offsets[first + lane + 1], base, lookup, precision, states, places, lane)
            symbols[first + lane, i] = entry >> 32
            signs |= entry
        if signs < 0:
            known = contexts[i] * (width + 2)
            for lane in range(lanes):
                if symbols[first + lane, i] < 0:
                    _pop_rest(buffer, offsets, known, entries, width, symbols, status, first + lane, i, states, places, lane)
    _end(buffer, offsets, first, lanes, states, places, status)


@kernel
def _decode(buffer, offsets, contexts, lookup, entries, width, precision, symbols, status):
    states = np.empty(LANES, np.uint32)
    places = np.empty(LANES, np.int64)
    whole = len(symbols) - len(symbols) % LANES
    for first in range(0, whole, LANES):
        _decode_group(
            buffer, offsets, contexts, lookup, entries, width, precision, symbols, status, first, LANES, states, places
        )
    for first in range(whole, len(symbols)):
        _decode_group(
            buffer, offsets, contexts, lookup, entries, width, precision, symbols, status, first, 1, states, places
        )


@intrinsic(prefer_literal=True)
def _pop_lanes(_, contexts, lookup, precision, buffer, states, places, stops, symbols, lanes):
    """symbols (int32, negative for an escape) = the next of each lane; what `_pop` does, for a context of each."""

    def write(code, contexts, lookup, precision, buffer, states, places, stops, symbols):
        b, number, start = code.builder, code.constant, code.zero
        x, place, shift = code.load(states, start), code.load(places, start), code.short(precision)
        slot = b.and_(x, b.sub(b.shl(number(1), shift), number(1)))
        entry = code.gather(lookup, b.add(b.shl(code.load(contexts, start), shift), slot))
        code.store(b.trunc(b.lshr(entry, number(32, LONG)), x.type), symbols, start)
        low = b.trunc(entry, x.type)
        x = b.add(b.mul(b.and_(low, number(0xFFFF)), b.lshr(x, shift)), b.lshr(low, number(16)))
        short = [b.zext(b.icmp_unsigned("<", x, number(limit)), place.type) for limit in (LOW, LOW >> 8)]
        count = code.call("smin", b.add(*short), b.sub(code.load(stops, start), place))
        tail = b.lshr(big_endian(code, code.gather(buffer, place, INT)), number(16))
        bits = b.trunc(b.shl(count, number(3, LONG)), x.type)
        code.store(b.or_(b.shl(x, bits), b.lshr(tail, b.sub(number(16), bits))), states, start)
        code.store(b.add(place, count), places, start)

    return on_lanes((contexts, lookup, precision, buffer, states, places, stops, symbols, lanes), write)


@inlined
def _decode_adaptive_group(
    buffer, offsets, planes, rows, bias, classes, choices, cap, signed, starts, outer, own_starts, inner,
    lookup, entries, width, precision, symbols, status, first, lanes, states, places, stops, sizes, sums, contexts, found
):  # fmt: skip
    _begin(buffer, offsets, first, lanes, states, places, status)
    for lane in range(lanes):
        stops[lane] = offsets[first + lane + 1]
    channels, height, columns = planes
    i = 0
    for channel in range(channels):
        for y in range(height):
            begin_row(sums, bias, i, columns, lanes)
            add_neighbours(sums, sizes, channel, y, height, columns, starts, outer, lanes)
            for x in range(columns):
                choose(sums, x * lanes, rows[uint64(i)], classes, len(classes) - 1, choices, contexts, lanes)
                _pop_lanes(contexts, lookup, precision, buffer, states, places, stops, found, lanes)
                measure(found, signed, cap, sizes, i * lanes, lanes)
                signs = int32(0)
                for lane in range(uint64(lanes)):
                    symbols[uint64(first) + lane, uint64(i)] = found[lane]
                    signs |= found[lane]
                if signs < 0:
                    for lane in range(lanes):
                        if symbols[first + lane, i] < 0:
                            known = int64(contexts[lane]) * (width + 2)
                            _pop_rest(buffer, offsets, known, entries, width, symbols, status, first + lane, i, states, places, lane)
                            sizes[i * lanes + lane] = min(size_of(symbols[first + lane, i], signed), cap)
                spread_right(sums, x, sizes, i, channel, own_starts, inner, lanes)
                i += 1
    _end(buffer, offsets, first, lanes, states, places, status)


@kernel
def _decode_adaptive(
    buffer, offsets, planes, rows, bias, classes, choices, cap, signed, starts, outer, own_starts, inner,
    lookup, entries, width, precision, symbols, status
):  # fmt: skip
    states, contexts, found = np.empty(WIDE_LANES, np.uint32), np.empty(WIDE_LANES, np.int32), np.empty(WIDE_LANES, np.int32)
    places, stops = np.empty(WIDE_LANES, np.int64), np.empty(WIDE_LANES, np.int64)
    sizes = np.empty(symbols.shape[1] * WIDE_LANES, np.uint8)  # capped
    sums = np.empty((planes[2] + MAX_DISTANCE) * WIDE_LANES, np.int32)
    whole = len(symbols) - len(symbols) % WIDE_LANES
    for first in range(0, whole, WIDE_LANES):
        _decode_adaptive_group(
            buffer, offsets, planes, rows, bias, classes, choices, cap, signed, starts, outer, own_starts, inner, lookup, entries,
            width, precision, symbols, status, first, WIDE_LANES, states, places, stops, sizes, sums, contexts, found
        )  # fmt: skip
    for first in range(whole, len(symbols)):
        _decode_adaptive_group(
            buffer, offsets, planes, rows, bias, classes, choices, cap, signed, starts, outer, own_starts, inner, lookup, entries,
            width, precision, symbols, status, first, 1, states, places, stops, sizes, sums, contexts, found
        )  # fmt: skip
