"""What the GPU engines share: tables on the device, payloads there and back, smaller batches when memory runs out, and
contexts that are selected in the loop.

One image is one lane: a kernel walks through the symbols of all images of a batch in step. The kernels are written in
Triton, which comes with torch; with TRITON_INTERPRET=1 they run on CPU tensors, slowly, for the tests.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
import triton
import triton.language as tl

from spic.coding.contexts import Selector
from spic.coding.symbols import check_range, image_shape, require_integers, symbol_matrix
from spic.errors import SpicError

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
MAX_LANES = 32
PADDING = 64
"""Bytes that follow the last payload, so that wide reads stay inside."""


class GpuEngine:
    """A subclass has the kernels: encode_batch and decode_batch work on a batch, or raise out of memory."""

    alignment = 1
    """Each payload begins at a multiple of so many bytes of the decoder's buffer."""

    def __init__(self, device: str):
        self.device = device = torch.device(device)
        self.processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
        self._selection: tuple[Selector | None, Selection | None] = None, None

    def matrix(self, symbols) -> torch.Tensor:
        """Integer symbols [B, ...], a tensor or an array, as a contiguous int32 tensor [B, N] on the device."""
        if not isinstance(symbols, torch.Tensor):
            return torch.from_numpy(symbol_matrix(symbols)).to(self.device)
        require_integers(symbols.dtype in INTEGERS, symbols.dtype)
        rows = symbols.reshape(len(symbols), math.prod(image_shape(symbols)))
        if rows.numel():
            check_range(*(int(bound) for bound in torch.aminmax(rows)))
        return rows.to(self.device, torch.int32).contiguous()

    def on_device(self, array: np.ndarray) -> torch.Tensor:
        """Unsigned numbers become signed ones with the same bits: torch has few operations on unsigned ones."""
        array = array.view(np.int64) if array.dtype == np.uint64 else array
        array = array.astype(np.int32) if array.dtype in (np.uint16, np.uint32) else array
        return torch.as_tensor(array, device=self.device)

    def lanes(self, images: int) -> int:
        """Images per program: few enough that every multiprocessor has work, a power of two."""
        wanted = -(-images // self.processors)
        return min(MAX_LANES, 1 << max(0, wanted - 1).bit_length())

    def encode_batch(self, symbols: torch.Tensor, contexts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Symbols [N, B] and their contexts [N, B or 1] → (bytes, starts [B], stops [B]) on the device."""
        raise NotImplementedError

    def decode_batch(self, buffer: torch.Tensor, starts: torch.Tensor, stops: torch.Tensor, selection: Selection):
        """Bytes → (symbols [N, B], status [B]) on the device."""
        raise NotImplementedError

    def encode(self, matrix: torch.Tensor, selector: Selector) -> list[bytes]:
        if len(matrix) == 0 or len(selector) == 0:
            return [b""] * len(matrix)
        known = self._known(selector)
        parts = self._in_memory(len(matrix), lambda part: self._encode(matrix[part], known))
        return [payload for part in parts for payload in part]

    def _encode(self, matrix: torch.Tensor, selection: Selection) -> list[bytes]:
        symbols = matrix.t().contiguous()
        out, starts, stops = self.encode_batch(symbols, selection.contexts(symbols))
        sizes = stops - starts
        ends = torch.cumsum(sizes, 0)
        index = torch.repeat_interleave(starts - (ends - sizes), sizes)
        packed = out[index + torch.arange(len(index), device=out.device)].cpu().numpy().tobytes()
        edges = [0, *ends.tolist()]
        return [packed[a:b] for a, b in zip(edges, edges[1:])]

    def decode(self, payloads: Sequence[bytes], selector: Selector) -> tuple[torch.Tensor, np.ndarray]:
        if len(payloads) == 0 or len(selector) == 0:
            matrix = torch.empty(len(payloads), len(selector), dtype=torch.int32, device=self.device)
            return matrix, np.array([len(payload) > 0 for payload in payloads], np.int32)
        known = self._known(selector)
        parts = self._in_memory(len(payloads), lambda part: self._decode(payloads[part], known))
        return torch.cat([matrix for matrix, _ in parts]), np.concatenate([status for _, status in parts])

    def _decode(self, payloads: Sequence[bytes], selection: Selection) -> tuple[torch.Tensor, np.ndarray]:
        sizes = np.array([len(payload) for payload in payloads])
        room = -(-sizes // self.alignment) * self.alignment
        starts = np.cumsum(room) - room
        joined = b"".join([payload.ljust(size, b"\0") for payload, size in zip(payloads, room.tolist())])
        buffer = torch.frombuffer(bytearray(joined + bytes(PADDING)), dtype=torch.uint8).to(self.device)
        bounds = torch.as_tensor(np.stack([starts, starts + sizes]), device=self.device)
        symbols, status = self.decode_batch(buffer, bounds[0], bounds[1], selection)
        return symbols.t().contiguous(), status.cpu().numpy()

    def _known(self, selector: Selector) -> Selection:
        """The selector on the device; a run of batches has the same one."""
        if self._selection[0] is not selector:
            self._selection = selector, Selection(selector, self.on_device)
        return self._selection[1]

    def _in_memory(self, images: int, work: Callable[[slice], object]) -> list:
        """work on the batch, or on ever smaller parts of it if the GPU runs out of memory."""
        pending, results = [slice(0, images)], []
        while pending:
            part = pending.pop()
            try:
                results.append(work(part))
            except torch.OutOfMemoryError:
                size = part.stop - part.start
                if size == 1:
                    raise SpicError("the GPU has no memory left to code one image; use --coder_device cpu") from None
                warnings.warn("the GPU ran out of memory: coding smaller batches", RuntimeWarning, stacklevel=2)
                middle = part.start + size // 2
                pending += [slice(middle, part.stop), slice(part.start, middle)]
        return results


class Selection:
    """A selector on the device.

    adaptive: whether contexts depend on symbols. known: int32 [N], what the place alone selects. arguments: what `select`
    takes behind its first four, without the symbols.
    """

    def __init__(self, selector: Selector, on_device: Callable):
        self.adaptive = selector.adaptive
        self.known = on_device(selector.known[0])
        planes, first, bias, classes, choices, cap, signed, starts, outer, own_starts, inner = selector.arrays
        of = selector.table.neighbours
        every = np.stack([of.channel, of.row, of.column, of.weight], axis=1)
        arrays = (first, bias, classes, choices, starts + own_starts, every)
        self.arguments = (*map(on_device, arrays), cap, signed, len(classes) - 1, *map(int, planes[1:]))

    def contexts(self, symbols: torch.Tensor) -> torch.Tensor:
        """The distributions of symbols [N, B]: int32 [N, B or 1]."""
        if not self.adaptive:
            return self.known[:, None]
        found, (places, images) = torch.empty_like(symbols), symbols.shape
        _select_all[(places, triton.cdiv(images, MAX_LANES))](symbols, found, *self.arguments, images, LANES=MAX_LANES, num_warps=1)
        return found


@triton.jit
def _size_of(coded, signed):
    """What `activity` of neighbours.py says."""
    return (coded + signed) >> signed


@triton.jit
def select(symbols, image, images, i, first, bias, classes, choices, starts, neighbours, cap, signed, reach, height, width):
    """The distribution of symbol i of each image: symbols holds those before it, [N, images]; a lane beyond the last image
    selects for that one."""
    channel, y, x = i // (height * width), i // width % height, i % width
    total = tl.load(bias + i) + tl.zeros_like(image)
    for k in range(tl.load(starts + channel), tl.load(starts + channel + 1)):
        entry = neighbours + 4 * k
        row, column = y + tl.load(entry + 1), x + tl.load(entry + 2)
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        place = (tl.load(entry) * height + row) * width + column
        size = _size_of(tl.load(symbols + place.to(tl.int64) * images + image, mask=inside & (image >= 0), other=0), signed)
        total += tl.load(entry + 3) * tl.minimum(size, cap)
    clipped = tl.minimum(tl.maximum(total, 0), reach)
    return tl.load(choices + tl.load(first + i) + tl.load(classes + clipped).to(tl.int32))


@triton.jit(do_not_specialize=("images", "cap", "signed", "reach", "height", "width"))
def _select_all(symbols, found, first, bias, classes, choices, starts, neighbours, cap, signed, reach, height, width, images,
                LANES: tl.constexpr):
    image = tl.program_id(1) * LANES + tl.arange(0, LANES)
    known = tl.minimum(image, images - 1)
    i = tl.program_id(0)
    context = select(symbols, known, images, i, first, bias, classes, choices, starts, neighbours, cap, signed, reach, height, width)
    tl.store(found + i.to(tl.int64) * images + image, context, mask=image < images)
