"""Data set x (Edge, Cloud) -> Report; the only loop.

Several operating points run in one pass: the network is cut at each of their split points, its stations run once per
batch, and each point branches off where its bottleneck sits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from spic.benchmarks import Benchmark
from spic.errors import SpicError
from spic.metrics import METRICS
from spic.networks import cut_many
from spic.networks.split import depth, module_path
from spic.parallel import rank_slice, sum_over_ranks
from spic.pipeline import Cloud, Edge, Stopwatch, make_halves
from spic.points import OperatingPoint


@dataclass
class Road:
    """One operating point on its way through a data set: its two machines and what was counted so far."""

    point: OperatingPoint
    edge: Edge
    cloud: Cloud
    metric: object
    pixels: int
    images: int = 0
    payload_bytes: int = 0
    frame_bytes: int = 0
    escapes: int = 0
    uncoded_values: int = 0
    bound_bits: float = 0.0
    rows: list[dict] = field(default_factory=list)

    def travel(self, feature, targets, names) -> None:
        """One batch: edge -> frames -> cloud -> metric. What is scored comes from the decoded bytes alone."""
        sent = self.edge.send(feature)
        received = self.cloud.receive(sent.frames, sent.uncoded)
        if not torch.equal(sent.symbols.cpu(), received.symbols.cpu()):
            raise SpicError(f"{self.point.name}: decoded symbols differ from the encoded ones; please report this as a bug")
        self._count(sent, names, self.metric.update(received.logits, targets))

    def _count(self, sent, names, scores: list[dict]) -> None:
        table = self.edge.table
        escapes = [table.count_escapes(symbols) for symbols in sent.symbols.cpu()]
        self.images += len(names)
        self.payload_bytes += sum(sent.payload_bytes)
        self.frame_bytes += sum(map(len, sent.frames))
        self.escapes += sum(escapes)
        self.uncoded_values += sum(tensor.numel() for tensor in sent.uncoded)
        self.bound_bits += table.cross_entropy(sent.symbols.cpu())
        for name, score, payload, frame, escaped in zip(names, scores, sent.payload_bytes, sent.frames, escapes):
            self.rows.append({"image": name, **score, "payload_bytes": payload, "frame_bytes": len(frame),
                              "escapes": escaped, "bpp": payload * 8 / self.pixels})

    def totals(self) -> torch.Tensor:
        """What adds up over processes, as float64 (exact for counts below 2^53)."""
        return torch.tensor([self.images, self.payload_bytes, self.frame_bytes, self.escapes, self.uncoded_values,
                             self.bound_bits], dtype=torch.float64)


@dataclass
class Station:
    """A stretch of the network up to a split point, the rest behind it, and the roads that branch off there."""

    front: nn.Module
    back: nn.Module
    roads: list[Road]


@dataclass(frozen=True)
class Settings:
    """How to run: nothing here changes what is computed, but for ``amp`` (bf16 arithmetic)."""

    coder: str = "huffman"
    device: torch.device = torch.device("cpu")
    batch_size: int = 32
    workers: int = 2
    amp: bool = False


def lay_roads(benchmark: Benchmark, network: nn.Module, points: list[OperatingPoint], image_size: tuple[int, int],
              settings: Settings) -> list[Station]:
    """Cut the network at every split point of ``points`` and put edge and cloud of each point in place."""
    groups: dict[str, list[OperatingPoint]] = {}
    for point in points:
        groups.setdefault(module_path(network, benchmark.cut_after(point)), []).append(point)
    paths = sorted(groups, key=lambda path: depth(network, path))
    fronts, backs = cut_many(network, paths)
    stations = []
    for path, front, back in zip(paths, fronts, backs):
        roads = [Road(point, *make_halves(point, front, back, image_size, settings.coder, settings.device),
                      METRICS[benchmark.task](benchmark.num_classes), image_size[0] * image_size[1])
                 for point in groups[path]]
        stations.append(Station(front, back, roads))
    return stations


@dataclass
class Outcome:
    """What ``evaluate`` returns: the roads with their counts, the uncompressed network's metric, seconds per stage."""

    roads: list[Road]
    baseline: object
    watch: Stopwatch


@torch.inference_mode()
def evaluate(stations: list[Station], dataset: Dataset, metric, settings: Settings) -> Outcome:
    """Run every road over the data set once; every image counts, the last partial batch too."""
    watch = Stopwatch(settings.device)
    roads = [road for station in stations for road in station.roads]
    for road in roads:
        road.edge.watch = road.cloud.watch = Stopwatch(settings.device)
    for images, targets, names in _batches(dataset, settings):
        with torch.autocast(settings.device.type, torch.bfloat16, enabled=settings.amp):
            _pass(stations, images, targets, names, metric, watch)
    sum_over_ranks(roads, metric)
    return Outcome(roads, metric, watch)


def _pass(stations: list[Station], images, targets, names, metric, watch: Stopwatch) -> None:
    feature = images
    for station in stations:
        with watch("front"):
            feature = station.front(feature)
        for road in station.roads:
            road.travel(feature, targets, names)
    with watch("baseline"):
        logits = stations[-1].back(feature, tuple(images.shape[-2:]))
    metric.update(logits.float(), targets)


def _batches(dataset: Dataset, settings: Settings) -> Iterator[tuple]:
    """Batches (images on the device, targets, names) of this process's share, behind a progress bar in images."""
    indices = rank_slice(len(dataset))
    loader = DataLoader(torch.utils.data.Subset(dataset, indices), settings.batch_size, shuffle=False, drop_last=False,
                        num_workers=settings.workers, pin_memory=settings.device.type == "cuda",
                        persistent_workers=False)
    start = 0
    with tqdm(total=len(indices), unit="img", desc="evaluate", dynamic_ncols=True) as bar:
        for images, targets in loader:
            images = images.to(settings.device, memory_format=torch.channels_last, non_blocking=True)
            names = [dataset.paths[i] for i in indices[start:start + len(images)]]
            yield images, targets, names
            start += len(images)
            bar.update(len(images))
