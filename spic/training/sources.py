"""Where the training and evaluation pictures of each benchmark come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Callable

import torch

from spic.datasets.scenes import ensure_scenes
from spic.errors import SpicError
from spic.training.pictures import Pictures, class_folders

SCENES_TRAINING = {"classification": 24_000, "segmentation": 3_000}


@dataclass(frozen=True)
class Source:
    """``folder(data, split)`` finds or makes the files; ``read(folder, size)`` decodes them."""

    folder: Callable[[Path | None, str], Path]
    read: Callable[[Path, int | None], Pictures]
    resize: int   # shorter side before the evaluation crop, and of the training pictures in memory
    crop: tuple[int, int]

    def training(self, data: Path | None) -> Pictures:
        return self.read(self.folder(data, "train"), self.resize)

    def evaluation(self, data: Path | None) -> Pictures:
        """The evaluation set, cropped as val.py crops it."""
        return _centre_crops(self, data)


@lru_cache(maxsize=2)
def _centre_crops(source: Source, data: Path | None) -> Pictures:
    pictures = source.read(source.folder(data, "val"), source.resize)
    return Pictures([centre_crop(image, source.crop) for image in pictures.images],
                    [centre_crop(target, source.crop) if target.ndim else target for target in pictures.targets])


def centre_crop(picture: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The middle [..., *size] of a picture that is at least as large."""
    top, left = (round((have - want) / 2) for have, want in zip(picture.shape[-2:], size))
    return picture[..., top:top + size[0], left:left + size[1]]


def _given(data: Path | None, split: str) -> Path:
    if data is None:
        raise SpicError("this benchmark needs --data, the folder of its public data set")
    return data / split


def _drawn(task: str) -> Callable[[Path | None, str], Path]:
    def folder(data: Path | None, split: str) -> Path:
        count = SCENES_TRAINING[task] if split == "train" else None
        return ensure_scenes(task, split, count) / split
    return folder


SOURCES = {
    ("imagenette", "classification"): Source(_given, class_folders, 160, (160, 160)),
    ("scenes", "classification"): Source(_drawn("classification"), class_folders, 256, (224, 224)),
}
