"""Codecs at work on all cores: threads for those that let go of Python's lock, processes for the others."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from spic.errors import SpicError
from spic.machine import end_with_parent
from spic.rivals.anatomy import Parts


class Passage(NamedTuple):
    """What one image became on its way through a codec."""

    received: np.ndarray
    parts: Parts
    encode_seconds: float
    decode_seconds: float


def transmit(codec: Any, quality: int | None, array: np.ndarray) -> Passage:
    """Encode, count the bytes, decode. Codec None passes the array through, at no bytes."""
    if codec is None:
        return Passage(array, Parts(0, 0, 0), 0.0, 0.0)
    start = time.perf_counter()
    data = codec.encode(array, quality)
    middle = time.perf_counter()
    received = codec.decode(data)
    return Passage(received, codec.parts(data), middle - start, time.perf_counter() - middle)


def transmit_by_name(name: str, quality: int, array: np.ndarray) -> Passage:
    """`transmit` for another process, to which a codec itself cannot be sent."""
    from spic.rivals.codecs import CODECS

    return transmit(CODECS[name], quality, array)


def _in_process(pool: ProcessPoolExecutor, name: str, quality: int, array: np.ndarray) -> Passage:
    try:
        return pool.submit(transmit_by_name, name, quality, array).result()
    except BrokenProcessPool:
        raise SpicError(f"{name}: a worker process died, perhaps for lack of memory: use fewer workers") from None


class Workers:
    """A pool of threads, and beside it a pool of processes started when a codec needs it."""

    def __init__(self, count: int):
        self.count = max(1, count)
        self.threads = ThreadPoolExecutor(self.count)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: Any) -> None:
        self.threads.shutdown(cancel_futures=True)
        if "processes" in vars(self):
            self.processes.shutdown(cancel_futures=True)

    @cached_property
    def processes(self) -> ProcessPoolExecutor:
        # spawn: a fork would copy a process whose threads hold locks
        return ProcessPoolExecutor(self.count, multiprocessing.get_context("spawn"), end_with_parent)

    def submit(self, load: Callable[[int], np.ndarray], index: int, codec: Any, quality: int | None) -> Future:
        """Load item `index` and carry it through the codec; the future holds a Passage."""
        if codec is not None and codec.holds_gil and self.count > 1:
            pool = self.processes
            return self.threads.submit(lambda: _in_process(pool, codec.name, quality, load(index)))
        return self.threads.submit(lambda: transmit(codec, quality, load(index)))
