"""Huffman on the CPU: a 64-bit accumulator to encode, a look-up of several symbols at once to decode."""

from __future__ import annotations

import numpy as np
from numba import int32, int64, uint8, uint64

from spic.coding.engine import BAD_ESCAPE, LEFT_OVER, OK, TRUNCATED
from spic.coding.compiled import inlined, kernel
from spic.coding.cpu import CpuEngine
from spic.coding.neighbours import MAX_DISTANCE
from spic.coding.huffman.tables import BURST, ESCAPE_BITS, LOOKUP_BITS, MAX_LENGTH, HuffmanTables
from spic.coding.selection import add_neighbours, begin_row, chosen, size_of, spread_right

CODE_MASK = (1 << MAX_LENGTH) - 1
"""Bits of an entry that hold the code."""
REUSE = 4
"""Look-ups from one 64-bit window: 4 × 12 bits of the 57 that are always valid."""


class HuffmanCpu(CpuEngine):
    def __init__(self, tables: HuffmanTables, threads: int | None = None):
        super().__init__(threads)
        self.tables = tables

    def encode_part(self, matrix, contexts):
        room = matrix.shape[1] * ((self.tables.longest + ESCAPE_BITS + 7) // 8) + 8
        starts = np.arange(len(matrix)) * room
        out = np.empty(len(matrix) * room, np.uint8)
        stops = np.empty(len(matrix), np.int64)
        _encode(matrix, contexts, self.tables.entries, self.tables.width, out, starts, stops)
        return out, starts, stops

    def decode_part(self, buffer, offsets, selector, matrix, status):
        t = self.tables
        codes = (t.lookup, t.lookup_bits, t.codes, t.values, t.bounds, t.entries, t.width)
        if selector.adaptive:
            _decode_adaptive(buffer, offsets, *selector.arrays, *codes, matrix, status)
        else:
            _decode(buffer, offsets, selector.known[0], t.bursts, len(t.bounds) == 2, *codes, matrix, status)


@inlined
def _put(out, p, held, fill, bits, length):
    """Append `length` <= 32 bits to the `fill` < 32 bits held, and write every complete byte."""
    held = (held << uint64(length)) | bits
    fill += length
    while fill >= 8:
        fill -= 8
        out[p] = uint8(held >> uint64(fill))
        p += 1
    return p, held, fill


@inlined
def _put_rare(out, p, held, fill, entry, end, value):
    """Append a code of any length; for a value outside the table END and the escape's raw bits."""
    code = end if entry == 0 else entry
    length = int64(code >> uint64(MAX_LENGTH))
    bits = code & uint64(CODE_MASK)
    if length > 32:
        p, held, fill = _put(out, p, held, fill, bits >> uint64(32), length - 32)
        bits, length = bits & uint64(0xFFFFFFFF), 32
    p, held, fill = _put(out, p, held, fill, bits, length)
    if entry == 0:
        below = 0  # how many bits lie below the leading one
        while value >> (below + 1):
            below += 1
        p, held, fill = _put(out, p, held, fill, uint64(below + 1 if value else 0), 5)
        p, held, fill = _put(out, p, held, fill, uint64(value - (1 << below) if value else 0), below)
    return p, held, fill


@inlined
def _filling(end, missing):
    """The `missing` < 8 bits that fill the last byte: the beginning of END, and zeros if that is too short."""
    length = int64(end >> uint64(MAX_LENGTH))
    code = end & uint64(CODE_MASK)
    return code >> uint64(length - missing) if length > missing else code << uint64(missing - length)


@kernel
def _encode(symbols, contexts, entries, width, out, starts, stops):
    row = uint64(width + 2)
    own = len(contexts) > 1  # contexts of its own has each image, or all the same
    for image in range(len(symbols)):
        p, held, fill = starts[image], uint64(0), 0
        for i in range(symbols.shape[1]):
            base = uint64(contexts[uint64(image * own), uint64(i)]) * row
            s = symbols[image, i]
            entry = entries[base + uint64(min(s, width))]
            length = int64(entry >> uint64(MAX_LENGTH))
            if length == 0 or length > 32:
                end = entries[base + row - uint64(1)]
                p, held, fill = _put_rare(out, p, held, fill, entry, end, int64(s))
                continue
            held = (held << uint64(length)) | (entry & uint64(CODE_MASK))
            fill += length
            if fill >= 32:  # write four bytes at once: this branch is the cost of the loop
                fill -= 32
                word = held >> uint64(fill)
                out[uint64(p)] = uint8(word >> uint64(24))
                out[uint64(p + 1)] = uint8(word >> uint64(16))
                out[uint64(p + 2)] = uint8(word >> uint64(8))
                out[uint64(p + 3)] = uint8(word)
                p += 4
        missing = -fill & 7
        bits = uint64(0)
        if missing:
            bits = _filling(entries[uint64(contexts[image * own, -1]) * row + row - uint64(1)], missing)
        stops[image] = _put(out, p, held, fill, bits, missing)[0]


@inlined
def _window(buffer, bit):
    """The bits from position `bit` on, left-aligned; at least 57 are valid. What follows a payload is no matter: a code
    that reaches beyond it is found out by its position."""
    p = uint64(bit) >> uint64(3)
    word = uint64(0)
    for k in range(8):
        word |= uint64(buffer[p + uint64(k)]) << uint64(56 - 8 * k)
    return word << uint64(bit & 7)


@inlined
def _search(codes, values, low, high, window):
    """The entry of the last code that is not above the window."""
    while high - low > 1:
        middle = (low + high) // 2
        if codes[middle] <= window:
            low = middle
        else:
            high = middle
    return values[low]


@inlined
def _unescape(window):
    """(value, bits) of an escape's raw bits at the beginning of the window; the value is -1 for an impossible one."""
    length = int64(window >> uint64(59))
    if length > 24:
        return int64(-1), 5
    if length < 2:
        return length, 5
    below = int64((window << uint64(5)) >> uint64(65 - length))
    return (int64(1) << (length - 1)) | below, 4 + length


@inlined
def _decode_bursts(buffer, bursts, out, i, bit, end):
    """Decode several symbols at a time until none lies completely in the look-up's window, or out or payload end."""
    while i + REUSE * BURST <= len(out) and bit <= end:
        window = _window(buffer, bit)
        for _ in range(REUSE):
            burst = bursts[window >> uint64(64 - LOOKUP_BITS)]
            if burst == 0:
                return i, bit
            for k in range(BURST):
                out[i + k] = int64((burst >> uint64(8 * k + 8)) & uint64(255))
            window <<= burst & uint64(15)
            bit += int64(burst & uint64(15))
            i += int64((burst >> uint64(4)) & uint64(15))
    return i, bit


@kernel
def _decode(
    buffer, offsets, contexts, bursts, single, lookup, lookup_bits, codes, values, bounds, entries, width, symbols, status
):
    n = symbols.shape[1]
    for image in range(len(symbols)):
        bit, end = offsets[image] * 8, offsets[image + 1] * 8
        i, state = 0, OK
        while state == OK:
            if single:
                i, bit = _decode_bursts(buffer, bursts, symbols[image], i, bit, end)
            if bit > end:
                state = TRUNCATED
            if bit > end or i == n:
                break
            symbols[image, i], bit, state = _next(buffer, bit, end, contexts[i], lookup, lookup_bits, codes, values, bounds,
                                                  entries, width)
            i += 1
        if state == OK:
            state = _check_end(buffer, offsets[image], offsets[image + 1], bit, contexts[-1], entries, width)
        status[image] = state


@kernel
def _decode_adaptive(
    buffer, offsets, planes, rows, bias, classes, choices, cap, signed, starts, outer, own_starts, inner,
    lookup, lookup_bits, codes, values, bounds, entries, width, symbols, status
):  # fmt: skip
    channels, height, columns = planes
    sizes = np.empty(symbols.shape[1], np.uint8)
    sums = np.empty(columns + MAX_DISTANCE, np.int32)
    for image in range(len(symbols)):
        bit, end = offsets[image] * 8, offsets[image + 1] * 8
        i, state, context = 0, OK, int32(0)
        for channel in range(channels):
            for y in range(height):
                begin_row(sums, bias, i, columns, 1)
                add_neighbours(sums, sizes, channel, y, height, columns, starts, outer, 1)
                for x in range(columns):
                    if state == OK and bit > end:
                        state = TRUNCATED
                    if state == OK:
                        context = chosen(sums[uint64(x)], rows[uint64(i)], classes, choices)
                        value, bit, state = _next(buffer, bit, end, context, lookup, lookup_bits, codes, values, bounds,
                                                  entries, width)
                        symbols[image, i], sizes[i] = value, min(size_of(int32(value), signed), cap)
                        spread_right(sums, x, sizes, i, channel, own_starts, inner, 1)
                    i += 1
        if state == OK and bit > end:
            state = TRUNCATED
        if state == OK:
            state = _check_end(buffer, offsets[image], offsets[image + 1], bit, context, entries, width)
        status[image] = state


@inlined
def _next(buffer, bit, end, context, lookup, lookup_bits, codes, values, bounds, entries, width):
    """(symbol, bit behind it, what is wrong with it) of the code that begins at a bit."""
    window = _window(buffer, bit)
    entry = lookup[(uint64(context) << uint64(lookup_bits)) + (window >> uint64(64 - lookup_bits))]
    if entry == 0:
        entry = _search(codes, values, bounds[context], bounds[context + 1], window)
    bit += int64(entry & 255)
    value, state = int64(entry >> 8) - 1, OK
    if value < 0 and bit <= end:
        value, used = _unescape(_window(buffer, bit))
        bit += used
        if value < 0 or entries[context * (width + 2) + min(value, width)] != 0:
            state = BAD_ESCAPE
    return value, bit, state


@inlined
def _check_end(buffer, start, stop, bit, context, entries, width):
    """OK if the last code ends in the last byte and that byte is filled as _filling says."""
    if (bit + 7) // 8 != stop:
        return LEFT_OVER
    missing = -bit & 7
    last = uint64(buffer[stop - 1]) & uint64((1 << missing) - 1) if missing else uint64(0)
    if missing and last != _filling(entries[context * (width + 2) + width + 1], missing):
        return LEFT_OVER
    return OK
