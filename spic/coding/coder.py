"""Symbols of a batch of images to one payload per image, and back: the interface behind which every engine lies."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch

from spic.coding.engine import PADDING, STATUS
from spic.coding.frequency import FrequencyTable
from spic.coding.symbols import symbol_matrix
from spic.errors import SpicError, StreamError

MAX_SYMBOLS = 1 << 24
"""Most symbols of one image; bounds what a decoder allocates."""
SYMBOLS_PER_THREAD = 1 << 16
"""A batch is split among threads into parts of at least this many symbols."""


class Coder:
    """Codes symbols [B, ...] with one table; made by make_coder.

    name: "huffman" or "rans".  make_engine: number of symbols of an image → engine.  device: where decoded symbols lie."""

    def __init__(self, name: str, table: FrequencyTable, make_engine: Callable, device="cpu", threads: int | None = None):
        self.name, self.table, self.device, self.threads = name, table, torch.device(device), threads
        self._engine = lru_cache(maxsize=8)(make_engine)

    def encode(self, symbols) -> list[bytes]:
        """Integer symbols [B, ...] → one payload per image. Values without a count in the table are escaped;
        negative ones and ones above 2**24 - 1 are a SpicError."""
        matrix = symbol_matrix(symbols)
        contexts = self.table.contexts(symbols.shape[1:])
        engine = self._engine(len(contexts))
        parts = self._parts(*matrix.shape)
        encoded = self._each(lambda part: _payloads(*engine.encode(matrix[part], contexts)), parts)
        return [payload for part in encoded for payload in part]

    def decode(self, payloads: Sequence[bytes], shape: Sequence[int]) -> torch.Tensor:
        """Payloads → int32 symbols [B, *shape] on the coder's device; a payload that encode cannot have made is a StreamError."""
        shape = checked_shape(shape)
        contexts = self.table.contexts(shape)
        engine = self._engine(len(contexts))
        parts = self._parts(len(payloads), len(contexts))
        decoded = self._each(lambda part: engine.decode(*_joined(payloads[part]), contexts), parts)
        _check_status(np.concatenate([status for _, status in decoded] or [np.zeros(0)]))
        matrix = np.concatenate([m for m, _ in decoded]) if len(decoded) != 1 else decoded[0][0]
        return torch.from_numpy(matrix).reshape(len(payloads), *shape).to(self.device)

    def _parts(self, images: int, n_symbols: int) -> list[slice]:
        threads = self.threads or torch.get_num_threads()
        count = max(1, min(threads, images, images * n_symbols // SYMBOLS_PER_THREAD))
        edges = [images * i // count for i in range(count + 1)]
        return [slice(a, b) for a, b in zip(edges, edges[1:])]

    def _each(self, work: Callable, parts: list[slice]) -> list:
        return list(map(work, parts)) if len(parts) == 1 else list(_pool().map(work, parts))


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one image's symbols, as a tuple, refused when it is not a shape or too large."""
    shape = tuple(int(n) for n in shape)
    if not shape or min(shape) < 0 or math.prod(shape) > MAX_SYMBOLS:
        raise SpicError(f"symbol shape {shape}: needs at least one axis and at most {MAX_SYMBOLS} symbols")
    return shape


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="spic-coding")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def _payloads(buffer: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> list[bytes]:
    view = memoryview(buffer)
    return [bytes(view[a:b]) for a, b in zip(starts.tolist(), stops.tolist())]


def _joined(payloads: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """One buffer with every payload and PADDING zeros, and where each begins."""
    offsets = np.zeros(len(payloads) + 1, np.int64)
    np.cumsum([len(p) for p in payloads], out=offsets[1:])
    return np.frombuffer(b"".join([*payloads, bytes(PADDING)]), np.uint8), offsets


def _check_status(status: np.ndarray) -> None:
    bad = np.flatnonzero(status)
    if len(bad):
        raise StreamError(f"image {bad[0]} of {len(status)}: payload is damaged ({STATUS[int(status[bad[0]])]})")
