"""The trivial rival: the edge runs the whole network and sends its answer, a label or a class for each pixel.

    records, missing = measure_answers(benchmark, valdir=DIR)

A label costs log2(classes) bits, or what a code for the network's own answers on training pictures needs for it. A map of
classes goes through PNG and lossless WebP, and the shorter file is sent. What arrives answers exactly as the uncompressed
network does, once, for this one question; what a feature is good for beside that is in docs/rivals.md.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from spic.benchmarks import Benchmark
from spic.commands import pick_device
from spic.costs import ready
from spic.errors import SpicError, StreamError
from spic.files import cache_root
from spic.networks.cost import cost
from spic.record import Record
from spic.rivals.anatomy import Parts, lossless_parts
from spic.rivals.cache import ResultCache
from spic.rivals.evaluate import PixelRival, sweep
from spic.rivals.inputs import check_quality, check_rgb8, normalisation

COUNTED = 500  # training pictures on which answers are counted
FIXED, COUNTS = 0, 1  # codes of a label
Answers = Callable[[np.ndarray], np.ndarray]
"""uint8 [H, W, 3] -> the network's class, int [], or classes, int [H, W]."""


@dataclass(frozen=True)
class LabelCodec:
    """A label in whole bytes, of which the bits of its code count as payload.

    seen: int [classes, classes], how often a label was answered (rows) when another was true (columns), on training
    pictures; without any, every label costs the same. What arrives is a row of scores: log of how probable each class is,
    given the label.
    """

    answers: Answers = field(repr=False)
    seen: np.ndarray = field(repr=False)
    code: int = FIXED
    name: str = "label"
    quality_name: str = "code"
    quality_range: tuple[int, int] = (FIXED, COUNTS)
    chroma: str = "none"
    holds_gil: bool = False

    @property
    def sweep(self) -> tuple[int, ...]:
        return (self.code,)

    @property
    def settings(self) -> str:
        pictures = int(self.seen.sum())
        return f"code 0: log2({len(self.seen)}) bits; code 1: by the answers on {pictures} training pictures"

    def version(self) -> str:
        return "of this project"

    @property
    def _bytes(self) -> int:
        return math.ceil(max(self.bits(label) for label in range(len(self.seen))) / 8)

    def encode(self, image: np.ndarray, quality: int) -> bytes:
        check_quality(self, quality)
        return int(self.answers(check_rgb8(image))).to_bytes(self._bytes, "big")

    def label(self, data: bytes) -> int:
        """StreamError for bytes that are no label."""
        label = int.from_bytes(data, "big")
        if len(data) != self._bytes or label >= len(self.seen):
            raise StreamError(f"label: {data[:8].hex()} is none of {len(self.seen)} classes")
        return label

    def decode(self, data: bytes) -> np.ndarray:
        label = self.label(data)
        scores = np.log((self.seen[label] + 1) / (self.seen[label].sum() + len(self.seen)))
        scores[label] = scores.max() + 1  # the answer stays the answer
        return scores.astype(np.float32)

    def bits(self, label: int) -> float:
        """Length of a label in the code, which an arithmetic coder reaches over many pictures."""
        if self.code == FIXED:
            return math.log2(len(self.seen))
        answered = self.seen.sum(1) + 1
        return float(-np.log2(answered[label] / answered.sum()))

    def parts(self, data: bytes) -> Parts:
        payload = self.bits(self.label(data)) / 8
        return Parts(payload, 0, len(data) - payload)


@dataclass(frozen=True)
class ClassMapCodec:
    """A class for each pixel, without loss; what arrives is the map."""

    answers: Answers = field(repr=False)
    classes: int
    name: str = "classmap"
    quality_name: str = "none"
    quality_range: tuple[int, int] = (0, 0)
    sweep: tuple[int, ...] = (0,)
    settings: str = "without loss, PNG or WebP, whichever is shorter"
    chroma: str = "none"
    holds_gil: bool = False

    def version(self) -> str:
        return f"Pillow {PIL.__version__}"

    def encode(self, image: np.ndarray, quality: int) -> bytes:
        check_quality(self, quality)
        return shortest(self.answers(check_rgb8(image)), self.classes)

    def decode(self, data: bytes) -> np.ndarray:
        return read_map(data, self.classes)

    def parts(self, data: bytes) -> Parts:
        return lossless_parts(data)


