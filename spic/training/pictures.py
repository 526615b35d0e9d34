"""Pictures that train and judge the project's own networks: held in memory, decoded once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from spic.benchmarks import Source
from spic.datasets.camvid import CamVid
from spic.datasets.coco import CocoSegmentation
from spic.datasets.imagenet import ClassFolders


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


def training_pictures(source: Source, data: Path | None) -> Pictures:
    """The pictures that train a benchmark's network, as uint8, to be augmented."""
    dataset = source.open(data, source.backbone)
    return _AUGMENTABLE[type(dataset)](dataset, source.stored)


def evaluation_pictures(source: Source, data: Path | None) -> Pictures:
    """Those that judge it, as networks take them; bfloat16, which the networks round them to anyway."""
    dataset = source.open(data, source.evaluation)
    return hold(dataset, lambda image, target: (image.bfloat16(), target), "reading evaluation pictures")


def _labelled(dataset: ClassFolders, size: int | None) -> Pictures:
    dataset.transform = lambda image: shorter_side(image, size)
    return hold(dataset, lambda image, label: (pixels(image), label), "reading training pictures")


def _masked(dataset: CocoSegmentation, size: int | None) -> Pictures:
    dataset.transform = lambda image, mask: (image, mask)
    return hold(dataset, lambda image, mask: (pixels(image), np.array(mask)), "reading training pictures")


def _street(dataset: CamVid, size: int | None) -> Pictures:
    items = [(torch.from_numpy(dataset.pixels(i)).permute(2, 0, 1).contiguous(), dataset.label(i).to(torch.uint8))
             for i in range(len(dataset))]
    return Pictures(*map(list, zip(*items)))


_AUGMENTABLE = {ClassFolders: _labelled, CocoSegmentation: _masked, CamVid: _street}
