"""Training pictures held in memory, decoded once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm


@dataclass(frozen=True)
class Pictures:
    """Images [3, H, W] with their targets: a label [] or a mask [H, W].

    uint8 images of any sizes to be augmented, or normalised ones of one size to be taken as they are.
    """

    images: list[Tensor]
    targets: list[Tensor]

    def __len__(self) -> int:
        return len(self.images)


def pixels(image: Image.Image) -> Tensor:
    """uint8 [3, H, W]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def shorter_side(image: Image.Image, size: int) -> Image.Image:
    """``image`` scaled so that its shorter side is ``size`` pixels."""
    scale = size / min(image.size)
    return image if scale == 1 else image.resize([max(size, round(side * scale)) for side in image.size],
                                                 Image.Resampling.BILINEAR)


def hold(dataset, convert: Callable, what: str) -> Pictures:
    """All items of a data set through ``convert(image, target)``, decoded by threads under a progress bar."""
    with ThreadPoolExecutor() as pool:
        items = pool.map(lambda index: convert(*dataset[index]), range(len(dataset)))
        images, targets = zip(*tqdm(items, what, len(dataset), unit="image"))
    return Pictures(list(images), [torch.as_tensor(target) for target in targets])
