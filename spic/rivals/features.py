"""Plain feature compression, what people try first: the split feature itself, untrained, through a stock coder.

    codec = FEATURE_CODECS["zlib"]
    data = codec.encode(feature, quality=8)     # feature: float [C, h, w] of one image; 8 bits a value
    codec.decode(data)                          # float32 [C, h, w]

zlib and zstd take values rounded to 1 to 8 bits; jpeg-tiles, webp-tiles and hevc-tiles lay the channels out as one grey
8-bit picture.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Callable

import numpy as np
from PIL import Image

from spic.rivals.anatomy import Parts
from spic.rivals.codecs import CODECS
from spic.rivals.inputs import check_quality
from spic.errors import SpicError, StreamError

HEADER = struct.Struct("<HHHBff")  # channels, height, width, quality, least and greatest value
MAX_VALUES = 1 << 24  # about twice the largest feature here, 2048×65×65


@cache
def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise SpicError("zstandard is not installed: pip install zstandard") from None
    return zstandard


def pack_zlib(levels: np.ndarray, bits: int) -> bytes:
    return zlib.compress(levels.tobytes(), 9)


def unpack_zlib(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    return np.frombuffer(zlib.decompressobj().decompress(data, math.prod(shape)), np.uint8).reshape(shape)


def pack_zstd(levels: np.ndarray, bits: int) -> bytes:
    return _zstandard().ZstdCompressor(level=19, write_content_size=False).compress(levels.tobytes())


def unpack_zstd(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    values = _zstandard().ZstdDecompressor().decompress(data, max_output_size=math.prod(shape))
    return np.frombuffer(values, np.uint8).reshape(shape)


def tile(levels: np.ndarray) -> np.ndarray:
    """[C, h, w] → one picture of about as many rows as columns of tiles; empty places are zero."""
    channels, height, width = levels.shape
    columns = math.ceil(math.sqrt(channels * height / width))
    rows = math.ceil(channels / columns)
    grid = np.zeros((rows * columns, height, width), levels.dtype)
    grid[:channels] = levels
    return grid.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def untile(picture: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    channels, height, width = shape
    rows, columns = picture.shape[0] // height, picture.shape[1] // width
    return picture.reshape(rows, height, columns, width).swapaxes(1, 2).reshape(-1, height, width)[:channels]


def _as_picture(codec: str) -> tuple[Callable[..., bytes], Callable[..., np.ndarray]]:
    inner = CODECS[codec]

    def pack(levels: np.ndarray, quality: int) -> bytes:
        return inner.write(Image.fromarray(tile(levels)), quality)

    def unpack(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
        return untile(inner.decode(data)[..., 1], shape)

    return pack, unpack


@dataclass(frozen=True)
class FeatureCodec:
    """`bits` tells how many bits a value is rounded to at a quality; `pack` and `unpack` carry uint8 [C, h, w]."""

    name: str
    quality_name: str
    quality_range: tuple[int, int]
    sweep: tuple[int, ...]
    settings: str
    pack: Callable[[np.ndarray, int], bytes] = field(repr=False)
    unpack: Callable[[bytes, tuple[int, int, int]], np.ndarray] = field(repr=False)
    package: Callable[[], str] = field(repr=False)
    bits: Callable[[int], int] = field(repr=False, default=lambda quality: 8)
    chroma: str = "none"
    holds_gil: bool = False

    def version(self) -> str:
        """Library and version; SpicError when it is not installed."""
        return self.package()

    def encode(self, feature: np.ndarray, quality: int) -> bytes:
        quality = check_quality(self, quality)
        if feature.ndim != 3 or not np.isfinite(feature).all():
            raise SpicError(f"{self.name}: a feature is a finite [channels, height, width] array, not {feature.shape}")
        low, high = np.float32(feature.min()), np.float32(feature.max())
        scale = ((1 << self.bits(quality)) - 1) / (high - low) if high > low else 0.0
        levels = np.rint((feature - low) * scale).astype(np.uint8)
        return HEADER.pack(*feature.shape, quality, low, high) + self.pack(levels, quality)

    def decode(self, data: bytes) -> np.ndarray:
        """StreamError for bytes that `encode` did not make."""
        try:
            *shape, quality, low, high = HEADER.unpack_from(data)
            levels = (1 << self.bits(check_quality(self, quality))) - 1
            if not 0 < math.prod(shape) <= MAX_VALUES:
                raise StreamError(f"{self.name}: no network here makes a feature of shape {tuple(shape)}")
            values = self.unpack(data[HEADER.size :], tuple(shape)).astype(np.float32)
        except StreamError:
            raise
        except Exception as error:  # every library has its own for damaged data
            raise StreamError(f"{self.name}: not a coded feature ({error})") from None
        return values * np.float32((high - low) / levels) + np.float32(low)

    def parts(self, data: bytes) -> Parts:
        return Parts(len(data) - HEADER.size, HEADER.size, 0)


def _tiled(codec: str, sweep: tuple[int, ...], name: str | None = None) -> FeatureCodec:
    inner = CODECS[codec]
    settings = f"8 bits a value, channels tiled to one grey picture, {inner.settings}"
    return FeatureCodec(name or f"{codec}-tiles", inner.quality_name, inner.quality_range, sweep, settings,
                        *_as_picture(codec), inner.version)


FEATURE_CODECS: dict[str, FeatureCodec] = {
    codec.name: codec
    for codec in (
        FeatureCodec("zlib", "bits", (1, 8), (2, 3, 4, 6, 8), "level 9", pack_zlib, unpack_zlib,
                     lambda: f"zlib {zlib.ZLIB_VERSION}", bits=int),
        FeatureCodec("zstd", "bits", (1, 8), (2, 3, 4, 6, 8), "level 19", pack_zstd, unpack_zstd,
                     lambda: f"zstandard {_zstandard().__version__}", bits=int),
        _tiled("jpeg", (5, 10, 20, 40, 75)),
        _tiled("webp", (0, 10, 25, 50, 80)),
        # as MPEG codes features (its common test conditions for them take an intra video codec at constant QP)
        _tiled("hevc-qp", (45, 39, 33, 27, 21), "hevc-tiles"),
    )
}
