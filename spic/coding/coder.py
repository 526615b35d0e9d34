"""Symbols of a batch of images to one payload per image, and back: the interface behind which every engine lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch

from spic.coding.engine import STATUS
from spic.coding.frequency import FrequencyTable
from spic.coding.symbols import checked_shape, symbol_matrix
from spic.errors import StreamError


class Coder:
    """Codes symbols [B, ...] with one table; made by make_coder.

    name: "huffman" or "rans".  make_engine: number of symbols of an image → engine.  device: where decoded symbols
    lie."""

    def __init__(self, name: str, table: FrequencyTable, make_engine: Callable, device="cpu"):
        self.name, self.table, self.device = name, table, torch.device(device)
        self._engine = lru_cache(maxsize=8)(make_engine)

    def encode(self, symbols) -> list[bytes]:
        """Integer symbols [B, ...] → one payload per image. Values without a count in the table are escaped;
        negative ones and ones above 2**24 - 1 are a SpicError."""
        contexts = self.table.contexts(symbols.shape[1:])
        engine = self._engine(len(contexts))
        return engine.encode(symbol_matrix(symbols, engine.device), contexts)

    def decode(self, payloads: Sequence[bytes], shape: Sequence[int]) -> torch.Tensor:
        """Payloads → int32 symbols [B, *shape] on the coder's device; a payload that encode cannot have made is a
        StreamError."""
        shape = checked_shape(shape)
        contexts = self.table.contexts(shape)
        matrix, status = self._engine(len(contexts)).decode(payloads, contexts)
        _check(status)
        return matrix.to(self.device).reshape(len(payloads), *shape)


def _check(status: np.ndarray) -> None:
    bad = np.flatnonzero(status)
    if len(bad):
        raise StreamError(f"image {bad[0]} of {len(status)}: payload is damaged ({STATUS[int(status[bad[0]])]})")
