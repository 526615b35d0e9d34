"""The coders where numba is not installed: the reference itself as an engine. The same bytes, 3 to 200 times slower."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from spic.coding.symbols import symbol_matrix
from spic.errors import StreamError


class PlainEngine:
    """encode and decode of a coder's reference, image by image. coder: its module; table: its FrequencyTable."""

    matrix = staticmethod(symbol_matrix)

    def __init__(self, coder, table):
        self.coder, self.table = coder, table

    def encode(self, matrix: np.ndarray, contexts: np.ndarray) -> list[bytes]:
        places = contexts.tolist()
        return [self.coder.encode(self.table, places, row) for row in matrix.tolist()]

    def decode(self, payloads: Sequence[bytes], contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        matrix = np.empty((len(payloads), len(contexts)), np.int32)
        for image, payload in enumerate(payloads):
            matrix[image] = self._decode_one(image, len(payloads), bytes(payload), contexts.tolist())
        return matrix, np.zeros(len(payloads), np.int32)

    def _decode_one(self, image: int, images: int, payload: bytes, contexts: list[int]) -> list[int]:
        try:
            return self.coder.decode(self.table, contexts, payload)
        except StreamError as error:
            raise StreamError(f"image {image} of {images}: payload is damaged ({error})") from None


@lru_cache(maxsize=1)
def numba_is_missing() -> bool:
    """Whether the plain engine has to do; says so once."""
    missing = importlib.util.find_spec("numba") is None
    if missing:
        print("note: numba is not installed, so coding runs in plain Python, many times slower: pip install numba",
              file=sys.stderr)
    return missing
