"""Symbols of a batch of images to one payload per image, and back: the interface behind which every engine lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from spic.coding.engine import STATUS, choose_engine
from spic.coding.symbols import checked_shape, folded, image_shape, unfolded
from spic.coding.tables import FrequencyTable
from spic.errors import SpicError, StreamError


class Coder:
    """Codes symbols [B, ...] with one table; made by make_coder.

    name: "huffman" or "rans".  table: its FrequencyTable.  device: where symbols come from and go to: "cpu" (numpy
    arrays) or a GPU such as "cuda:0" (torch tensors).  make_engine: number of symbols of an image → engine."""

    def __init__(self, name: str, table: FrequencyTable, make_engine: Callable, device: str = "cpu"):
        self.name, self.table, self.device = name, table, device
        self._engine = lru_cache(maxsize=8)(make_engine)

    def encode(self, symbols) -> list[bytes]:
        """Integer symbols [B, ...], such as [B, C, h, w], → one payload per image.

        On the CPU an array, or anything numpy can view as one (a CPU tensor); on a GPU a tensor there. Values without a
        count in the table are escaped. A SpicError: no integers, values outside 0..2**24 - 1 (of a signed table
        -2**23..2**23 - 1), more than 2**24 of them in an image, a shape that the table does not fit."""
        selector = self.table.selector(image_shape(symbols))
        symbols = folded(symbols) if self.table.signed else symbols
        engine = self._engine(len(selector))
        return engine.encode(engine.matrix(symbols), selector)

    def decode(self, payloads: Sequence[bytes], shape: Sequence[int]):
        """Payloads → int32 symbols [B, *shape]: an array, or from a GPU engine a tensor on its device.

        A payload that encode cannot have made is a StreamError that names its place in the batch; an impossible shape
        is a SpicError."""
        shape = checked_shape(shape)
        selector = self.table.selector(shape)
        if not all(isinstance(payload, (bytes, bytearray)) for payload in payloads):
            raise SpicError("payloads must be a list of bytes, one for each image")
        matrix, status = self._engine(len(selector)).decode(payloads, selector)
        _check(status)
        coded = matrix.reshape(len(payloads), *shape)
        return unfolded(coded) if self.table.signed else coded


def make_coder(
    name: str, table: FrequencyTable, engine: str | None = None, device=None, threads: int | None = None
) -> Coder:
    """The coder of this name (one of CODERS) for this table.

    engine: "cpu", "gpu", or None: the GPU's if `device` is a GPU and its kernels prove themselves there, else the CPU's.
    device: a torch device or its name, such as "cuda:0"; None: the CPU, or with engine="gpu" the current GPU.
    threads: the CPU engine uses at most so many (default: as many as torch if it is loaded, else OMP_NUM_THREADS, else
    one for each core that this process may use).

    An unknown name or engine, and engine="gpu" where the GPU's kernels do not run, are a SpicError."""
    return Coder(name, table, *choose_engine(name, table, engine, device, threads))


def _check(status: np.ndarray) -> None:
    bad = np.flatnonzero(status)
    if len(bad):
        raise StreamError(f"image {bad[0]} of {len(status)}: payload is damaged ({STATUS[int(status[bad[0]])]})")
