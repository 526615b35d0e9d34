"""What all data sets share: reading a picture safely, what a network takes of it, even subsets."""
from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from spic.errors import SpicError

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, for RGB in 0..1
STD = (0.229, 0.224, 0.225)

JPEG_QUALITY = 75  # at which a picture is compared with what crosses instead of it
MOST_PIXELS = 2 ** 26  # 8192 x 8192; a picture takes 4 bytes a pixel while it is decoded
MOST_ASPECT = 50  # longer side by shorter side: scaling the shorter one to 513 pixels then makes at most 13 million
SIXTEEN_BIT_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


# Pillow warns of pictures half as large as it refuses; check_size refuses them, too, and in one line
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnreadableImage(SpicError):
    """A picture that cannot be decoded, or is none that a network could take."""


# ---- reading ---------------------------------------------------------------------------------------------------


def check_size(name: str | os.PathLike, width: int, height: int) -> None:
    """Refuse a picture by its size, before anything is decoded, scaled or allocated."""
    shorter, longer = sorted((width, height))
    if shorter < 1 or width * height > MOST_PIXELS:
        raise UnreadableImage(f"{name} is {width}x{height} pixels, and a picture may have 1 to {MOST_PIXELS}; "
                              "scale it down, or remove it")
    if longer > MOST_ASPECT * shorter:
        raise UnreadableImage(f"{name} is {width}x{height} pixels, and a picture may be at most {MOST_ASPECT} times as long "
                              "as it is wide; crop it, or remove it")


@contextmanager
def opened(path: str | os.PathLike | io.BytesIO, formats: Sequence[str] | None = None) -> Iterator[Image.Image]:
    """The picture file with its header read and its size checked; an error in the block is one line that names the file.

    formats: the only ones tried, by Pillow's names; None for all it knows.

    Pillow meets damaged files with a dozen kinds of exceptions (struct.error, EOFError, IndexError ...), so all count.
    """
    try:
        with Image.open(path, formats=formats) as image:
            check_size(path, *image.size)
            yield image
    except UnreadableImage:
        raise
    except Exception as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise UnreadableImage(f"cannot read the image {path} ({why or type(error).__name__}); replace or remove the "
                              "file") from error


def read_rgb(path: str | os.PathLike | io.BytesIO, formats: Sequence[str] | None = None) -> Image.Image:
    """The picture as RGB, whatever it is stored as; UnreadableImage names the file. formats: see ``opened``."""
    with opened(path, formats) as image:
        # Pillow's own conversion would clip 16-bit and floating-point values at 255
        return Image.fromarray(to_rgb8(image)) if image.mode in (*SIXTEEN_BIT_MODES, "F") else image.convert("RGB")


def to_rgb8(image: Image.Image | np.ndarray) -> np.ndarray:
    """PIL image or array (grey, RGB, with alpha, CMYK, palette; 8 or 16 bits) → uint8 [H, W, 3].

    Alpha is dropped and not blended, as torchvision's image loader does, so that every curve of a figure sees the
    same picture. 16-bit values are scaled by 255/65535; Pillow's own conversion would clip them at 255.
    """
    if isinstance(image, np.ndarray):
        return _array_to_rgb8(image)
    if image.mode in SIXTEEN_BIT_MODES:
        return _array_to_rgb8(np.asarray(image).clip(0, 65535).astype(np.uint16))
    if image.mode == "F":
        raise SpicError("a floating-point picture (mode F) has no known range: convert it to 8 or 16 bits first")
    return _array_to_rgb8(np.asarray(image.convert("RGB")))


def _array_to_rgb8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint16:
        array = ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if array.dtype != np.uint8:
        raise SpicError(f"a picture must be 8 or 16 bits a sample, not {array.dtype}")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or 0 in array.shape:
        raise SpicError(f"a picture must be [height, width] or [height, width, 1 to 4 channels], not {array.shape}")
    colours = array[..., :1] if array.shape[2] < 3 else array[..., :3]
    return np.ascontiguousarray(np.broadcast_to(colours, (*array.shape[:2], 3)))


