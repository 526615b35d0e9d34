"""Where the pictures that train and judge the project's own networks come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from spic.datasets import camvid, imagenet, scenes
from spic.errors import SpicError
from spic.training.pictures import Pictures, hold, pixels, shorter_side

SCENES_TRAINING = {"classification": 24_000, "segmentation": 3_000}
IMAGENETTE_CLASSES = ("n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
                      "n03394916", "n03417042", "n03425413", "n03445777", "n03888257")


@dataclass(frozen=True)
class Source:
    """``open(data, split)``: the data set of a split at the transform of the evaluation.

    ``stored``: shorter side of the pictures kept in memory for augmentation; None keeps their size.
    """

    open: Callable
    evaluation_split: str = "val"
    stored: int | None = None

    def training(self, data: Path | None) -> Pictures:
        """The training pictures as uint8, to be augmented."""
        return _AUGMENTABLE[type(dataset := self.open(data, "train")).__name__](dataset, self.stored)

    def evaluation(self, data: Path | None) -> Pictures:
        """The evaluation pictures as the networks take them; bfloat16, which the networks round them to anyway."""
        dataset = self.open(data, self.evaluation_split)
        return hold(dataset, lambda image, target: (image.bfloat16(), target), "reading evaluation pictures")


def _labelled(dataset, size: int | None) -> Pictures:
    dataset.transform = lambda image: shorter_side(image, size)
    return hold(dataset, lambda image, label: (pixels(image), label), "reading training pictures")


def _masked(dataset, size: int | None) -> Pictures:
    dataset.transform = lambda image, mask: (image, mask)
    return hold(dataset, lambda image, mask: (pixels(image), pixels(mask.convert("RGB"))[0]), "reading training pictures")


def _street(dataset, size: int | None) -> Pictures:
    items = [(torch.from_numpy(dataset.pixels(i)).permute(2, 0, 1).contiguous(), dataset.label(i).to(torch.uint8))
             for i in range(len(dataset))]
    return Pictures(*map(list, zip(*items)))


_AUGMENTABLE = {"ClassFolders": _labelled, "CocoSegmentation": _masked, "CamVid": _street}


def _open_imagenette(data: Path | None, split: str):
    from torchvision import transforms
    steps = [transforms.Resize(160), transforms.CenterCrop(160), transforms.ToTensor(),
             transforms.Normalize(imagenet.MEAN, imagenet.STD)]
    return imagenet.open(_given(data), None, IMAGENETTE_CLASSES, split, transforms.Compose(steps))


def _open_camvid(data: Path | None, split: str):
    return camvid.open(_given(data), None, split)


def _open_scenes(task: str) -> Callable:
    return lambda data, split: scenes.open(task, split, count=SCENES_TRAINING[task] if split == "train" else None)


def _given(data: Path | None) -> Path:
    if data is None:
        raise SpicError("this benchmark needs --data, the folder of its public data set")
    return data


SOURCES = {
    ("imagenette", "classification"): Source(_open_imagenette, stored=160),
    ("scenes", "classification"): Source(_open_scenes("classification"), stored=192),
    ("scenes", "segmentation"): Source(_open_scenes("segmentation")),
    ("camvid", "segmentation"): Source(_open_camvid, "test"),
}
