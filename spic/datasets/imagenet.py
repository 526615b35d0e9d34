"""ImageNet-style folders: one sub-folder per class, named by the class; for ImageNet by its WordNet id."""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Sequence

import numpy as np
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from spic.datasets.images import Preparation, evenly_spread
from spic.datasets.pictures import read_rgb
from spic.datasets.names import WORDNET_IDS, readable
from spic.errors import SpicError

PREPARATION = Preparation()  # as published: 224 pixels out of 256

IMAGENETTE_CLASSES = ("n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
                      "n03394916", "n03417042", "n03425413", "n03445777", "n03888257")
IMAGENETTE_SIZE = 160  # the shorter side in the public 160 px download
IMAGENETTE_PREPARATION = Preparation(IMAGENETTE_SIZE, IMAGENETTE_SIZE)


class ClassFolders(Dataset):
    """Pictures under `folder/<class name>/`, nested or not: items are (network input, class number).

    The number is the name's place in `classes`, so a folder with only some of the classes is labelled rightly.
    `paths` and `labels` list the items in order of class and name; `class_names[c]` is class c in English.
    `transform`: what becomes of the RGB picture; `preparation`, unless someone asks for it otherwise.
    """

    labelled = True

    def __init__(self, folder: Path, classes: Sequence[str] = WORDNET_IDS, limit: int | None = None,
                 preparation: Preparation = PREPARATION):
        self.classes, self.num_classes = tuple(classes), len(classes)
        self.preparation, self.image_size = preparation, preparation.image_size
        self.transform = preparation
        samples = [(path, label) for label, name in enumerate(classes) for path in pictures(folder / name)]
        if not samples:
            raise SpicError(f"the class folders in {folder} hold no pictures; expected files such as NAME.jpg in them")
        samples = evenly_spread(samples, limit)
        self.paths = [path for path, _ in samples]
        self.labels = [label for _, label in samples]

    @property
    def class_names(self) -> tuple[str, ...]:
        return readable(self.classes)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        return self.transform(read_rgb(self.paths[index])), self.labels[index]

    def pixels(self, index: int) -> np.ndarray:
        """The network's input before normalisation: uint8 [H, W, 3]."""
        return self.preparation.pixels(read_rgb(self.paths[index]))

    def label(self, index: int) -> int:
        return self.labels[index]


def pictures(folder: Path) -> list[str]:
    """All picture files in a folder and the folders in it, in order of their paths; other files are passed over."""
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names
                  if name.lower().endswith(IMG_EXTENSIONS))


def sub_folders(folder: Path) -> list[str]:
    """Names of the folders right in ``folder``, sorted."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as error:
        raise SpicError(f"cannot read the data folder {folder} ({error.strerror})") from error


def _class_root(folder: Path, classes: Sequence[str], split: str) -> Path:
    """`folder`, or its sub-folder `split`, whichever has class folders; unknown sub-folders are named on stderr."""
    known = set(classes)
    for root in (folder, folder / split):
        found = sub_folders(root) if root == folder or root.is_dir() else []
        unknown = [name for name in found if name not in known]
        if len(unknown) < len(found):
            if unknown:
                print(f"note: {len(unknown)} folders in {root} are no known class and are left out: "
                      f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}", file=sys.stderr)
            return root
    raise SpicError(f"no known class in {folder}: expected sub-folders named like {classes[0]} ({len(classes)} "
                    f"classes), there or in {split}/, with the pictures of each class inside")


def open(valdir: str | os.PathLike, limit: int | None = None, classes: Sequence[str] = WORDNET_IDS,
         split: str = "val", preparation: Preparation = PREPARATION) -> ClassFolders:
    """The data set in `valdir` (the class folders themselves, or a parent with `<split>/`); `limit`: an even subset."""
    return ClassFolders(_class_root(Path(valdir), classes, split), classes, limit, preparation)


def open_imagenette(valdir: str | os.PathLike, limit: int | None = None, split: str = "val") -> ClassFolders:
    """Imagenette (ten ImageNet classes) at 160 pixels."""
    return open(valdir, limit, IMAGENETTE_CLASSES, split, IMAGENETTE_PREPARATION)
