"""rANS on the GPU, one image per lane. Line for line the kernels of cpu.py, with masks for branches."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from spic.coding.engine import BAD_ESCAPE, LEFT_OVER
from spic.coding.gpu import GpuEngine, select
from spic.coding.rans import reference
from spic.coding.rans.tables import RansTables

SIZES = ("images", "n_symbols", "width", "room", "precision", "own", "cap", "signed", "reach", "height", "columns")
"""Arguments that stay numbers at run time, so that no new size is compiled anew."""
LOW = tl.constexpr(reference.LOW)
_BAD_ESCAPE = tl.constexpr(BAD_ESCAPE)
_LEFT_OVER = tl.constexpr(LEFT_OVER)


class RansGpu(GpuEngine):
    def __init__(self, tables: RansTables, device: str):
        super().__init__(device)
        self.width, self.precision = tables.width, tables.precision
        arrays = (tables.entries, tables.slots, tables.lookup)
        self.entries, self.slots, self.lookup = (self.on_device(a) for a in arrays)

    def encode_batch(self, symbols, contexts):
        n_symbols, images = symbols.shape
        room = n_symbols * reference.SYMBOL_BYTES + 8
        out = torch.empty(images * room, dtype=torch.uint8, device=self.device)
        starts = torch.empty(images, dtype=torch.int64, device=self.device)
        lanes = self.lanes(images)
        _encode[(triton.cdiv(images, lanes),)](
            symbols, contexts, self.entries, self.slots, out, starts,
            images, n_symbols, contexts.shape[1], self.width, room, self.precision, LANES=lanes, num_warps=1,
        )  # fmt: skip
        return out, starts, torch.arange(1, images + 1, device=self.device) * room

    def decode_batch(self, buffer, starts, stops, selection):
        n_symbols, images = len(selection.known), len(starts)
        symbols = torch.empty(n_symbols, images, dtype=torch.int32, device=self.device)
        status = torch.empty(images, dtype=torch.int32, device=self.device)
        lanes = self.lanes(images)
        _decode[(triton.cdiv(images, lanes),)](
            buffer, starts, stops, selection.known, *selection.arguments, self.lookup, self.entries, symbols, status,
            images, n_symbols, self.width, self.precision, LANES=lanes, ADAPTIVE=selection.adaptive, num_warps=1,
        )  # fmt: skip
        return symbols, status


@triton.jit
def _push_bits(x, p, out, value, count, active, MOST_BYTES: tl.constexpr):
    """Put `count` >= 1 raw bits on the state of the active lanes."""
    for _ in tl.static_range(MOST_BYTES):
        over = active & ((x >> (32 - count)) != 0)
        p -= over.to(tl.int64)
        tl.store(out + p, x.to(tl.uint8), mask=over)
        x = tl.where(over, x >> 8, x)
    return tl.where(active, (x << count) | value, x), p


@triton.jit
def _push_escaped(x, p, out, s, active):
    length = tl.zeros_like(x)
    for bit in tl.static_range(24):
        length += ((s >> bit) != 0).to(tl.uint32)
    below = tl.maximum(length, 2) - 1
    top = tl.full(x.shape, 1, tl.uint32) << below
    x, p = _push_bits(x, p, out, s.to(tl.uint32) & (top - 1), below, active & (length > 1), 3)
    return _push_bits(x, p, out, length, tl.full(x.shape, 5, tl.uint32), active, 1)


@triton.jit(do_not_specialize=SIZES)
def _encode(
    symbols, contexts, entries, slots, out, starts, images, n_symbols, own, width, room, precision, LANES: tl.constexpr
):
    image = tl.program_id(0) * LANES + tl.arange(0, LANES)
    live = image < images
    x = tl.zeros([LANES], tl.uint32)
    p = (image.to(tl.int64) + 1) * room
    up = (32 - precision).to(tl.uint32)
    row = symbols + n_symbols.to(tl.int64) * images + image
    context = contexts + n_symbols.to(tl.int64) * own + tl.minimum(image, own - 1)
    for k in range(n_symbols):
        row -= images
        s = tl.load(row, mask=live, other=0)
        context -= own
        base = tl.load(context).to(tl.int64) * (width + 2)
        entry = tl.load(entries + base + tl.minimum(s, width), mask=live, other=1)
        escaped = entry == 0
        if tl.max(escaped.to(tl.int32), axis=0) > 0:
            x, p = _push_escaped(x, p, out, s, escaped)
            entry = tl.where(escaped, tl.load(entries + base + width + 1), entry)
        f = entry.to(tl.uint32)
        limit = f << up
        one, two = x >= limit, (x >> 8) >= limit
        tl.store(out + p - 1, x.to(tl.uint8), mask=live & one)
        tl.store(out + p - 2, (x >> 8).to(tl.uint8), mask=live & two)
        count = one.to(tl.uint32) + two.to(tl.uint32)
        p -= count.to(tl.int64)
        x = x >> (count * 8)
        quotient = x // f
        slot = tl.load(slots + (entry >> 32) + (x - quotient * f), mask=live, other=0)
        x = (quotient << precision.to(tl.uint32)) + slot.to(tl.uint32)
    for _ in tl.static_range(4):
        left = live & (x != 0)
        p -= left.to(tl.int64)
        tl.store(out + p, x.to(tl.uint8), mask=left)
        x = x >> 8
    tl.store(starts + image, p, mask=live)


@triton.jit
def _refill(x, p, stop, buffer, active, MOST_BYTES: tl.constexpr):
    for _ in tl.static_range(MOST_BYTES):
        short = active & (x < LOW) & (p < stop)
        byte = tl.load(buffer + p, mask=short, other=0).to(tl.uint32)
        x = tl.where(short, (x << 8) | byte, x)
        p += short.to(tl.int64)
    return x, p


@triton.jit
def _pop_escaped(x, p, stop, buffer, active):
    """Value of the escape in each active lane, or -1 for an impossible one."""
    length = x & 31
    x, p = _refill(tl.where(active, x >> 5, x), p, stop, buffer, active, 1)
    long = active & (length > 1) & (length <= 24)
    below = tl.where(long, length - 1, 1)
    top = tl.full(x.shape, 1, tl.uint32) << below
    value = tl.where(long, (x & (top - 1)) | top, length).to(tl.int32)
    x, p = _refill(tl.where(long, x >> below, x), p, stop, buffer, long, 3)
    return tl.where(length > 24, -1, value), x, p


@triton.jit(do_not_specialize=SIZES)
def _decode(
    buffer, starts, stops, contexts, first, bias, classes, choices, nearby, neighbours, cap, signed, reach, height, columns,
    lookup, entries, symbols, status, images, n_symbols, width, precision, LANES: tl.constexpr, ADAPTIVE: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0) * LANES + tl.arange(0, LANES)
    live = image < images
    p = tl.load(starts + image, mask=live, other=0)
    stop = tl.load(stops + image, mask=live, other=0)
    padded = (stop > p) & (tl.load(buffer + p) == 0)
    x, p = _refill(tl.zeros([LANES], tl.uint32), p, stop, buffer, live, 4)
    state = tl.zeros([LANES], tl.int32)
    mask = (1 << precision).to(tl.uint32) - 1
    row = symbols + image
    whose = tl.minimum(image, images - 1)
    for i in range(n_symbols):
        if ADAPTIVE:
            tl.debug_barrier()  # what was stored is seen by whoever loads it
            context = select(symbols, whose, images, i, first, bias, classes, choices, nearby, neighbours, cap, signed, reach, height,
                             columns).to(tl.int64)
        else:
            context = tl.load(contexts + i).to(tl.int64)
        entry = tl.load(lookup + (context << precision) + (x & mask).to(tl.int64))
        x = (entry & 0xFFFF).to(tl.uint32) * (x >> precision.to(tl.uint32)) + ((entry >> 16) & 0xFFFF).to(tl.uint32)
        wanted = (x < LOW).to(tl.int64) + (x < (LOW >> 8)).to(tl.int64)
        count = tl.minimum(wanted, stop - p)
        high = tl.load(buffer + p).to(tl.uint32)
        tail = (high << 8) | tl.load(buffer + p + 1).to(tl.uint32)
        bits = count.to(tl.uint32) * 8
        x = (x << bits) | (tail >> (16 - bits))
        p += count
        s = (entry >> 32).to(tl.int32)
        escaped = live & (s < 0)
        if tl.max(escaped.to(tl.int32), axis=0) > 0:
            value, x, p = _pop_escaped(x, p, stop, buffer, escaped)
            inside = escaped & (value >= 0)
            column = tl.where(inside, tl.minimum(value, width), width).to(tl.int64)
            known = tl.load(entries + context * (width + 2) + column) != 0
            state = tl.where(escaped & (known | (value < 0)), _BAD_ESCAPE, state)
            s = tl.where(escaped, value, s)
        tl.store(row, s, mask=live)
        row += images
    wrong = (x != 0) | (p != stop) | padded
    tl.store(status + image, tl.where((state == 0) & wrong, _LEFT_OVER, state), mask=live)
