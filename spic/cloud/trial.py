"""The page's "try it": an uploaded picture goes through the edge half here in the server, and its stream the usual way.

Only where the server was started with --try; else no edge is loaded and no picture is taken.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from spic.cloud.served import Served
from spic.datasets.pictures import UnreadableImage, read_rgb
from spic.errors import StreamError
from spic.pipeline import Edge

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
_EDGES = 4


class Trials:
    """Edges of the points served, loaded when they are first asked for; the last few are kept."""

    def __init__(self, served: Sequence[Served], weights: Path | None = None):
        device = served[0].cloud.device
        self._edge = lru_cache(_EDGES)(lambda one: Edge.load(one.point, one.header.coder, device, weights))

    @torch.inference_mode()
    def send(self, served: Served, data: bytes, kind: str) -> tuple[bytes, str]:
        """A picture file -> (its stream, the picture as the network sees it: base64 of a PNG). kind: one of FORMATS.

        StreamError for what is no such picture."""
        try:
            image = read_rgb(io.BytesIO(data), [FORMATS[kind]])
        except UnreadableImage:
            raise StreamError(f"no {FORMATS[kind]} picture that can be read, or too large or too narrow a one") from None
        edge, preparation = self._edge(served), served.benchmark.preparation
        pixels = preparation.pixels(image)
        edge.restart()
        sent = edge(preparation.normalise(pixels)[None].to(edge.device, memory_format=torch.channels_last))
        return b"".join([edge.header, *sent.frames, edge.close()]), _png(pixels)


def _png(pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
