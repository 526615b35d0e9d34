"""A user's own pictures for any network: class folders where they tell the answers, else just pictures."""
from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from spic.datasets.imagenet import ClassFolders, pictures, sub_folders
from spic.datasets.images import Preparation, evenly_spread
from spic.datasets.pictures import read_rgb
from spic.datasets.names import WORDNET_IDS
from spic.errors import SpicError


class Unlabelled(Dataset):
    """Any folder of pictures, nested or flat: items are network inputs, float32 [3, H, W], and nothing else is read.

    left_out: patterns of file names that do not count; ``passed_over``: how many files that were.
    """

    labelled = False
    class_names = None
    num_classes = None

    def __init__(self, folder: Path, preparation: Preparation, limit: int | None = None, left_out: Sequence[str] = ()):
        if not folder.is_dir():
            raise SpicError(f"{folder}: no such folder; --data names one that holds pictures")
        there = pictures(folder)
        found = sorted(path for path in map(Path, there) if not any(path.match(pattern) for pattern in left_out))
        self.passed_over = len(there) - len(found)
        if not found:
            raise SpicError(f"{folder}: holds no picture ({' '.join(IMG_EXTENSIONS)})")
        self.paths = evenly_spread(found, limit)
        self.preparation, self.image_size = preparation, preparation.image_size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.preparation(read_rgb(self.paths[index]))

    def pixels(self, index: int) -> np.ndarray:
        """The network's input before normalisation: uint8 [H, W, 3]."""
        return self.preparation.pixels(read_rgb(self.paths[index]))

    def label(self, index: int) -> None:
        """No answer is known."""


def open_folder(path: str | os.PathLike, preparation: Preparation, num_classes: int | None, limit: int | None = None,
                split: str = "val") -> ClassFolders | Unlabelled:
    """The pictures in `path`, or in its `<split>/`, for a network of `num_classes` classes.

    Labelled by sub-folders named by WordNet ids where the network has 1000 classes, else by exactly `num_classes`
    sub-folders, the first in sorted order being class 0; unlabelled where there is neither, with a note if that may be a
    slip. A network that does not classify (None) takes them unlabelled.
    """
    path = Path(path)
    roots = [root for root in (path, path / split) if root.is_dir()] if num_classes else []
    for root in roots:
        if classes := _classes(sub_folders(root), num_classes):
            return ClassFolders(root, classes, limit, preparation)
    for root in roots[-1:]:
        if found := len(sub_folders(root)):
            print(f"note: {root} has {found} sub-folders and the network {num_classes} classes, so its pictures count as "
                  "unlabelled", file=sys.stderr)
    return Unlabelled(path, preparation, limit)


def _classes(found: list[str], num_classes: int) -> tuple[str, ...] | None:
    """The name of each class of the network where sub-folders of these names tell it."""
    if num_classes == len(WORDNET_IDS) and set(found) & set(WORDNET_IDS):
        return WORDNET_IDS
    return tuple(found) if len(found) == num_classes else None
