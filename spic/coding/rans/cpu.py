"""rANS on the CPU: LANES images in lockstep, so that their dependent instructions overlap; no branch but escapes."""

from __future__ import annotations

import numpy as np
from numba import int64, uint8, uint32, uint64

from spic.coding.engine import BAD_ESCAPE, LEFT_OVER, OK
from spic.coding.compiled import inlined, kernel
from spic.coding.cpu import CpuEngine
from spic.coding.rans.tables import RansTables

LANES = 4
LOW = 1 << 24
SYMBOL_BYTES = 6
"""The most that one symbol adds to a payload: an escape, its length and 23 raw bits."""


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

    def decode_part(self, buffer, offsets, contexts, matrix, status):
        t = self.tables
        _decode(buffer, offsets, contexts, t.lookup, t.entries, t.width, t.precision, matrix, status)


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
    for lane in range(lanes):
        states[lane] = 0
        places[lane] = (first + lane + 1) * room
    for i in range(symbols.shape[1] - 1, -1, -1):
        base = uint64(contexts[i]) * row
        for lane in range(lanes):
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
def _decode_group(
    buffer, offsets, contexts, lookup, entries, width, precision, symbols, status, first, lanes, states, places
):
    mask = uint32((1 << precision) - 1)
    for lane in range(lanes):
        x, p = _refill(uint64(0), offsets[first + lane], offsets[first + lane + 1], buffer)
        states[lane], places[lane] = uint32(x), p
        status[first + lane] = OK
    for i in range(symbols.shape[1]):
        base = uint64(contexts[i]) << uint64(precision)
        signs = int64(0)
        for lane in range(lanes):
            x, p = states[lane], places[lane]
            entry = lookup[base + uint64(x & mask)]
            f, rank = uint32(entry & uint64(0xFFFF)), uint32((entry >> uint64(16)) & uint64(0xFFFF))
            x = f * (x >> uint32(precision)) + rank
            count = min(int64(x < uint32(LOW)) + int64(x < uint32(LOW >> 8)), offsets[first + lane + 1] - p)
            tail = (uint32(buffer[uint64(p)]) << uint32(8)) | uint32(buffer[uint64(p + 1)])
            states[lane] = (x << uint32(8 * count)) | (tail >> uint32(16 - 8 * count))
            places[lane] = p + count
            symbols[first + lane, i] = int64(entry) >> 32
            signs |= int64(entry)
        if signs < 0:
            known = entries[contexts[i] * (width + 2) : (contexts[i] + 1) * (width + 2)]
            for lane in range(lanes):
                if symbols[first + lane, i] < 0:
                    x, p, stop = uint64(states[lane]), places[lane], offsets[first + lane + 1]
                    s, x, p = _pop_escaped(x, p, stop, buffer)
                    if s < 0 or known[min(s, width)] != 0:
                        status[first + lane] = BAD_ESCAPE
                    symbols[first + lane, i] = s
                    states[lane], places[lane] = uint32(x), p
    for lane in range(lanes):
        start, stop = offsets[first + lane], offsets[first + lane + 1]
        padded = stop > start and buffer[start] == 0
        if status[first + lane] == OK and (states[lane] != 0 or places[lane] != stop or padded):
            status[first + lane] = LEFT_OVER


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
