"""A picture to the payload of a point: prepare, network, code; the times of each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from spic.coding import make_coder
from spic.datasets.pictures import NumpyPreparation, UnreadableImage
from spic.edge.runtime import EdgePoint

LEAST_SIDE = 8
"""A picture with fewer pixels along a side holds nothing that a network could answer for."""


class Half(Protocol):
    """The edge half of a network, however it runs: see OnnxHalf."""

    preparation: NumpyPreparation
    points: list[EdgePoint]

    def symbols(self, number: int, image: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Coded:
    """A picture as it will be sent. milliseconds: of prepare, network and code."""

    payload: bytes
    milliseconds: dict[str, float]


class PictureCoder:
    """RGB pictures → payloads, at any point of a half; all points are ready from the start, so a switch costs nothing."""

    def __init__(self, half: Half):
        self.half = half
        self._coders = [make_coder(point.header.coder, point.table) for point in half.points]
        blank = Image.new("RGB", half.preparation.image_size[::-1])
        self.warm = [self._second(blank, number) for number in range(len(half.points))]

    def __call__(self, image: Image.Image, number: int) -> Coded:
        """UnreadableImage: too small. Other SpicErrors: see the half and the coder."""
        if min(image.size) < LEAST_SIDE:
            raise UnreadableImage(f"a picture of {image.width}x{image.height} pixels is too small: at least {LEAST_SIDE} "
                                  "along each side")
        times = [time.perf_counter()]
        prepared = self.half.preparation.array(image)
        times.append(time.perf_counter())
        symbols = self.half.symbols(number, prepared)
        times.append(time.perf_counter())
        (payload,) = self._coders[number].encode(symbols)
        times.append(time.perf_counter())
        spent = (1e3 * (end - start) for start, end in zip(times, times[1:]))
        return Coded(payload, dict(zip(("prepare", "network", "code"), spent)))

    def _second(self, image: Image.Image, number: int) -> float:
        """Milliseconds of the second run: the first one compiles and allocates."""
        self(image, number)
        return sum(self(image, number).milliseconds.values())
