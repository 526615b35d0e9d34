"""Rivals on the same data and network: image → codec → image → uncompressed network, over a sweep of qualities.

    rival = PixelRival(dataset, network)
    reports = sweep(rival, find_codecs()[0], lambda: TopK(1000), describe, ResultCache(folder))

The codec sees the network's input crop (uint8, before normalisation), so that bits per pixel are per input pixel, as
for the split points. Every picture is really decoded, and the network sees what came out. Each finished point is kept
on disk with one row per image, so that an interrupted sweep goes on and a second figure costs nothing.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from spic.rivals.anatomy import Parts
from spic.rivals.results import ResultCache, code_id, dataset_id
from spic.rivals.workers import Passage, Workers, transmit
from spic.datasets.images import normalise
from spic.networks.cost import cost
from spic.networks.weights import fingerprint

LATENCY_IMAGES = 5


@dataclass
class PixelRival:
    """The codec carries the picture; the whole network runs behind it.

    dataset: `len`, `pixels(i)` → uint8 [H, W, 3], `label(i)` → int or integer [H, W].
    network: normalised float [B, 3, H, W] → logits.
    """

    dataset: Any
    network: nn.Module
    device: torch.device = torch.device("cpu")
    identity: str = field(init=False)
    pixels: int = field(init=False)

    def __post_init__(self) -> None:
        self.identity = f"{dataset_id(self.dataset)}/{fingerprint(self.network)}"
        self.pixels = int(np.prod(self.dataset.pixels(0).shape[:2]))

    def edge(self, index: int) -> np.ndarray:
        """What the codec takes, of image `index`."""
        return self.prepare(self.dataset.pixels(index))

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        return pixels

    def edge_cost(self) -> dict[str, int]:
        """The edge runs no network."""
        return {"parameters": 0, "macs": 0}

    def cloud(self, received: list[np.ndarray]) -> Tensor:
        return self.network(normalise(np.stack(received)).to(self.device, memory_format=torch.channels_last))


@dataclass
class FeatureRival(PixelRival):
    """The codec carries the feature behind `front`, untrained; `back(feature, image_size)` answers."""

    front: Callable[[Tensor], Tensor] = None
    back: Callable[..., Tensor] = None
    split_point: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.identity += f"/{self.split_point}"
        self.image_size = self.dataset.pixels(0).shape[:2]

    def edge_cost(self) -> dict[str, int]:
        return cost(self.front, self.image_size)

    @torch.inference_mode()
    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        image = normalise(pixels[None])
        return self.front(image.to(self.device, memory_format=torch.channels_last))[0].float().cpu().numpy()

    def cloud(self, received: list[np.ndarray]) -> Tensor:
        return self.back(torch.from_numpy(np.stack(received)).to(self.device), tuple(self.image_size))


class Point(NamedTuple):
    """One codec at one quality. Codec None is the uncompressed network."""

    codec: Any
    quality: int | None

    @property
    def name(self) -> str:
        return f"{self.codec.name} {self.quality}" if self.codec else "uncompressed"


@dataclass
class Tally:
    """What one point adds up to: a row per image, and thread-seconds per station."""

    metric: Any
    rows: list[dict] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict(encode=0.0, decode=0.0, network=0.0))

    def count(self, passages: list[Passage], scores: list[dict] | None) -> None:
        for passage, score in zip(passages, scores or [{}] * len(passages)):
            self.rows.append({**score, **passage.parts._asdict()})
            self.seconds["encode"] += passage.encode_seconds
            self.seconds["decode"] += passage.decode_seconds


def _ahead(items: Iterable[Any], submit: Callable[[Any], Any], depth: int) -> Iterator[Any]:
    """Results in order, with at most `depth` jobs under way, so that memory stays flat."""
    waiting: deque = deque()
    for item in items:
        waiting.append(submit(item))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _targets(dataset: Any, indices: range) -> Tensor:
    return torch.as_tensor(np.stack([np.asarray(dataset.label(index)) for index in indices])).long()


@torch.inference_mode()
def run_point(rival: PixelRival, point: Point, metric: Any, workers: Workers, batch_size: int, bar: tqdm) -> Tally:
    """Every image of the data set through one point; the last partial batch counts."""
    tally, start = Tally(metric), 0
    jobs = _ahead(range(len(rival.dataset)), lambda index: workers.submit(rival.edge, index, *point), 2 * batch_size)
    for passages in _chunks(jobs, batch_size):
        indices = range(start, start + len(passages))
        began = time.perf_counter()
        outputs = rival.cloud([passage.received for passage in passages]).float().cpu()
        tally.seconds["network"] += time.perf_counter() - began
        tally.count(passages, metric.update(outputs, _targets(rival.dataset, indices)))
        start += len(passages)
        bar.update(len(passages))
    return tally


@torch.inference_mode()
def latency(rival: PixelRival, point: Point) -> dict[str, float]:
    """Median seconds of one image on an otherwise idle machine: edge (encode) and cloud (decode and network)."""
    edge, cloud = [], []
    for index in range(min(LATENCY_IMAGES, len(rival.dataset))):
        pixels = rival.dataset.pixels(index)
        began = time.perf_counter()
        passage = transmit(point.codec, point.quality, rival.prepare(pixels))
        edge.append(time.perf_counter() - began - passage.decode_seconds)
        began = time.perf_counter()
        rival.cloud([passage.received])
        cloud.append(time.perf_counter() - began + passage.decode_seconds)
    return {"edge_seconds": statistics.median(edge), "cloud_seconds": statistics.median(cloud)}


def _record(rival: PixelRival, point: Point, tally: Tally) -> dict[str, Any]:
    """What is kept of a point: sums in units of the reports, and the row of every image."""
    images, totals = len(tally.rows), [sum(row[part] for row in tally.rows) for part in Parts._fields]
    payload, header, container = (total / images for total in totals)
    return {
        "images": images, **tally.metric.result(),
        "bpp": 8 * payload / rival.pixels, "bpp_wire": 8 * sum(totals) / images / rival.pixels,
        "bytes_per_image": payload, "header_bytes_per_image": header,
        "container_bytes_per_image": container, "seconds": tally.seconds, **latency(rival, point), "rows": tally.rows,
    }


def _describe(codec: Any, quality: int, split_point: str) -> dict[str, Any]:
    return {"codec": codec.name, "quality": quality, "quality_name": codec.quality_name, "chroma": codec.chroma,
            "settings": codec.settings, "versions": {codec.name: codec.version()},
            **({"split_point": split_point} if split_point else {})}


def sweep(rival: PixelRival, codecs: list[Any], metric: Callable[[], Any], about: dict[str, Any], cache: ResultCache,
          qualities: dict[str, Iterable[int]] | None = None, batch_size: int = 32, workers: int = 4) -> list[dict]:
    """One report per codec and quality, in the keys of val.py's report and more.

    about: what all reports say alike (task, benchmark, device). qualities: per codec name, instead of its own sweep.
    """
    qualities = qualities or {}
    points = [Point(codec, quality) for codec in codecs for quality in qualities.get(codec.name, codec.sweep)]
    about = {**about, **{f"edge_{key}": value for key, value in rival.edge_cost().items()}}
    reports = []
    with Workers(workers) as pool:
        plain = _cached(rival, Point(None, None), metric, cache, pool, batch_size)
        baseline = {f"baseline_{key}": plain[key] for key in ("top1", "top5", "miou") if key in plain}
        for number, point in enumerate(points, 1):
            record = _cached(rival, point, metric, cache, pool, batch_size, f"{number}/{len(points)} ")
            described = _describe(point.codec, point.quality, getattr(rival, "split_point", ""))
            reports.append({**about, **described, **{k: v for k, v in record.items() if k != "rows"}, **baseline})
    return reports


def _cached(rival: PixelRival, point: Point, metric: Callable[[], Any], cache: ResultCache, pool: Workers,
            batch_size: int, position: str = "") -> dict[str, Any]:
    coded = (point.codec.name, point.codec.settings, point.codec.version(), point.quality) if point.codec else ()
    key = (code_id(), str(rival.device), rival.identity, *coded)
    record = cache.read(point.name, key)
    if record is None:
        with tqdm(total=len(rival.dataset), unit="img", desc=position + point.name, dynamic_ncols=True) as bar:
            record = _record(rival, point, run_point(rival, point, metric(), pool, batch_size, bar))
        cache.write(point.name, key, record)
    return record
