"""A picture without torch: reading it safely, and what a network takes of it, in Pillow and numpy alone.

The edge prepares its pictures with this, and so does everything with torch (images.py): both see the same pixels.
"""
from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
from PIL import Image

from spic.errors import SpicError

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, for RGB in 0..1
STD = (0.229, 0.224, 0.225)

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


# ---- what a network takes --------------------------------------------------------------------------------------

# (x / 255 - mean) / std has three roundings in use, which differ in the last bit of float32. Scores and trained weights
# are recorded with each, so none of them may replace another:
#   FLOAT32  all of it in float32, as torchvision's ToTensor and Normalize: classification, and rivals of both tasks
#   FLOAT64  mean and std in float64, rounded to float32 after each step, as the published segmentation loader
#   SCALED   x - 255 mean, by 255 std, in float32: what augments pictures in memory, for x that are no whole numbers
FLOAT32, FLOAT64, SCALED = "float32", "float64", "scaled"
FILTERS = {"nearest": Image.Resampling.NEAREST, "nearest-exact": Image.Resampling.NEAREST, "box": Image.Resampling.BOX,
           "bilinear": Image.Resampling.BILINEAR, "hamming": Image.Resampling.HAMMING, "bicubic": Image.Resampling.BICUBIC,
           "lanczos": Image.Resampling.LANCZOS}
"""Ways to scale a picture, as torchvision and timm name them."""
MOST_SIDE = 4096


@dataclass(frozen=True)
class NumpyPreparation:
    """How any photo becomes an input of one network; the default is the published one of classification.

    The shorter side is scaled to ``resize`` pixels, the centre ``crop`` x ``crop`` cut out, and ``mean`` and ``std`` (of
    RGB in 0..1) taken out, rounded as ``rounding`` says (FLOAT32 or FLOAT64). ``interpolation``: one of FILTERS.
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    rounding: str = FLOAT32

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= MOST_SIDE or not 1 <= self.resize <= MOST_SIDE:
            raise SpicError(f"a network's input of {self.crop} pixels out of {self.resize}: both must be 1 to {MOST_SIDE}")
        if self.interpolation not in FILTERS:
            raise SpicError(f"unknown interpolation {self.interpolation!r}; choose from {', '.join(FILTERS)}")

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the network's input."""
        return self.crop, self.crop

    def sized(self, side: int):
        """The same way of preparing a photo, for an input of ``side`` x ``side`` pixels."""
        return replace(self, resize=round(self.resize * side / self.crop), crop=side)

    def geometry(self, image: Image.Image, interpolation: str | None = None) -> Image.Image:
        """Scaled and cropped; ``interpolation`` instead of the photo's own, for masks.

        Every pixel is that of torchvision's Resize and CenterCrop: the longer side is rounded down, the crop's corner half
        to even, and what a crop larger than the picture does not find is black.
        """
        shorter, longer = sorted(image.size)
        sides = (self.resize, int(self.resize * longer / shorter))
        scaled = image.resize(sides if image.width <= image.height else sides[::-1],
                              FILTERS[interpolation or self.interpolation])
        left, top = (round((side - self.crop) / 2) if side >= self.crop else -((self.crop - side) // 2)
                     for side in scaled.size)
        return scaled.crop((left, top, left + self.crop, top + self.crop))

    def pixels(self, image: Image.Image) -> np.ndarray:
        """An RGB photo → the network's input before normalisation: uint8 [H, W, 3]."""
        return np.asarray(self.geometry(image))

    def array(self, image: Image.Image) -> np.ndarray:
        """An RGB photo → the network's input: float32 [3, H, W]."""
        return normalised(self.pixels(image), self.mean, self.std, self.rounding)

    def to_json(self) -> dict:
        """The preparation as a JSON object; ``preparation`` reads it back."""
        return {"kind": KIND_OF[_kind(self)], **asdict(self), "mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True)
class Stretched(NumpyPreparation):
    """All of a photo, whatever its shape, stretched to ``height`` x ``width``."""

    height: int = 0
    width: int = 0

    @property
    def image_size(self) -> tuple[int, int]:
        return self.height, self.width

    def geometry(self, image: Image.Image, interpolation: str | None = None) -> Image.Image:
        return image.resize((self.width, self.height), FILTERS[interpolation or self.interpolation])


KINDS = {"cropped": NumpyPreparation, "stretched": Stretched}
KIND_OF = {kind: name for name, kind in KINDS.items()}


def _kind(preparation: NumpyPreparation) -> type[NumpyPreparation]:
    """Which of KINDS it is, for those that only add tensors, too."""
    return next(kind for kind in reversed(KINDS.values()) if isinstance(preparation, kind))


def preparation(entry) -> NumpyPreparation:
    """What ``to_json`` gave; anything else is a SpicError."""
    kind = KINDS.get(entry.get("kind")) if isinstance(entry, dict) and isinstance(entry.get("kind"), str) else None
    given = {name: value for name, value in entry.items() if name != "kind"} if kind else {}
    if kind is None or set(given) != {field.name for field in fields(kind)} or not _valid(given):
        raise SpicError("no known way to prepare a picture")
    return kind(**given | {"mean": tuple(given["mean"]), "std": tuple(given["std"])})


def _valid(given: dict) -> bool:
    sides = all(isinstance(given[name], int) and 1 <= given[name] <= MOST_SIDE
                for name in ("resize", "crop", "height", "width") if name in given)
    numbers = all(isinstance(given[name], list) and len(given[name]) == 3
                  and all(isinstance(v, (int, float)) for v in given[name])
                  for name in ("mean", "std"))
    return sides and numbers and all(given["std"]) and isinstance(given["interpolation"], str) \
        and given["rounding"] in (FLOAT32, FLOAT64)


def normalised(pixels: np.ndarray, mean: tuple = MEAN, std: tuple = STD, rounding: str = FLOAT32) -> np.ndarray:
    """uint8 [H, W, 3] → float32 [3, H, W], each value that of ``images.normalise`` to the last bit."""
    wide = np.float64 if rounding == FLOAT64 else np.float32
    mean, std = (np.array(values, wide).reshape(3, 1, 1) for values in (mean, std))
    values = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
    centred = (values - mean).astype(np.float32)
    return (centred / std).astype(np.float32)
