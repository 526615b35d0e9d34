"""Where the pictures that train and judge the project's own networks come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spic.datasets import camvid, coco, imagenet, scenes
from spic.datasets.images import Preparation
from spic.errors import SpicError
from spic.training.features import Views
from spic.training.pictures import Pictures, hold, pixels, shorter_side


@dataclass(frozen=True)
class Source:
    """``open(data, split)``: the data set of a split at the transform of the evaluation.

    ``stored``: shorter side of the pictures kept in memory for augmentation; None keeps their size.
    ``bottlenecks``: the split that trains bottlenecks, whose front sees ``crops`` (side, number per picture) or all of
    it, and whose back a moving ``window`` of the feature, in cells, or all of it;
    symbols are counted on ``counted`` pictures of it, whole. ``preparation`` turns any picture into a network input.
    """

    open: Callable
    evaluation_split: str = "val"
    stored: int | None = None
    bottlenecks: str = "train"
    crops: tuple[int | None, int] = (None, 1)
    window: int | None = None
    counted: int = 2000
    preparation: Preparation | None = None

    def views(self, dataset) -> tuple[Views, Views]:
        """Of a data set, what bottlenecks learn from, and the whole pictures whose symbols make the frequency table."""
        return Views(dataset, *self.crops, window=self.window), Views(dataset, limit=self.counted)

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
    return hold(dataset, lambda image, mask: (pixels(image), np.array(mask)), "reading training pictures")


def _street(dataset, size: int | None) -> Pictures:
    items = [(torch.from_numpy(dataset.pixels(i)).permute(2, 0, 1).contiguous(), dataset.label(i).to(torch.uint8))
             for i in range(len(dataset))]
    return Pictures(*map(list, zip(*items)))


_AUGMENTABLE = {"ClassFolders": _labelled, "CocoSegmentation": _masked, "CamVid": _street}


def _open_imagenette(data: Path | None, split: str, limit: int | None = None):
    return imagenet.open_imagenette(_given(data), limit, split)


def _open_camvid(data: Path | None, split: str, limit: int | None = None):
    return camvid.open(_given(data), limit, split)


@dataclass(frozen=True)
class _Drawn:
    """Scenes: split -> which set is drawn. Bottlenecks learn on pictures that the backbone has not seen."""

    task: str
    sets: dict[str, dict]

    def __call__(self, data: Path | None, split: str, limit: int | None = None):
        return scenes.open(self.task, limit=limit, **self.sets[split])


def _given(data: Path | None) -> Path:
    if data is None:
        raise SpicError("this benchmark needs --data, the folder of its public data set")
    return data


def _sets(backbone: int, bottlenecks: int) -> dict[str, dict]:
    return {"train": {"split": "train", "count": backbone}, "val": {"split": "val"},
            "bottlenecks": {"split": "train", "count": bottlenecks, "seed": 1}}


def _open_imagenet(data: Path | None, split: str, limit: int | None = None):
    return imagenet.open(_given(data), limit, split=split)


def _open_coco(data: Path | None, split: str, limit: int | None = None):
    return coco.open(_given(data), limit, split=split)


SOURCES = {
    ("imagenet", "classification"): Source(_open_imagenet, preparation=imagenet.PREPARATION),
    ("coco", "segmentation"): Source(_open_coco, crops=(257, 2), counted=120, preparation=coco.PREPARATION),
    ("imagenette", "classification"): Source(_open_imagenette, stored=imagenet.IMAGENETTE_SIZE,
                                             preparation=imagenet.IMAGENETTE_PREPARATION),
    ("scenes", "classification"): Source(_Drawn("classification", _sets(24_000, 12_000)), stored=192,
                                         bottlenecks="bottlenecks", preparation=imagenet.PREPARATION),
    ("scenes", "segmentation"): Source(_Drawn("segmentation", _sets(3_000, 1_200)), bottlenecks="bottlenecks",
                                       window=33, counted=120, preparation=coco.PREPARATION),
    ("camvid", "segmentation"): Source(_open_camvid, "test", window=33, counted=120,
                                       preparation=camvid.PREPARATION),
}
