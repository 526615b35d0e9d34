"""What the CPU engines share: batches split among threads, payloads joined and cut."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from spic.coding.contexts import Selector
from spic.coding.symbols import symbol_matrix
from spic.machine import cores

PADDING = 8
"""Bytes that follow the last payload in a decoder's buffer, so that wide reads stay inside."""
SYMBOLS_PER_THREAD = 1 << 16
"""A batch is split among threads into parts of at least this many symbols."""


class CpuEngine:
    """A subclass has the kernels: encode_part and decode_part work on a part of a batch, without the interpreter lock.

    threads: at most so many; None: default_threads()."""

    matrix = staticmethod(symbol_matrix)

    def __init__(self, threads: int | None = None):
        self.threads = threads

    def encode_part(self, matrix: np.ndarray, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Symbols [B, N] and their contexts [B or 1, N] → (buffer, starts, stops) of the payloads."""
        raise NotImplementedError

    def decode_part(self, buffer, offsets: np.ndarray, selector: Selector, matrix: np.ndarray, status: np.ndarray):
        """Fill matrix [B, N] and status [B] from the payloads between consecutive offsets [B + 1] of the buffer."""
        raise NotImplementedError

    def encode(self, matrix: np.ndarray, selector: Selector) -> list[bytes]:
        def encode_part(part: slice) -> list[bytes]:
            return _cut(*self.encode_part(matrix[part], selector.contexts(matrix[part])))

        return [payload for part in self._for_each_part(matrix.shape, encode_part) for payload in part]

    def decode(self, payloads: Sequence[bytes], selector: Selector) -> tuple[np.ndarray, np.ndarray]:
        matrix = np.empty((len(payloads), len(selector)), np.int32)
        status = np.empty(len(payloads), np.int32)
        offsets = np.zeros(len(payloads) + 1, np.int64)
        np.cumsum([len(payload) for payload in payloads], out=offsets[1:])
        buffer = np.frombuffer(b"".join([*payloads, bytes(PADDING)]), np.uint8)

        def decode_part(part: slice) -> None:
            self.decode_part(buffer, offsets[part.start : part.stop + 1], selector, matrix[part], status[part])

        self._for_each_part(matrix.shape, decode_part)
        return matrix, status

    def _for_each_part(self, shape: tuple[int, int], work: Callable[[slice], object]) -> list:
        images, n_symbols = shape
        threads = self.threads or default_threads()
        count = max(1, min(threads, images, images * n_symbols // SYMBOLS_PER_THREAD))
        edges = [images * i // count for i in range(count + 1)]
        parts = [slice(a, b) for a, b in zip(edges, edges[1:])]
        return [work(parts[0])] if count == 1 else list(_pool().map(work, parts))


def default_threads() -> int:
    """As many as torch uses, if it is loaded; else OMP_NUM_THREADS; else one for each core that this process may use."""
    torch = sys.modules.get("torch")
    if hasattr(torch, "get_num_threads"):
        return torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isascii() and asked.isdigit() and int(asked):
        return int(asked)
    return cores()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="spic-coding")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def _cut(buffer: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> list[bytes]:
    view = memoryview(buffer)
    return [bytes(view[a:b]) for a, b in zip(starts.tolist(), stops.tolist())]
