"""Data set x (Edge, Cloud) -> Report; the only loop.

Several operating points run in one pass: the network is cut at each of their split points, its stations run once per
batch, and each point branches off where its bottleneck sits.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from spic import parallel
from spic.benchmarks import Benchmark
from spic.datasets.loading import batches
from spic.errors import SpicError
from spic.metrics import METRICS
from spic.networks import cut_many
from spic.networks.split import depth, module_path
from spic.pipeline import Cloud, Edge, Stopwatch, make_halves
from spic.points import OperatingPoint

TOTALS = ("images", "payload_bytes", "wire_bytes", "escapes", "uncoded_values", "bound_bits")


@dataclass
class Road:
    """One operating point on its way through a data set: its two machines and what was counted so far."""

    point: OperatingPoint
    edge: Edge
    cloud: Cloud
    metric: object
    pixels: int
    totals: torch.Tensor = field(default_factory=lambda: torch.zeros(len(TOTALS), dtype=torch.float64))
    keep_rows: bool = False
    rows: list[dict] = field(default_factory=list)
    baseline: object = None  # the metric of the uncompressed network, set when the data set is through

    def travel(self, feature, targets, names) -> None:
        """One batch: edge -> frames -> cloud -> metric. What is scored comes from the decoded bytes alone."""
        sent = self.edge.send(feature)
        received = self.cloud.receive(sent.frames, sent.uncoded)
        if not torch.equal(sent.symbols.cpu(), received.symbols.cpu()):
            raise SpicError(f"{self.point.name}: decoded symbols differ from the encoded ones; please report this as a bug")
        self._count(sent, names, self.metric.update(received.logits, targets))

    def _count(self, sent, names, scores: list[dict]) -> None:
        table, symbols = self.edge.table, sent.symbols.cpu()
        escapes = [0] * len(names)
        if table.count_escapes(symbols):  # rare: only then is it worth asking for each image
            escapes = [table.count_escapes(symbols[i:i + 1]) for i in range(len(names))]
        self.totals += torch.tensor([len(names), sum(sent.payload_bytes), sum(map(len, sent.frames)), sum(escapes),
                                     sum(tensor.numel() for tensor in sent.uncoded), table.cross_entropy(symbols)],
                                    dtype=torch.float64)
        rows = zip(names, scores, sent.payload_bytes, sent.frames, escapes) if self.keep_rows else ()
        for name, score, payload, frame, escaped in rows:
            self.rows.append({"image": name, **score, "payload_bytes": payload, "frame_bytes": len(frame),
                              "escapes": escaped, "bpp": payload * 8 / self.pixels})

    @property
    def device_name(self) -> str:
        """``cpu``, or the model of the GPU."""
        device = self.edge.watch.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def total(self, name: str) -> float:
        """One of TOTALS, over all images of all processes once ``close`` has run."""
        return self.totals[TOTALS.index(name)].item()

    def close(self) -> None:
        """End the stream, then add up what the processes counted."""
        end = self.edge.close()
        self.cloud.close(end)
        if parallel.rank() == 0:  # one stream carries the whole set, however many processes share the work
            self.totals[TOTALS.index("wire_bytes")] += len(self.edge.header) + len(end)
        self.totals = parallel.sum_over_ranks(self.totals)
        self.metric.counts = parallel.sum_over_ranks(self.metric.counts)
        self.rows = parallel.interleave_over_ranks(self.rows)


@dataclass
class Station:
    """A stretch of the network up to a split point, the rest behind it, and the roads that branch off there."""

    front: nn.Module
    back: nn.Module
    roads: list[Road]
    watch: Stopwatch


@dataclass(frozen=True)
class Settings:
    """How to run: nothing here changes what is computed, but for ``amp`` (bf16 arithmetic).

    ``coder_device``: "cpu", "gpu", or None for the device of the network.
    ``overlap``: code one batch while the network runs on the next (worth it on a GPU; on a CPU both need the same cores).
    ``keep_rows``: keep one row per image (a few hundred bytes each) for the per-image file.
    """

    coder: str = "huffman"
    coder_device: str | None = None
    device: torch.device = torch.device("cpu")
    batch_size: int = 32
    workers: int = 2
    amp: bool = False
    overlap: bool = False
    keep_rows: bool = False


@torch.inference_mode()
def lay_roads(benchmark: Benchmark, network: nn.Module, points: list[OperatingPoint], image_size: tuple[int, int],
              settings: Settings) -> list[Station]:
    """Cut the network at every split point of ``points`` and put edge and cloud of each point in place."""
    groups: dict[str, list[OperatingPoint]] = {}
    for point in points:
        groups.setdefault(module_path(network, benchmark.cut_after(point)), []).append(point)
    paths = sorted(groups, key=lambda path: depth(network, path))
    stations = []
    feature = torch.zeros(1, 3, *image_size, device=settings.device)
    for path, front, back in zip(paths, *cut_many(network, paths)):
        feature = front(feature)
        roads = [_road(benchmark, point, front, back, feature, image_size, settings) for point in groups[path]]
        stations.append(Station(front, back, roads, Stopwatch(settings.device)))
    return stations


def _road(benchmark, point, front, back, feature, image_size, settings) -> Road:
    edge, cloud = make_halves(point, front, back, feature, image_size, settings.coder, settings.coder_device)
    cloud.open(edge.header)
    return Road(point, edge, cloud, METRICS[benchmark.task](benchmark.num_classes), image_size[0] * image_size[1],
                keep_rows=settings.keep_rows)


def evaluate(stations: list[Station], dataset: Dataset, baseline, settings: Settings) -> list[Road]:
    """Run every road over the data set once; every image counts, the last partial batch too.

    ``baseline``: the metric that scores the uncompressed network. Returns the roads with their counts and seconds.
    With ``settings.overlap`` a second thread codes, decodes and finishes batch n while this one runs the fronts on n + 1.
    """
    with ThreadPoolExecutor(1) as second:
        behind: Future | None = None
        for images, targets, names in _batches(dataset, settings):
            features = _fronts(stations, images, settings)
            if behind:
                behind.result()  # at most one batch waits, so that memory stays flat
            behind = second.submit(_rest, stations, features, images.shape[-2:], targets, names, baseline, settings)
            if not settings.overlap:
                behind.result()
        behind.result()
    baseline.counts = parallel.sum_over_ranks(baseline.counts)
    return _finish(stations, baseline)


@torch.inference_mode()
def _fronts(stations: list[Station], images, settings: Settings) -> list:
    """The feature at each station, from one run of the network."""
    features = [images]
    with torch.autocast(settings.device.type, torch.bfloat16, enabled=settings.amp):
        for station in stations:
            with station.watch("front"):
                features.append(station.front(features[-1]))
    return features[1:]


@torch.inference_mode()
def _rest(stations: list[Station], features: list, image_size, targets, names, baseline, settings: Settings) -> None:
    """Everything behind the fronts: the roads of each station, and the uncompressed network to its end."""
    with torch.autocast(settings.device.type, torch.bfloat16, enabled=settings.amp):
        for station, feature in zip(stations, features):
            for road in station.roads:
                road.travel(feature, targets, names)
        with stations[-1].watch("baseline"):
            logits = stations[-1].back(features[-1], tuple(image_size)).float()
        baseline.update(logits, targets)


@torch.inference_mode()
def _finish(stations: list[Station], baseline) -> list[Road]:
    """Close all roads; a road's front is everything the network ran before its split point."""
    seconds = 0.0
    for station in stations:
        seconds += station.watch.seconds["front"]
        for road in station.roads:
            road.close()
            road.baseline = baseline
            road.edge.watch.seconds["front"] = seconds
    return [road for station in stations for road in station.roads]


def _batches(dataset: Dataset, settings: Settings) -> Iterator[tuple]:
    """Batches (images on the device, targets, names) of this process's share, behind a progress bar in images."""
    if len(dataset) < parallel.world():
        raise SpicError(f"{parallel.world()} processes for {len(dataset)} images; start at most one process per image")
    indices = parallel.rank_slice(len(dataset))
    with tqdm(total=len(indices), unit="img", desc="evaluate", disable=parallel.rank() > 0) as bar:
        for images, targets, places in batches(dataset, settings.batch_size, settings.workers, indices,
                                               pin=settings.device.type == "cuda"):
            images = images.to(settings.device, memory_format=torch.channels_last, non_blocking=True)
            yield images, targets, [str(dataset.paths[i]) for i in places]
            bar.update(len(images))