def jpeg_bytes(pixels: np.ndarray, quality: int = JPEG_QUALITY) -> int:
    """Length of the picture uint8 [H, W, 3] as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.tell()


# ---- what a network takes --------------------------------------------------------------------------------------

# (x / 255 - mean) / std has three roundings in use, which differ in the last bit of float32. Scores and trained weights
# are recorded with each, so none of them may replace another:
#   FLOAT32  all of it in float32, as torchvision's ToTensor and Normalize: classification, and rivals of both tasks
#   FLOAT64  mean and std in float64, rounded to float32 after each step, as the published segmentation loader
#   SCALED   x - 255 mean, by 255 std, in float32: what augments pictures in memory, for x that are no whole numbers
FLOAT32, FLOAT64, SCALED = "float32", "float64", "scaled"


def normalise(pixels: np.ndarray | Tensor, mean: tuple = MEAN, std: tuple = STD, rounding: str = FLOAT32) -> Tensor:
    """Pixels in 0..255 → what a network takes: float32 [3, H, W], or [B, 3, H, W] in channels-last memory.

    Arrays are [H, W, 3] or [B, H, W, 3], as pictures are stored; tensors [3, H, W] or [B, 3, H, W], of any number type.
    """
    images = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels)).movedim(-1, -3)
    wide = torch.float64 if rounding == FLOAT64 else torch.float32
    mean, std = (torch.tensor(values, dtype=wide).view(3, 1, 1).to(images.device) for values in (mean, std))
    if rounding == SCALED:
        images = (images.float() - 255 * mean) / (255 * std)
    else:
        images = images.float().div(255).sub_(mean).div_(std)
    return images.contiguous(memory_format=torch.channels_last if images.ndim == 4 else torch.contiguous_format)


@dataclass(frozen=True)
class Preparation:
    """How any photo becomes an input of one network; the default is the published one of classification.

    The shorter side is scaled to ``resize`` pixels, the centre ``crop`` x ``crop`` cut out, and ``mean`` and ``std`` (of
    RGB in 0..1) taken out. ``interpolation``: nearest, bilinear, bicubic, lanczos ..., as torchvision and timm name them.
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    rounding: str = FLOAT32

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= 4096 or not 1 <= self.resize <= 4096:
            raise SpicError(f"a network's input of {self.crop} pixels out of {self.resize}: both must be 1 to 4096")
        if self.interpolation not in {mode.value for mode in InterpolationMode}:
            raise SpicError(f"unknown interpolation {self.interpolation!r}; choose from "
                            f"{', '.join(mode.value for mode in InterpolationMode)}")

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the network's input."""
        return self.crop, self.crop

    def sized(self, side: int) -> Preparation:
        """The same way of preparing a photo, for an input of ``side`` x ``side`` pixels."""
        return replace(self, resize=round(self.resize * side / self.crop), crop=side)

    def geometry(self, image: Image.Image, interpolation: str | None = None) -> Image.Image:
        """Scaled and cropped; ``interpolation`` instead of the photo's own, for masks."""
        mode = InterpolationMode(interpolation or self.interpolation)
        return transforms.CenterCrop(self.crop)(transforms.Resize(self.resize, mode)(image))

    def pixels(self, image: Image.Image) -> np.ndarray:
        """An RGB photo → the network's input before normalisation: uint8 [H, W, 3]."""
        return np.asarray(self.geometry(image))

    def normalise(self, pixels: np.ndarray) -> Tensor:
        """uint8 [H, W, 3] or [B, H, W, 3] → the network's input, float32 [3, H, W] or [B, 3, H, W]."""
        return normalise(pixels, self.mean, self.std, self.rounding)

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB photo → the network's input: float32 [3, H, W]."""
        return self.normalise(self.pixels(image))


# ---- subsets ---------------------------------------------------------------------------------------------------


def evenly_spread(items: list, limit: int | None) -> list:
    """`limit` of the items at even distances, the same ones each time; all of them without a limit."""
    if limit is None or limit >= len(items):
        return list(items)
    if limit < 1:
        raise SpicError(f"the limit must be at least 1 image, not {limit}")
    return [items[position] for position in np.arange(limit) * len(items) // limit]
