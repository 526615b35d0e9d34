"""Batched augmentation of pictures held in memory: cropped, flipped and recoloured faster than JPEGs decode.

All chances come from the generator handed in, so that a resumed run sees the pictures of an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from spic.benchmarks import Cropping
from spic.datasets.images import normalise
from spic.datasets.pictures import SCALED


def box(cropping: Cropping, height: int, width: int, draw: Callable[[], float]) -> tuple[int, int, int, int]:
    """top, left, height, width of a random crop of a picture; ``draw()`` gives a uniform number in [0, 1)."""
    low, high = cropping.scale
    area = (min(height, width) ** 2 if cropping.of_square else height * width) * (low + (high - low) * draw())
    aspect = math.exp((2 * draw() - 1) * math.log(cropping.ratio))
    h = min(height, max(1, round(math.sqrt(area / aspect))))
    w = min(width, max(1, round(math.sqrt(area * aspect))))
    return int((height - h + 1) * draw()), int((width - w + 1) * draw()), h, w


def crop(picture: Tensor, place, size: int, mode: str) -> Tensor:
    """A part (top, left, height, width) of a uint8 picture [C, H, W], resized to [C, size, size]."""
    top, left, height, width = place
    part = picture[None, :, top:top + height, left:left + width]
    antialias = {"antialias": True, "align_corners": False} if mode == "bilinear" else {}
    return F.interpolate(part, (size, size), mode=mode, **antialias)[0]


def recolour(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Random brightness, contrast and saturation per image: float [B, 3, H, W] in 0..255."""
    gains = 1 + strength * (2 * torch.rand(3, len(images), 1, 1, 1, generator=generator) - 1)
    images = images * gains[0]
    images = torch.lerp(images.mean(dim=(1, 2, 3), keepdim=True), images, gains[1])
    return torch.lerp(images.mean(dim=1, keepdim=True), images, gains[2]).clamp_(0, 255)


def augmented(pictures, indices, cropping: Cropping, size: int, generator: torch.Generator, colour: float = 0.25):
    """Random views of some pictures: normalised images [B, 3, size, size], targets [B] or [B, size, size]."""
    chances = torch.rand(len(indices), 5, generator=generator).tolist()
    images, targets = [], []
    for index, (*chance, flip) in zip(indices, chances):
        image, target = pictures.images[index], pictures.targets[index]
        place = box(cropping, *image.shape[-2:], iter(chance).__next__)
        views = [crop(image, place, size, "bilinear")]
        if target.ndim:
            views.append(crop(target[None], place, size, "nearest-exact"))
        views = [view.flip(-1) for view in views] if flip < 0.5 else views
        images.append(views[0])
        targets.append(views[1][0] if target.ndim else target)
    images = recolour(torch.stack(images).float(), generator, colour)
    return normalise(images, rounding=SCALED), torch.stack(targets).long()
