"""Huffman on the GPU, one image per lane. Bits leave and arrive in big-endian words of 32."""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl

from spic.coding.engine import BAD_ESCAPE, LEFT_OVER, TRUNCATED
from spic.coding.gpu import GpuEngine, select
from spic.coding.huffman.tables import ESCAPE_BITS, MAX_LENGTH, HuffmanTables

SIZES = ("images", "n_symbols", "width", "room", "lookup_bits", "halvings", "own", "cap", "signed", "reach", "height", "columns")
"""Arguments that stay numbers at run time, so that no new size is compiled anew."""
CODE_BITS = tl.constexpr(MAX_LENGTH)
CODE_MASK = tl.constexpr((1 << MAX_LENGTH) - 1)
_TRUNCATED = tl.constexpr(TRUNCATED)
_BAD_ESCAPE = tl.constexpr(BAD_ESCAPE)
_LEFT_OVER = tl.constexpr(LEFT_OVER)


class HuffmanGpu(GpuEngine):
    alignment = 4

    def __init__(self, tables: HuffmanTables, device: str):
        super().__init__(device)
        self.width, self.longest, self.lookup_bits = tables.width, tables.longest, tables.lookup_bits
        arrays = (tables.entries, tables.lookup, tables.codes, tables.values, tables.bounds)
        self.entries, self.lookup, self.codes, self.values, self.bounds = (self.on_device(a) for a in arrays)
        self.halvings = int(np.diff(tables.bounds).max()).bit_length()

    def encode_batch(self, symbols, contexts):
        n_symbols, images = symbols.shape
        room = 4 * (n_symbols * (self.longest + ESCAPE_BITS) // 32 + 2)
        out = torch.empty(images * room, dtype=torch.uint8, device=self.device)
        sizes = torch.empty(images, dtype=torch.int64, device=self.device)
        lanes = self.lanes(images)
        _encode[(triton.cdiv(images, lanes),)](
            symbols, contexts, self.entries, out.view(torch.int32), sizes,
            images, n_symbols, contexts.shape[1], self.width, room // 4, LANES=lanes, num_warps=1,
        )  # fmt: skip
        starts = torch.arange(images, device=self.device) * room
        return out, starts, starts + sizes

    def decode_batch(self, buffer, starts, stops, selection):
        n_symbols, images = len(selection.known), len(starts)
        symbols = torch.empty(n_symbols, images, dtype=torch.int32, device=self.device)
        status = torch.empty(images, dtype=torch.int32, device=self.device)
        lanes = self.lanes(images)
        words = buffer.view(-1, 4).flip(1).contiguous().view(torch.int32)
        _decode[(triton.cdiv(images, lanes),)](
            words, starts, stops, selection.known, *selection.arguments,
            self.lookup, self.codes, self.values, self.bounds, self.entries, symbols, status,
            images, n_symbols, self.width, self.lookup_bits, self.halvings, LANES=lanes, ADAPTIVE=selection.adaptive,
            num_warps=1,
        )  # fmt: skip
        return symbols, status


@triton.jit
def _put(out, p, held, fill, bits, length, active):
    """Append `length` <= 32 bits in the active lanes; 32 of them leave as soon as they are complete."""
    held = tl.where(active, (held << length) | bits, held)
    fill = tl.where(active, fill + length, fill)
    full = active & (fill >= 32)
    fill = tl.where(full, fill - 32, fill)
    _store(out, p, (held >> fill).to(tl.uint32), full)
    return p + full.to(tl.int64), held, fill


@triton.jit
def _store(out, p, word, active):
    swapped = (word >> 24) | ((word >> 8) & 0xFF00) | ((word << 8) & 0xFF0000) | (word << 24)
    tl.store(out + p, swapped.to(tl.int32, bitcast=True), mask=active)


@triton.jit
def _put_escaped(out, p, held, fill, s, active):
    length = tl.zeros_like(held)
    for bit in tl.static_range(24):
        length += ((s >> bit) != 0).to(tl.uint64)
    p, held, fill = _put(out, p, held, fill, length, tl.full(held.shape, 5, tl.uint64), active)
    below = tl.maximum(length, 1) - 1
    top = tl.full(held.shape, 1, tl.uint64) << below
    return _put(out, p, held, fill, s.to(tl.uint64) & (top - 1), below, active)


@triton.jit
def _filling(end, missing):
    """The `missing` < 8 bits that fill the last byte: the beginning of END, and zeros if that is too short."""
    length = end >> CODE_BITS
    code = end & CODE_MASK
    enough = length > missing
    down = tl.where(enough, length - missing, 0)
    up = tl.where(enough, 0, missing - length)
    return (code >> down) << up


@triton.jit(do_not_specialize=SIZES)
def _encode(symbols, contexts, entries, out, sizes, images, n_symbols, own, width, room, LANES: tl.constexpr):
    image = tl.program_id(0) * LANES + tl.arange(0, LANES)
    live = image < images
    first = image.to(tl.int64) * room
    p = first
    held = tl.zeros([LANES], tl.uint64)
    fill = tl.zeros([LANES], tl.uint64)
    row = symbols + image
    context = contexts + tl.minimum(image, own - 1)
    base = tl.zeros([LANES], tl.int64)
    for _ in range(n_symbols):
        s = tl.load(row, mask=live, other=0)
        row += images
        base = tl.load(context).to(tl.int64) * (width + 2)
        context += own
        entry = tl.load(entries + base + tl.minimum(s, width), mask=live, other=0).to(tl.uint64, bitcast=True)
        escaped = live & (entry == 0)
        any_escaped = tl.max(escaped.to(tl.int32), axis=0) > 0
        if any_escaped:
            end = tl.load(entries + base + width + 1).to(tl.uint64, bitcast=True)
            entry = tl.where(escaped, end, entry)
        length, bits = entry >> CODE_BITS, entry & CODE_MASK
        long = live & (length > 32)
        if tl.max(long.to(tl.int32), axis=0) > 0:
            p, held, fill = _put(out, p, held, fill, bits >> 32, tl.where(long, length - 32, 0), long)
            bits = tl.where(long, bits & 0xFFFFFFFF, bits)
            length = tl.where(long, 32, length)
        p, held, fill = _put(out, p, held, fill, bits, length, live)
        if any_escaped:
            p, held, fill = _put_escaped(out, p, held, fill, s, escaped)
    missing = (8 - (fill & 7)) & 7
    bits = _filling(tl.load(entries + base + width + 1).to(tl.uint64, bitcast=True), missing)
    p, held, fill = _put(out, p, held, fill, bits, missing, live)
    _store(out, p, (held << (32 - fill)).to(tl.uint32), live & (fill > 0))
    tl.store(sizes + image, (p - first) * 4 + (fill >> 3).to(tl.int64), mask=live)


@triton.jit
def _window(words, bit):
    """64 bits from position `bit` on, left-aligned."""
    at = bit >> 5
    first = tl.load(words + at).to(tl.uint32, bitcast=True).to(tl.uint64)
    second = tl.load(words + at + 1).to(tl.uint32, bitcast=True).to(tl.uint64)
    third = tl.load(words + at + 2).to(tl.uint32, bitcast=True).to(tl.uint64)
    shift = (bit & 31).to(tl.uint64)
    return (((first << 32) | second) << shift) | (third >> (32 - shift))


@triton.jit
def _search(codes, values, bounds, context, window, halvings):
    """The entry of the last code that is not above the window."""
    low = tl.load(bounds + context) + tl.zeros_like(window).to(tl.int64)
    high = tl.load(bounds + context + 1) + tl.zeros_like(window).to(tl.int64)
    for _ in range(halvings):
        middle = (low + high) // 2
        below = tl.load(codes + middle).to(tl.uint64, bitcast=True) <= window
        apart = high - low > 1
        low = tl.where(apart & below, middle, low)
        high = tl.where(apart & (below == 0), middle, high)
    return tl.load(values + low)


@triton.jit
def _unescape(window):
    """(value, bits) of an escape's raw bits at the beginning of the window; the value is -1 for an impossible one."""
    length = window >> 59
    long = (length > 1) & (length <= 24)
    below = tl.where(long, length - 1, 1)
    top = tl.full(window.shape, 1, tl.uint64) << below
    value = tl.where(long, ((window << 5) >> (64 - below)) | top, length).to(tl.int32)
    return tl.where(length > 24, -1, value), tl.where(long, length + 4, 5).to(tl.int64)


@triton.jit(do_not_specialize=SIZES)
def _decode(
    words, starts, stops, contexts, first, bias, classes, choices, nearby, neighbours, cap, signed, reach, height, columns,
    lookup, codes, values, bounds, entries, symbols, status, images, n_symbols, width, lookup_bits, halvings,
    LANES: tl.constexpr, ADAPTIVE: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0) * LANES + tl.arange(0, LANES)
    live = image < images
    bit = tl.load(starts + image, mask=live, other=0) * 8
    end = tl.load(stops + image, mask=live, other=0) * 8
    state = tl.zeros([LANES], tl.int32)
    row = symbols + image
    whose = tl.minimum(image, images - 1)
    context = tl.load(contexts).to(tl.int64) + tl.zeros([LANES], tl.int64)
    for i in range(n_symbols):
        if ADAPTIVE:
            tl.debug_barrier()  # what was stored is seen by whoever loads it
            context = select(symbols, whose, images, i, first, bias, classes, choices, nearby, neighbours, cap, signed, reach, height,
                             columns).to(tl.int64)
        else:
            context = tl.load(contexts + i).to(tl.int64) + tl.zeros([LANES], tl.int64)
        window = _window(words, bit)
        entry = tl.load(lookup + (context << lookup_bits) + (window >> (64 - lookup_bits).to(tl.uint64)).to(tl.int64))
        if tl.min(entry, axis=0) == 0:
            entry = tl.where(entry == 0, _search(codes, values, bounds, context, window, halvings), entry)
        good = live & (state == 0)
        bit = tl.where(good, bit + (entry & 255), bit)
        value = (entry >> 8).to(tl.int32) - 1
        escaped = good & (value < 0) & (bit <= end)
        if tl.max(escaped.to(tl.int32), axis=0) > 0:
            found, used = _unescape(_window(words, bit))
            bit = tl.where(escaped, bit + used, bit)
            column = tl.where(escaped & (found >= 0), tl.minimum(found, width), width).to(tl.int64)
            known = tl.load(entries + context * (width + 2) + column) != 0
            state = tl.where(escaped & (known | (found < 0)), _BAD_ESCAPE, state)
            value = tl.where(escaped, found, value)
        state = tl.where((state == 0) & (bit > end), _TRUNCATED, state)
        tl.store(row, value, mask=live)
        row += images
    missing = (-bit & 7).to(tl.uint64)
    last = context * (width + 2) + width + 1
    filling = _filling(tl.load(entries + last).to(tl.uint64, bitcast=True), missing)
    byte = _window(words, tl.maximum(end - 8, 0)) >> 56
    rest = byte & ((tl.full([LANES], 1, tl.uint64) << missing) - 1)
    wrong = (((bit + 7) >> 3) != (end >> 3)) | ((missing > 0) & (rest != filling))
    tl.store(status + image, tl.where((state == 0) & wrong, _LEFT_OVER, state), mask=live)
