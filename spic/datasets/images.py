"""What both kinds of data set share: reading a picture, the published normalisation, even subsets."""
from __future__ import annotations

import os

import numpy as np
from PIL import Image

from spic.baselines.inputs import SIXTEEN_BIT_MODES, to_rgb8
from spic.errors import SpicError

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, for RGB in 0..1
STD = (0.229, 0.224, 0.225)


class UnreadableImage(SpicError):
    """A picture that cannot be decoded.

    A DataLoader raises a worker's exception anew from "Caught ... Original Traceback ..." as its only argument; this
    class keeps just the last line of such a text, so that the message stays the one line that was written here.
    """

    def __init__(self, message: str):
        if message.startswith("Caught "):
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(message)


def read_rgb(path: str | os.PathLike) -> Image.Image:
    """The picture as RGB, whatever it is stored as; UnreadableImage names the file."""
    try:
        with Image.open(path) as image:
            # Pillow's own conversion would clip 16-bit values at 255
            return Image.fromarray(to_rgb8(image)) if image.mode in SIXTEEN_BIT_MODES else image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise UnreadableImage(f"cannot read the image {path} ({reason}); replace or remove the file") from error


def evenly_spread(items: list, limit: int | None) -> list:
    """`limit` of the items at even distances, the same ones each time; all of them without a limit."""
    if limit is None or limit >= len(items):
        return list(items)
    if limit < 1:
        raise SpicError(f"the limit must be at least 1 image, not {limit}")
    return [items[position] for position in np.arange(limit) * len(items) // limit]
