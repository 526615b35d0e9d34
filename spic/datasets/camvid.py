"""CamVid street scenes as the SegNet tutorial packs them: `test/NAME.png|jpg`, `testannot/NAME.png`, 11 classes."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from spic.datasets import names
from spic.datasets.images import Preparation, evenly_spread
from spic.datasets.pictures import FLOAT64, Stretched, UnreadableImage, opened
from spic.errors import SpicError

CLASSES = names.CAMVID
UNSCORED = len(CLASSES)
PICTURE_SIZE = (360, 480)
# What the network sees: the last row and column are repeated once. The dilated DeepLabV3 wants 8k + 1 pixels: the cells of
# its feature then lie on corners and edges alike, else every answer is half a cell (4 pixels) off, 2 points of mean IoU.
IMAGE_SIZE = (361, 481)
_RIM = tuple((0, full - own) for full, own in zip(IMAGE_SIZE, PICTURE_SIZE))


@dataclass(frozen=True)
class WholePicture(Stretched, Preparation):
    """Any photo as an input of the street networks: all of it, stretched."""


PREPARATION = WholePicture(interpolation="bicubic", rounding=FLOAT64, height=IMAGE_SIZE[0], width=IMAGE_SIZE[1])


class CamVid(Dataset):
    """Items are (image float32 [3, 361, 481], labels int64 [361, 481]); label 11, and so the rim, is not scored."""

    labelled = True
    num_classes = len(CLASSES)
    class_names = CLASSES
    image_size = IMAGE_SIZE
    preparation = PREPARATION

    def __init__(self, root: Path, split: str = "test", limit: int | None = None):
        folder = root / split
        files = os.listdir(folder) if folder.is_dir() else ()
        found = sorted(name for name in files if name.lower().endswith(IMG_EXTENSIONS))
        if not found:
            raise SpicError(f"no pictures in {folder}; expected CamVid as the SegNet tutorial packs it: "
                            f"{split}/ and {split}annot/ (README, Real photos)")
        self.paths = [str(folder / name) for name in evenly_spread(found, limit)]
        self._labels = root / f"{split}annot"

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, index: int) -> np.ndarray:
        """The network's input before normalisation: uint8 [361, 481, 3]."""
        path = self.paths[index]
        with opened(path) as image:
            _check_size(path, image)
            return np.pad(image.convert("RGB"), (*_RIM, (0, 0)), mode="edge")

    def label(self, index: int) -> torch.Tensor:
        """int64 [361, 481]."""
        path = self._labels / f"{Path(self.paths[index]).stem}.png"
        if not path.is_file():
            raise UnreadableImage(f"cannot read the labels {path} (no such file); each picture needs one")
        with opened(path) as image:
            _check_size(path, image)
            labels = np.array(image, dtype=np.int64)
        if labels.ndim != 2:
            raise UnreadableImage(f"{path} has shape {labels.shape}, expected {PICTURE_SIZE} class numbers")
        return torch.from_numpy(np.pad(labels, _RIM, constant_values=UNSCORED))

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return PREPARATION.normalise(self.pixels(index)), self.label(index)


def _check_size(path: str | os.PathLike, image: Image.Image) -> None:
    """By the header, before anything is decoded."""
    if image.size != PICTURE_SIZE[::-1]:
        raise UnreadableImage(f"{path} is {image.size[0]}x{image.size[1]} pixels, CamVid has 480x360")


def open(valdir: str | os.PathLike, limit: int | None = None, split: str = "test") -> CamVid:
    """The 233 test pictures (or ``train``, ``val``) in `valdir`."""
    return CamVid(Path(valdir), split, limit)
