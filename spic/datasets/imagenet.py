"""ImageNet-style folders: one sub-folder per class, named by the class; for ImageNet by its WordNet id."""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.datasets.folder import IMG_EXTENSIONS

from spic.datasets.images import MEAN, STD, evenly_spread, read_rgb
from spic.errors import SpicError

RESIZE, CROP = 256, 224  # as published
# The 1000 WordNet ids in the class order of the ImageNet challenge 2012 (and of torchvision's weights).
WORDNET_IDS = tuple(Path(__file__).with_name("imagenet_wnids.txt").read_text().split())

IMAGENETTE_CLASSES = ("n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
                      "n03394916", "n03417042", "n03425413", "n03445777", "n03888257")
IMAGENETTE_SIZE = 160


def geometry(resize: int = RESIZE, crop: int = CROP) -> Callable:
    """Shorter side to ``resize``, centre crop: PIL image -> PIL image of crop x crop."""
    return transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(crop)])


def normalisation() -> Callable:
    """PIL image -> float32 [3, H, W] with ImageNet's mean and deviation."""
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


class ClassFolders(Dataset):
    """Pictures under `folder/<class name>/`, nested or not: items are (transformed picture, class number).

    The number is the name's place in `classes`, so a folder with only some of the classes is labelled rightly.
    `paths` and `labels` list the items in order of class and name.
    """

    def __init__(self, folder: Path, classes: Sequence[str] = WORDNET_IDS, limit: int | None = None,
                 transform: Callable | None = None, resize: int = RESIZE, crop: int = CROP):
        self.num_classes = len(classes)
        self.image_size = (crop, crop)
        self._geometry = geometry(resize, crop)
        self.transform = transform or transforms.Compose([self._geometry, normalisation()])
        samples = [(path, label) for label, name in enumerate(classes) for path in _pictures(folder / name)]
        if not samples:
            raise SpicError(f"the class folders in {folder} hold no pictures; expected files such as NAME.jpg in them")
        samples = evenly_spread(samples, limit)
        self.paths = [path for path, _ in samples]
        self.labels = [label for _, label in samples]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        return self.transform(read_rgb(self.paths[index])), self.labels[index]

    def pixels(self, index: int) -> np.ndarray:
        """The network's input before normalisation: uint8 [H, W, 3]."""
        return np.asarray(self._geometry(read_rgb(self.paths[index])))

    def label(self, index: int) -> int:
        return self.labels[index]


def _pictures(folder: Path) -> list[str]:
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names
                  if name.lower().endswith(IMG_EXTENSIONS))


def _sub_folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as error:
        raise SpicError(f"cannot read the data folder {folder} ({error.strerror})") from error


def _class_root(folder: Path, classes: Sequence[str], split: str) -> Path:
    """`folder`, or its sub-folder `split`, whichever has class folders; unknown sub-folders are named on stderr."""
    known = set(classes)
    for root in (folder, folder / split):
        found = _sub_folders(root) if root == folder or root.is_dir() else []
        unknown = [name for name in found if name not in known]
        if len(unknown) < len(found):
            if unknown:
                print(f"note: {len(unknown)} folders in {root} are no known class and are left out: "
                      f"{', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}", file=sys.stderr)
            return root
    raise SpicError(f"no known class in {folder}: expected sub-folders named like {classes[0]} ({len(classes)} "
                    f"classes), there or in {split}/, with the pictures of each class inside")


def open(valdir: str | os.PathLike, limit: int | None = None, classes: Sequence[str] = WORDNET_IDS,
         split: str = "val", transform: Callable | None = None, resize: int = RESIZE, crop: int = CROP) -> ClassFolders:
    """The data set in `valdir` (the class folders themselves, or a parent with `<split>/`); `limit`: an even subset."""
    return ClassFolders(_class_root(Path(valdir), classes, split), classes, limit, transform, resize, crop)


def open_imagenette(valdir: str | os.PathLike | None, limit: int | None = None, split: str = "val") -> ClassFolders:
    """Imagenette (ten ImageNet classes) at 160 pixels, its shorter side in the public 160 px download."""
    if valdir is None:
        raise SpicError("imagenette: say where the pictures are with --valdir DIR (README, Real photos)")
    return open(valdir, limit, IMAGENETTE_CLASSES, split, resize=IMAGENETTE_SIZE, crop=IMAGENETTE_SIZE)
