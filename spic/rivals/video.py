"""HEVC and AV1 as still-picture codecs: one intra-coded picture through PyAV's libx265 and SVT-AV1.

What is sent is the raw elementary stream (HEVC: Annex B; AV1: low-overhead units), which a file format would only make
longer, behind two bytes that say how many columns and rows to cut off: 4:2:0 needs even sizes, and x265 at
least 16 by 16. The picture is padded by repeating its edge.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from spic.rivals.anatomy import Anatomist, Parts
from spic.rivals.inputs import check_quality, check_rgb8
from spic.errors import SpicError

LEAST_SIDE = 16
CUT_BYTES = 2
TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]],
                    np.float32)  # as in JFIF
TO_RGB = np.linalg.inv(TO_YCBCR)


@cache
def _av() -> Any:
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 reads it once: errors only, not a banner per picture
    try:
        import av
    except ImportError:
        raise SpicError("PyAV is not installed: pip install av") from None
    av.logging.set_level(av.logging.ERROR)
    return av


def hevc_options(quality: int) -> dict[str, str]:
    # aq-mode 1 spends bits on texture and dark parts alike: on photographs a network wants it (docs/rivals.md);
    # info 0: no encoder banner in the stream
    fixed = "aq-mode=1:keyint=1:info=0:annexb=1:pools=none:frame-threads=1:wpp=0:log-level=none"
    return {"preset": "slow", "tune": "ssim", "x265-params": f"crf={quality}:{fixed}"}


def hevc_constant_options(quality: int) -> dict[str, str]:
    # ipratio 1: x265 would take a lower QP for an intra picture than the one it is told
    fixed = "aq-mode=0:ipratio=1:keyint=1:info=0:annexb=1:pools=none:frame-threads=1:wpp=0:log-level=none"
    return {"preset": "slow", "x265-params": f"qp={quality}:{fixed}"}


def av1_options(quality: int) -> dict[str, str]:
    return {"preset": "5", "crf": str(quality), "svtav1-params": "tune=3:lp=1:avif=1"}  # 3: image quality, as libavif's


def rgb_to_planes(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3], H and W even → uint8 [H·3/2, W]: Y over Cb over Cr, full-range BT.601, chroma averaged.

    Rounded once, at the end: Pillow's own conversion cuts off fractions, a bias of a level on every channel.
    """
    luma, *chroma = TO_YCBCR @ image.reshape(-1, 3).T.astype(np.float32)
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    planes = [luma, *(128 + plane.reshape(rows, 2, columns, 2).mean((1, 3)) for plane in chroma)]
    return _bytes(np.concatenate([plane.ravel() for plane in planes])).reshape(-1, image.shape[1])


def planes_to_rgb(planes: np.ndarray) -> np.ndarray:
    """The way back; chroma is interpolated linearly between its centres, as JPEG decoders do."""
    width, height = planes.shape[1], planes.shape[0] * 2 // 3
    chroma = planes[height:].reshape(2, height // 2, width // 2).astype(np.float32) - 128
    full = [Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR) for plane in chroma]
    return _bytes(np.stack([np.ravel(plane) for plane in (planes[:height], *full)], -1) @ TO_RGB.T).reshape(height, width, 3)


def rgb_to_full(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] → uint8 [3, H, W]: Y, Cb and Cr at full resolution."""
    planes = TO_YCBCR @ image.reshape(-1, 3).T.astype(np.float32)
    planes[1:] += 128
    return _bytes(planes).reshape(3, *image.shape[:2])


def full_to_rgb(planes: np.ndarray) -> np.ndarray:
    values = planes.reshape(3, -1).astype(np.float32)
    values[1:] -= 128
    return _bytes(values.T @ TO_RGB.T).reshape(*planes.shape[1:], 3)


FORMATS = {"4:2:0": ("yuv420p", rgb_to_planes, planes_to_rgb), "4:4:4": ("yuv444p", rgb_to_full, full_to_rgb)}
"""Chroma → FFmpeg's name, from RGB, and back."""


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def pad_even(image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Edge-repeated to even sides of at least LEAST_SIDE; also (rows, columns) added."""
    added = tuple(max(LEAST_SIDE, side + side % 2) - side for side in image.shape[:2])
    return np.pad(image, ((0, added[0]), (0, added[1]), (0, 0)), mode="edge"), added


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """SVT-AV1, run as root, gives the calling thread the highest realtime priority for good: take it back."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


@dataclass(frozen=True)
class VideoCodec:
    """`encoder` is FFmpeg's encoder name, `decoder` its decoder's. Higher qualities cost fewer bits here."""

    name: str
    encoder: str
    decoder: str
    quality_name: str
    quality_range: tuple[int, int]
    sweep: tuple[int, ...]
    settings: str
    options: Callable[[int], dict[str, str]] = field(repr=False)
    anatomist: Anatomist = field(repr=False)
    chroma: str = "4:2:0"  # one of FORMATS
    holds_gil: bool = False

    def version(self) -> str:
        """PyAV and its libraries; SpicError when PyAV or the encoder or decoder is absent."""
        av = _av()
        for role, mode in ((self.encoder, "w"), (self.decoder, "r")):
            try:
                av.codec.Codec(role, mode)
            except ValueError:
                raise SpicError(f"{self.name}: this PyAV ({av.__version__}) was built without {role}") from None
        from av import library_versions

        libavcodec = ".".join(map(str, library_versions["libavcodec"]))
        return f"{self.encoder} (PyAV {av.__version__}, libavcodec {libavcodec})"

    def encode(self, image: np.ndarray, quality: int) -> bytes:
        quality = check_quality(self, quality)
        padded, (rows, columns) = pad_even(check_rgb8(image))
        return bytes([columns, rows]) + self.encode_planes(FORMATS[self.chroma][1](padded), quality)

    def write(self, picture: Image.Image, quality: int) -> bytes:
        """A picture of any mode."""
        return self.encode(np.array(picture.convert("RGB")), quality)

    def encode_planes(self, planes: np.ndarray, quality: int) -> bytes:
        """uint8 planes, [H·3/2, W] or at 4:4:4 [3, H, W] → elementary stream."""
        av = _av()
        context = av.CodecContext.create(self.encoder, "w")
        height = planes.shape[1] if planes.ndim == 3 else planes.shape[0] * 2 // 3
        context.width, context.height = planes.shape[-1], height
        context.pix_fmt, context.thread_count = FORMATS[self.chroma][0], 1
        context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
        context.options = self.options(quality)
        frame = av.VideoFrame.from_ndarray(planes, format=context.pix_fmt)
        frame.pts = 0
        with ordinary_priority():
            return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])

    def decode(self, data: bytes) -> np.ndarray:
        columns, rows = data[:CUT_BYTES]
        image = FORMATS[self.chroma][2](self.decode_planes(data[CUT_BYTES:]))
        return image[: image.shape[0] - rows, : image.shape[1] - columns]

    def decode_planes(self, stream: bytes) -> np.ndarray:
        av = _av()
        context = av.CodecContext.create(self.decoder, "r")
        context.thread_count = 1
        frames = [*context.decode(av.Packet(stream)), *context.decode(None)]
        return frames[0].to_ndarray(format=FORMATS[self.chroma][0])

    def parts(self, data: bytes) -> Parts:
        payload, header, container = self.anatomist(data[CUT_BYTES:])
        return Parts(payload, header, container + CUT_BYTES)
