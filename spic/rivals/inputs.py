"""What codecs accept: any picture a user may have → the uint8 RGB array that all start from; checked qualities."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from torch import Tensor

from spic.benchmarks import Benchmark
from spic.datasets.images import normalise
from spic.errors import SpicError


def check_rgb8(image: np.ndarray) -> np.ndarray:
    """The array itself when it is uint8 [H, W, 3]; SpicError otherwise."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise SpicError(f"a codec takes uint8 [height, width, 3] pixels, not {found}: convert with to_rgb8")
    if 0 in image.shape:
        raise SpicError(f"a picture of shape {image.shape} has no pixels")
    return image


class HasQuality(Protocol):
    """A codec, as far as its range of qualities goes."""

    name: str
    quality_name: str
    quality_range: tuple[int, int]


def check_quality(codec: HasQuality, quality: int) -> int:
    """The quality as a plain int when it is a whole number in the codec's range; SpicError otherwise."""
    low, high = codec.quality_range
    if isinstance(quality, bool) or not isinstance(quality, (int, np.integer)) or not low <= quality <= high:
        raise SpicError(f"{codec.name}: {codec.quality_name} is a whole number from {low} to {high}, not {quality!r}")
    return int(quality)


def normalisation(benchmark: Benchmark) -> Callable[[np.ndarray], Tensor]:
    """uint8 [B, H, W, 3] → the benchmark's network input, rounded as for the records that exist of both tasks."""
    prepared = benchmark.preparation
    return partial(normalise, mean=prepared.mean, std=prepared.std)