def shortest(classes: np.ndarray, count: int) -> bytes:
    """int [H, W] of classes below ``count``, at most 256 -> the shorter of a PNG and a lossless WebP file."""
    if count > 256 or classes.ndim != 2:
        raise SpicError(f"a map of {count} classes and shape {classes.shape}: 256 classes at most, one for each pixel")
    grey = classes.astype(np.uint8)
    indexed = Image.fromarray(grey, "L").convert("P")
    indexed.putpalette([level for level in range(count) for _ in range(3)])  # as many bits a pixel as the palette needs
    return min(_saved(indexed, "PNG", optimize=True),
               _saved(Image.fromarray(np.stack([grey] * 3, -1)), "WEBP", lossless=True, quality=100, method=6), key=len)


def _saved(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def read_map(data: bytes, count: int) -> np.ndarray:
    """uint8 [H, W]; StreamError for bytes that ``shortest`` did not make."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "WEBP"]) as picture:
            pixels = np.array(picture)
    except Exception as error:  # Pillow has a dozen kinds for damaged files
        raise StreamError(f"not a map of classes ({error})") from None
    classes = pixels if pixels.ndim == 2 else pixels[..., 1]
    if classes.max(initial=0) >= count:
        raise StreamError(f"a map with class {classes.max()} of {count}")
    return classes


@dataclass
class AnswerRival(PixelRival):
    """The edge runs the network; what its answer says is scored as it arrives."""

    classes: int = 0

    def edge_cost(self) -> dict[str, int]:
        return cost(self.network, tuple(self.dataset.pixels(0).shape[:2]))

    def cloud(self, received: list[np.ndarray]) -> Tensor:
        if received[0].ndim == 3:  # pictures that no codec touched: the uncompressed network's turn
            return super().cloud(received)
        answers = torch.from_numpy(np.stack(received))
        if answers.ndim == 2:  # scores of labels
            return answers
        return F.one_hot(answers.long(), self.classes).permute(0, 3, 1, 2).float()


def measure_answers(benchmark: Benchmark, *, valdir: Path | None = None, limit: int | None = None,
                    backbone_weights: Path | None = None, gpu: bool = False, cache: Path | None = None, batch_size: int = 16,
                    workers: int = 2, per_image: Path | None = None) -> tuple[list[Record], dict[str, str]]:
    """The records of what sends the answer, of a benchmark's task; nothing can be missing. Options as of measure_rivals."""
    device, dataset = pick_device(gpu), benchmark.open_data(valdir, limit)
    network, normalise = ready(benchmark, dataset.image_size, device, backbone_weights), normalisation(benchmark)
    rival = AnswerRival(dataset, network, device, normalise=normalise, classes=benchmark.num_classes)

    @torch.inference_mode()
    def answers(image: np.ndarray) -> np.ndarray:
        return PixelRival.cloud(rival, [image]).argmax(1)[0].cpu().numpy()

    codecs = _codecs(benchmark, answers, valdir, getattr(dataset, "paths", ()))
    rival.identity += "/" + " ".join(str(getattr(codec, "seen", np.zeros(1)).tobytes()) for codec in codecs)
    store = ResultCache(cache or cache_root() / "rivals")
    return sweep(rival, benchmark, codecs, store, None, batch_size, workers, per_image), {}


def _codecs(benchmark: Benchmark, answers: Answers, data: Path | None, tested: Sequence) -> list:
    if benchmark.task == "segmentation":
        return [ClassMapCodec(answers, benchmark.num_classes)]
    seen = count_answers(benchmark, answers, data, tested)
    return [LabelCodec(answers, seen, code) for code in (FIXED, *([COUNTS] if seen.any() else []))]


def count_answers(benchmark: Benchmark, answers: Answers, data: Path | None, tested: Sequence) -> np.ndarray:
    """int [classes, classes]: answered (rows) and true (columns) labels of training pictures.

    Zeros where there are none, none with labels, or none but those that are ``tested`` on (paths).
    """
    seen = np.zeros((benchmark.num_classes, benchmark.num_classes), np.int64)
    if benchmark.source is not None:
        try:
            pictures = benchmark.source.open(data, benchmark.source.bottlenecks, COUNTED)
        except SpicError:  # a folder that holds nothing to learn from is no mistake here
            return seen
        if pictures.label(0) is None or not {*map(str, tested)}.isdisjoint(map(str, getattr(pictures, "paths", ()))):
            return seen
        for index in range(len(pictures)):
            seen[int(answers(pictures.pixels(index))), int(pictures.label(index))] += 1
    return seen
