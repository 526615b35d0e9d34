"""Rivals on the same data and network: image → codec → image → uncompressed network, over a sweep of qualities.

    rival = PixelRival(dataset, network)
    records = sweep(rival, benchmark, find_codecs()[0], ResultCache(folder))

The codec sees the network's input crop (uint8, before normalisation), so that bits per pixel are per input pixel, as
for the split points. Every picture is really decoded, and the network sees what came out. Each finished point is kept
on disk with one row per image, so that an interrupted sweep goes on and a second figure costs nothing.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from spic.costs import latency
from spic.datasets.images import normalise
from spic.evaluate import plain_columns
from spic.files import sha256
from spic.networks.cost import cost
from spic.networks.weights import fingerprint
from spic.record import Costs, Record
from spic.report import write_csv
from spic.rivals.anatomy import Parts
from spic.rivals.cache import ResultCache, code_id, dataset_id
from spic.rivals.workers import Passage, Workers
from spic.tasks import TASKS, Metric

LATENCY_IMAGES = 6


@dataclass
class PixelRival:
    """The codec carries the picture; the whole network runs behind it.

    dataset: `len`, `pixels(i)` → uint8 [H, W, 3], `label(i)` → int or integer [H, W].
    network: float [B, 3, H, W] → logits. normalise: uint8 [B, H, W, 3] → what the network takes.
    """

    dataset: Any
    network: nn.Module
    device: torch.device = torch.device("cpu")
    normalise: Callable[[np.ndarray], Tensor] = field(default=normalise, kw_only=True)
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
        return self.network(self.normalise(np.stack(received)).to(self.device, memory_format=torch.channels_last))


@dataclass
class FeatureRival(PixelRival):
    """The codec carries the feature behind `front`, untrained; `back(feature)` answers."""

    front: Callable[[Tensor], Tensor] = None
    back: Callable[..., Tensor] = None
    split_point: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.identity += f"/{self.split_point}"
        self.image_size = self.dataset.pixels(0).shape[:2]

    def edge_cost(self) -> dict[str, int]:
        return cost(self.front, self.image_size)

    @torch.inference_mode()
    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        image = self.normalise(pixels[None])
        return self.front(image.to(self.device, memory_format=torch.channels_last))[0].float().cpu().numpy()

    def cloud(self, received: list[np.ndarray]) -> Tensor:
        return self.back(torch.from_numpy(np.stack(received)).to(self.device))


class Point(NamedTuple):
    """One codec at one quality. Codec None is the uncompressed network."""

    codec: Any
    quality: int | None

    @property
    def name(self) -> str:
        return f"{self.codec.name} {self.quality}" if self.codec else "uncompressed"


@dataclass
class Tally:
    """What one point adds up to: a row per image, and thread-seconds per stage."""

    metric: Metric
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
def run_point(rival: PixelRival, point: Point, metric: Metric, workers: Workers, batch_size: int, bar: tqdm) -> Tally:
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


def seconds_of_one(rival: PixelRival, point: Point) -> tuple[float, float]:
    """Median seconds of one picture on an otherwise idle machine: edge (encode), cloud (decode and network)."""
    def edge(pixels: np.ndarray) -> bytes | np.ndarray:
        prepared = rival.prepare(pixels)
        return point.codec.encode(prepared, point.quality) if point.codec else prepared

    def cloud(sent: bytes | np.ndarray) -> Tensor:
        return rival.cloud([point.codec.decode(sent) if point.codec else sent])

    pictures = range(min(LATENCY_IMAGES, len(rival.dataset)))
    return latency(edge, cloud, map(rival.dataset.pixels, pictures))


class Outcome(NamedTuple):
    """What is measured of a point, whatever codec it is: kept on disk with the row of every image."""

    images: int
    scores: dict[str, float]
    bytes_per_image: dict[str, float]  # payload, header, container
    seconds: dict[str, float]
    edge_seconds: float
    cloud_seconds: float
    rows: list[dict]


def _outcome(rival: PixelRival, point: Point, tally: Tally) -> Outcome:
    images = len(tally.rows)
    means = {part: sum(row[part] for row in tally.rows) / images for part in Parts._fields}
    return Outcome(images, tally.metric.result(), means, tally.seconds, *seconds_of_one(rival, point), tally.rows)


def sweep(rival: PixelRival, benchmark: Any, codecs: list[Any], cache: ResultCache,
          qualities: Mapping[str, Iterable[int]] | None = None, batch_size: int = 32, workers: int = 4,
          per_image: Path | None = None) -> list[Record]:
    """One record per codec and quality.

    benchmark: its ``task``, ``name`` and ``num_classes``. qualities: per codec name, instead of its own sweep. per_image:
    a folder that gets a file per point with a row per image, of the same columns as those of val.py.
    """
    qualities = qualities or {}
    points = [Point(codec, quality) for codec in codecs for quality in qualities.get(codec.name, codec.sweep)]
    costs = {f"edge_{key}": value for key, value in rival.edge_cost().items()}
    records = []
    with Workers(workers) as pool:
        plain = _cached(rival, Point(None, None), benchmark, cache, pool, batch_size)
        for number, point in enumerate(points, 1):
            found = _cached(rival, point, benchmark, cache, pool, batch_size, f"{number}/{len(points)} ")
            record = _record(rival, benchmark, point, found, plain.scores, costs)
            records.append(record if per_image is None else _keep_rows(rival, record, found, plain, per_image))
    return records


def _keep_rows(rival: PixelRival, record: Record, found: Outcome, plain: Outcome, folder: Path) -> Record:
    """The record, with a mark of the file that now holds its rows."""
    names = getattr(rival.dataset, "paths", range(len(found.rows)))
    where = f"{record.split_point}-{record.codec}" if record.split_point else record.codec
    path = folder / f"{where}_{record.quality}.csv"
    write_csv(path, [_row(record.task, str(name), own, alone) for name, own, alone in zip(names, found.rows, plain.rows)])
    return dataclasses.replace(record, more={**record.more, "per_image": sha256(path)})


def _row(task: str, name: str, own: dict, plain: dict) -> dict:
    scores = {key: value for key, value in own.items() if key not in Parts._fields}
    return {"image": name, **scores, "payload_bytes": own["payload"], "frame_bytes": sum(own[part] for part in Parts._fields),
            **plain_columns(task, plain)}


def _record(rival: PixelRival, benchmark: Any, point: Point, found: Outcome, baseline: dict, costs: dict) -> Record:
    codec, mean = point.codec, found.bytes_per_image
    return Record(
        benchmark.task, benchmark.name, found.images, found.scores, baseline, bpp=8 * mean["payload"] / rival.pixels,
        bpp_wire=8 * sum(mean.values()) / rival.pixels, bytes_per_image=mean["payload"], device=str(rival.device),
        split_point=getattr(rival, "split_point", None), codec=codec.name, quality=point.quality,
        quality_name=codec.quality_name, chroma=codec.chroma, settings=codec.settings, seconds=found.seconds,
        versions={codec.name: codec.version()},
        more={"header_bytes_per_image": mean["header"], "container_bytes_per_image": mean["container"]},
        costs=Costs(**costs, edge_seconds=found.edge_seconds, cloud_seconds=found.cloud_seconds))


def _cached(rival: PixelRival, point: Point, benchmark: Any, cache: ResultCache, pool: Workers, batch_size: int,
            position: str = "") -> Outcome:
    coded = (point.codec.name, point.codec.settings, point.codec.version(), point.quality) if point.codec else ()
    key = (code_id(), str(rival.device), rival.identity, *coded)
    content = cache.read(point.name, key, Outcome._fields)
    if content is not None:
        return Outcome(**content)
    metric = TASKS[benchmark.task].metric(benchmark.num_classes)
    with tqdm(total=len(rival.dataset), unit="img", desc=position + point.name, dynamic_ncols=True) as bar:
        outcome = _outcome(rival, point, run_point(rival, point, metric, pool, batch_size, bar))
    cache.write(point.name, key, outcome._asdict())
    return outcome
