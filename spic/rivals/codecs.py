"""Picture codecs as rivals: one signature, uint8 [H, W, 3] → bytes → uint8 [H, W, 3], over a range of qualities.

    codec = CODECS["webp"]
    data = codec.encode(image, quality=30)
    codec.parts(data)          # payload, header and container bytes
    codec.decode(data)

JPEG, WebP, JPEG 2000 and AVIF come from Pillow, HEVC and AV1 from PyAV (video.py); each also at reduced resolution
(reduced.py, ``jpeg@50``), some with other settings (``hevc-444``, ``hevc-qp``). A build may lack some of them:
`find_codecs` says which, and why.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Iterable, Mapping

import numpy as np
import PIL
from PIL import Image, features

from spic.rivals import anatomy
from spic.rivals.anatomy import Anatomist, Parts
from spic.rivals.inputs import check_quality, check_rgb8
from spic.rivals.reduced import MARK, PERCENTS, Reduced
from spic.rivals.video import VideoCodec, av1_options, hevc_constant_options, hevc_options
from spic.errors import SpicError


@dataclass(frozen=True)
class PillowCodec:
    """A still-picture codec of Pillow. `options` maps a quality to keywords of Image.save."""

    name: str
    format: str
    feature: str  # the name under which PIL.features knows the library behind it
    chroma: str
    quality_name: str
    quality_range: tuple[int, int]
    sweep: tuple[int, ...]
    settings: str  # what is set beside the quality, for reports and cache keys
    options: Callable[[int], dict[str, Any]] = field(repr=False)
    anatomist: Anatomist = field(repr=False)
    holds_gil: bool = False  # threads do not help it: processes do

    def version(self) -> str:
        """Library and version; SpicError when this Pillow was built without it."""
        if not features.check(self.feature):
            raise SpicError(f"{self.name}: this Pillow ({PIL.__version__}) was built without {self.feature}")
        turbo = features.version("libjpeg_turbo") if self.feature == "jpg" else None
        library = f"libjpeg-turbo {turbo}" if turbo else f"{self.feature} {features.version(self.feature)}"
        return f"{library} (Pillow {PIL.__version__})"

    def encode(self, image: np.ndarray, quality: int) -> bytes:
        return self.write(Image.fromarray(check_rgb8(image)), quality)

    def write(self, picture: Image.Image, quality: int) -> bytes:
        """A picture of any mode that the format knows."""
        buffer = io.BytesIO()
        picture.save(buffer, self.format, **self.options(check_quality(self, quality)))
        return buffer.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data), formats=[self.format]) as image:
            return np.array(image.convert("RGB"))

    def parts(self, data: bytes) -> Parts:
        return self.anatomist(data)


Codec = PillowCodec | VideoCodec | Reduced


def _jpeg2000(decibel: int) -> dict[str, Any]:
    # Pillow leaves mct off by default: red, green and blue would each pay for the same edges
    return dict(no_jp2=True, irreversible=True, mct=1, quality_mode="dB", quality_layers=[decibel])


def _avif(quality: int, subsampling: str = "4:2:0") -> dict[str, Any]:
    return dict(quality=quality, speed=6, subsampling=subsampling, max_threads=1)


_AVIF = PillowCodec("avif", "AVIF", "avif", "4:2:0", "quality", (0, 100), (24, 38, 54, 70), "speed 6, libavif's own tune",
                    _avif, anatomy.avif_parts)
_HEVC = VideoCodec("hevc", "libx265", "hevc", "CRF", (0, 51), (41, 36, 31, 26),
                   "one intra picture, preset slow, tune ssim, aq-mode 1", hevc_options, anatomy.hevc_parts)
PLAIN: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        PillowCodec(
            "jpeg", "JPEG", "jpg", "4:2:0", "quality", (1, 100), (10, 18, 30, 50),
            "baseline, optimised Huffman tables",
            lambda quality: dict(quality=quality, subsampling="4:2:0", optimize=True), anatomy.jpeg_parts,
        ),
        PillowCodec(
            "webp", "WEBP", "webp", "4:2:0", "quality", (0, 100), (15, 50, 75, 92),
            "lossy, method 6", lambda quality: dict(quality=quality, method=6), anatomy.webp_parts,
        ),
        PillowCodec(
            "jpeg2000", "JPEG2000", "jpg_2000", "4:4:4", "PSNR in dB", (10, 60), (30, 35, 38, 41),
            "raw codestream, 9/7 wavelet, irreversible colour transform (ICT), one layer of the given PSNR",
            _jpeg2000, anatomy.jpeg2000_parts, holds_gil=True,
        ),
        _AVIF,
        _HEVC,
        VideoCodec(
            "av1", "libsvtav1", "libdav1d", "CRF", (1, 63), (50, 42, 33, 22),
            "one intra picture, preset 5, tune 3 (image quality)", av1_options, anatomy.av1_parts,
        ),
    )
}

OTHERWISE: dict[str, Codec] = {
    codec.name: codec for codec in (
        # SVT-AV1 has no 4:4:4, libavif's encoder of the same format has
        replace(_AVIF, name="avif-444", chroma="4:4:4", options=lambda quality: _avif(quality, "4:4:4")),
        replace(_HEVC, name="hevc-444", chroma="4:4:4"),
        replace(_HEVC, name="hevc-qp", quality_name="QP", sweep=(40, 35, 30, 25), options=hevc_constant_options,
                settings="one intra picture, preset slow, constant QP"),
    )
}
"""Codecs set otherwise, where that may cost fewer bits."""
_SWEEPS_REDUCED = {  # towards higher qualities, as resolution is lost; at 75 and at 50 percent of each side
    "jpeg": ((18, 30, 50, 75), (30, 50, 75, 90)), "webp": ((50, 75, 92), (75, 92, 98)),
    "jpeg2000": ((35, 38, 41), (38, 41, 44)), "avif": ((38, 54, 70), (54, 70, 85)), "hevc": ((36, 31, 26), (31, 26, 20)),
    "av1": ((42, 33, 22), (33, 22, 14))}
REDUCED = {codec.name: codec for codec in (
    Reduced(PLAIN[name], percent, sweep) for name, sweeps in _SWEEPS_REDUCED.items() for percent, sweep in zip(PERCENTS, sweeps))}
CODECS: dict[str, Codec] = {**PLAIN, **OTHERWISE, **REDUCED}
"""Every rival on the picture. Codecs of one family (``family``) are points of one curve: each at its best counts."""


def family(name: str) -> str:
    """The plain codec that a name is a variant of: hevc of hevc-qp and of hevc@50; of any other name, itself."""
    plain = name.partition(MARK)[0]
    return plain.partition("-")[0] if plain in OTHERWISE else plain


def find_codecs(names: Iterable[str] | None = None, among: Mapping[str, Any] = CODECS) -> tuple[list, dict[str, str]]:
    """The codecs that work here, and for each that does not, the reason. An unknown name is a SpicError."""
    present: list = []
    missing: dict[str, str] = {}
    for name in among if names is None else names:
        if name not in among:
            raise SpicError(f"unknown codec {name!r}: choose from {', '.join(among)}")
        try:
            among[name].version()
        except SpicError as reason:
            missing[name] = str(reason)
        else:
            present.append(among[name])
    return present, missing
