"""What all data sets share: what a network takes of a picture as tensors, even subsets. Reading is in pictures.py."""
from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spic.datasets.pictures import FLOAT32, FLOAT64, MEAN, SCALED, STD, NumpyPreparation
from spic.errors import SpicError

JPEG_QUALITY = 75  # at which a picture is compared with what crosses instead of it


def jpeg_bytes(pixels: np.ndarray, quality: int = JPEG_QUALITY) -> int:
    """Length of the picture uint8 [H, W, 3] as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.tell()


# ---- what a network takes --------------------------------------------------------------------------------------


def normalise(pixels: np.ndarray | Tensor, mean: tuple = MEAN, std: tuple = STD, rounding: str = FLOAT32) -> Tensor:
    """Pixels in 0..255 → what a network takes: float32 [3, H, W], or [B, 3, H, W] in channels-last memory.

    Arrays are [H, W, 3] or [B, H, W, 3], as pictures are stored; tensors [3, H, W] or [B, 3, H, W], of any number type.
    """
    images = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels)).movedim(-1, -3)
    wide = torch.float64 if rounding == FLOAT64 else torch.float32
    mean, std = (torch.tensor(values, dtype=wide).view(3, 1, 1).to(images.device) for values in (mean, std))
    if rounding == SCALED:
        images = (images.float() - 255 * mean) / (255 * std)
    else:
        images = images.float().div(255).sub_(mean).div_(std)
    return images.contiguous(memory_format=torch.channels_last if images.ndim == 4 else torch.contiguous_format)


@dataclass(frozen=True)
class Preparation(NumpyPreparation):
    """How any photo becomes an input of one network, as a tensor."""

    def normalise(self, pixels: np.ndarray) -> Tensor:
        """uint8 [H, W, 3] or [B, H, W, 3] → the network's input, float32 [3, H, W] or [B, 3, H, W]."""
        return normalise(pixels, self.mean, self.std, self.rounding)

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB photo → the network's input: float32 [3, H, W]."""
        return self.normalise(self.pixels(image))


# ---- subsets ---------------------------------------------------------------------------------------------------


def evenly_spread(items: list, limit: int | None) -> list:
    """`limit` of the items at even distances, the same ones each time; all of them without a limit."""
    if limit is None or limit >= len(items):
        return list(items)
    if limit < 1:
        raise SpicError(f"the limit must be at least 1 image, not {limit}")
    return [items[position] for position in np.arange(limit) * len(items) // limit]
