"""Where the pictures that train and judge the project's own networks come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision import transforms

from spic.datasets import camvid, imagenet, scenes
from spic.errors import SpicError
from spic.training.features import Views
from spic.training.pictures import Pictures, hold, pixels, shorter_side

IMAGENETTE_CLASSES = ("n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
                      "n03394916", "n03417042", "n03425413", "n03445777", "n03888257")


@dataclass(frozen=True)
class Source:
    """``open(data, split)``: the data set of a split at the transform of the evaluation.

    ``stored``: shorter side of the pictures kept in memory for augmentation; None keeps their size.
    ``bottlenecks``: the split that trains bottlenecks, seen at ``crops`` (side, number per picture) or whole;
    symbols are counted on ``counted`` pictures of it, whole.
    """

    open: Callable
    evaluation_split: str = "val"
    stored: int | None = None
    bottlenecks: str = "train"
    crops: tuple[int | None, int] = (None, 1)
    counted: int = 2000

    def views(self, data: Path | None) -> Views:
        """What the front shows to bottlenecks in training."""
        return Views(self.open(data, self.bottlenecks), *self.crops)

    def counting(self, data: Path | None):
        """The training pictures whose symbols make the frequency tables, at the transform of the evaluation."""
        return self.open(data, self.bottlenecks, self.counted)

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


def _open_imagenette(data: Path | None, split: str, limit: int | None = None):
    steps = [transforms.Resize(160), transforms.CenterCrop(160), transforms.ToTensor(),
             transforms.Normalize(imagenet.MEAN, imagenet.STD)]
    return imagenet.open(_given(data), limit, IMAGENETTE_CLASSES, split, transforms.Compose(steps))


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


SOURCES = {
    ("imagenette", "classification"): Source(_open_imagenette, stored=160),
    ("scenes", "classification"): Source(_Drawn("classification", _sets(24_000, 12_000)), stored=192,
                                         bottlenecks="bottlenecks"),
    ("scenes", "segmentation"): Source(_Drawn("segmentation", _sets(3_000, 1_200)), bottlenecks="bottlenecks",
                                       crops=(257, 2), counted=120),
    ("camvid", "segmentation"): Source(_open_camvid, "test", crops=(257, 6), counted=120),
}
