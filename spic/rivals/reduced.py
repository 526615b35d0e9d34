"""A codec at a lower resolution: the picture is scaled down before it, and up again behind it.

At few bits that is often the better use of them, and a rival is measured at its best. Both steps are Pillow's, on 8 bits:
Lanczos down, bicubic up. Four bytes before the coded picture say its full height and width.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from spic.datasets.pictures import check_size
from spic.errors import SpicError, StreamError
from spic.rivals.anatomy import Parts
from spic.rivals.inputs import check_quality, check_rgb8

SIZE = struct.Struct("<HH")  # height, width
PERCENTS = (75, 50)  # of each side
MARK = "@"


@dataclass(frozen=True)
class Reduced:
    """``inner`` on pictures of ``percent`` of each side; its qualities, their own sweep."""

    inner: Any
    percent: int
    sweep: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.inner.name}{MARK}{self.percent}"

    @property
    def settings(self) -> str:
        return f"at {self.percent} % of each side (Pillow: Lanczos down, bicubic up), {self.inner.settings}"

    quality_name = property(lambda self: self.inner.quality_name)
    quality_range = property(lambda self: self.inner.quality_range)
    chroma = property(lambda self: self.inner.chroma)
    holds_gil = property(lambda self: self.inner.holds_gil)

    def version(self) -> str:
        return self.inner.version()

    def encode(self, image: np.ndarray, quality: int) -> bytes:
        quality, (height, width) = check_quality(self, quality), check_rgb8(image).shape[:2]
        small = (max(1, round(side * self.percent / 100)) for side in (height, width))
        return SIZE.pack(height, width) + self.inner.encode(_scaled(image, *small, Image.Resampling.LANCZOS), quality)

    def decode(self, data: bytes) -> np.ndarray:
        """StreamError where the first bytes tell no size that a picture here may have."""
        try:
            height, width = SIZE.unpack_from(data)
            check_size(self.name, width, height)
        except (struct.error, SpicError) as error:
            raise StreamError(f"{self.name}: not a coded picture ({error})") from None
        return _scaled(self.inner.decode(data[SIZE.size:]), height, width, Image.Resampling.BICUBIC)

    def parts(self, data: bytes) -> Parts:
        payload, header, container = self.inner.parts(data[SIZE.size:])
        return Parts(payload, header, container + SIZE.size)


def _scaled(image: np.ndarray, height: int, width: int, method: Image.Resampling) -> np.ndarray:
    return np.array(Image.fromarray(image).resize((width, height), method))
