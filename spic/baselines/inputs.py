"""What codecs accept: any picture a user may have → the uint8 RGB array that all start from; checked qualities."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from PIL import Image

from spic.errors import SpicError

SIXTEEN_BIT_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def to_rgb8(image: Image.Image | np.ndarray) -> np.ndarray:
    """PIL image or array (grey, RGB, with alpha, CMYK, palette; 8 or 16 bits) → uint8 [H, W, 3].

    Alpha is dropped and not blended, as torchvision's image loader does, so that every curve of a figure sees the
    same picture. 16-bit values are scaled by 255/65535; Pillow's own conversion would clip them at 255.
    """
    if isinstance(image, np.ndarray):
        return _array_to_rgb8(image)
    if image.mode in SIXTEEN_BIT_MODES:
        return _array_to_rgb8(np.asarray(image).clip(0, 65535).astype(np.uint16))
    if image.mode == "F":
        raise SpicError("a floating-point picture (mode F) has no known range: convert it to 8 or 16 bits first")
    return _array_to_rgb8(np.asarray(image.convert("RGB")))


def _array_to_rgb8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint16:
        array = ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if array.dtype != np.uint8:
        raise SpicError(f"a picture must be 8 or 16 bits a sample, not {array.dtype}")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or 0 in array.shape:
        raise SpicError(f"a picture must be [height, width] or [height, width, 1 to 4 channels], not {array.shape}")
    colours = array[..., :1] if array.shape[2] < 3 else array[..., :3]
    return np.ascontiguousarray(np.broadcast_to(colours, (*array.shape[:2], 3)))


def check_rgb8(image: np.ndarray) -> np.ndarray:
    """The array itself when it is uint8 [H, W, 3]; SpicError otherwise."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise SpicError(f"a codec takes uint8 [height, width, 3] pixels, not {found}: convert with to_rgb8")
    if 0 in image.shape:
        raise SpicError(f"a picture of shape {image.shape} has no pixels")
    return image


class HasQuality(Protocol):
    """What of a codec `check_quality` looks at."""

    name: str
    quality_name: str
    quality_range: tuple[int, int]


def check_quality(codec: HasQuality, quality: int) -> int:
    """The quality as a plain int when it is a whole number in the codec's range; SpicError otherwise."""
    low, high = codec.quality_range
    if isinstance(quality, bool) or not isinstance(quality, (int, np.integer)) or not low <= quality <= high:
        raise SpicError(f"{codec.name}: {codec.quality_name} is a whole number from {low} to {high}, not {quality!r}")
    return int(quality)
