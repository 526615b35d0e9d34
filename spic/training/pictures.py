"""Pictures held in memory as uint8, decoded once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from spic.errors import SpicError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclass(frozen=True)
class Pictures:
    """uint8 images [3, H, W] of any sizes with their targets: a label [] or a mask [H, W]."""

    images: list[Tensor]
    targets: list[Tensor]

    def __len__(self) -> int:
        return len(self.images)


def shorter_side(image: Image.Image, size: int | None, resample=Image.Resampling.BILINEAR) -> Image.Image:
    """``image`` scaled so that its shorter side is ``size`` pixels; None leaves it as it is."""
    if size is None or min(image.size) == size:
        return image
    width, height = image.size
    scale = size / min(width, height)
    return image.resize((max(size, int(width * scale)), max(size, int(height * scale))), resample)


def read_image(path: Path, size: int | None = None) -> Tensor:
    """A picture file -> uint8 [3, H, W], its shorter side scaled to ``size``."""
    try:
        with Image.open(path) as image:
            scaled = shorter_side(image.convert("RGB"), size)
    except Exception as error:  # Pillow raises anything on damaged files
        raise SpicError(f"{path}: not a readable image ({error}); remove or replace it") from None
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1).contiguous()


def read_images(paths: list[Path], size: int | None, what: str) -> list[Tensor]:
    """All pictures of a list, decoded by threads under a progress bar."""
    with ThreadPoolExecutor() as pool:
        return list(tqdm(pool.map(lambda path: read_image(path, size), paths), what, len(paths), unit="image"))


def image_files(folder: Path) -> list[Path]:
    """Every picture below a folder, nested or flat, sorted."""
    if not folder.is_dir():
        raise SpicError(f"{folder}: no such folder; give one that holds pictures")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    if not files:
        raise SpicError(f"{folder}: holds no picture ({', '.join(sorted(SUFFIXES))})")
    return files


def class_folders(folder: Path, size: int | None) -> Pictures:
    """An ImageNet-style folder; the label is the rank of the class folder's name."""
    files = image_files(folder)
    classes = sorted({path.relative_to(folder).parts[0] for path in files if path.parent != folder})
    if len(classes) < 2:
        raise SpicError(f"{folder}: holds {len(classes)} class folders; training needs <class>/<picture>.jpg")
    files = [path for path in files if path.parent != folder]
    labels = [torch.tensor(classes.index(path.relative_to(folder).parts[0])) for path in files]
    return Pictures(read_images(files, size, f"reading {folder.name}"), labels)
