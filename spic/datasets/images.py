"""What both kinds of data set share: reading a picture, the published normalisation, even subsets."""
from __future__ import annotations

import os

import numpy as np
from PIL import Image

from spic.errors import SpicError

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, for RGB in 0..1
STD = (0.229, 0.224, 0.225)


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


class UnreadableImage(SpicError):
    """A picture that cannot be decoded.

    A DataLoader raises a worker's exception anew from "Caught ... Original Traceback ..." as its only argument; this
    class keeps just the last line of such a text, so that the message stays the one line that was written here.
    """

    def __init__(self, message: str):
        if message.startswith("Caught "):
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(message)


def read_rgb(path: str | os.PathLike) -> Image.Image:
    """The picture as RGB, whatever it is stored as; UnreadableImage names the file."""
    try:
        with Image.open(path) as image:
            # Pillow's own conversion would clip 16-bit values at 255
            return Image.fromarray(to_rgb8(image)) if image.mode in SIXTEEN_BIT_MODES else image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise UnreadableImage(f"cannot read the image {path} ({reason}); replace or remove the file") from error


def evenly_spread(items: list, limit: int | None) -> list:
    """`limit` of the items at even distances, the same ones each time; all of them without a limit."""
    if limit is None or limit >= len(items):
        return list(items)
    if limit < 1:
        raise SpicError(f"the limit must be at least 1 image, not {limit}")
    return [items[position] for position in np.arange(limit) * len(items) // limit]
