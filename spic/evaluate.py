"""Data set x (Edge, Cloud) -> what val.py reports; the only loop.

Several operating points run in one pass: the network is cut at each of their split points, each stretch of it runs once
per batch, and each point branches off where its bottleneck sits. What is counted so far is kept on disk now and then, so
that an interrupted pass goes on to the same result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from spic import parallel
from spic.benchmarks import Benchmark, Whole
from spic.datasets.loading import batches
from spic.errors import SpicError
from spic.files import write_whole
from spic.networks.cut import cut_many, single
from spic.networks.fold import fold_batch_norm
from spic.pipeline import Cloud, Edge, Stopwatch, make_halves
from spic.points import OperatingPoint
from spic.tasks import TASKS, Metric

PLAIN = "plain_"
"""Begins the names of the uncompressed network's columns in a row per image."""
COUNTS = ("images", "payload_bytes", "wire_bytes", "uncoded_values")
KEEP_SECONDS = 60.0
"""How often what is counted so far is written to disk."""


@dataclass
class Road:
    """One operating point on its way through a data set: its two machines and what was counted so far.

    counts: int64, one for each of COUNTS. histogram: how often each cell of the frequency table was sent.
    """

    point: OperatingPoint
    edge: Edge
    cloud: Cloud
    metric: Metric
    pixels: int
    counts: Tensor = field(default_factory=lambda: torch.zeros(len(COUNTS), dtype=torch.int64))
    histogram: np.ndarray | None = None
    keep_rows: bool = False
    rows: list[dict] = field(default_factory=list)
    baseline: Metric | None = None  # of the uncompressed network, set when the data set is through

    def travel(self, feature, targets: Tensor | None, reference: Tensor, names: list[str], plain: list[dict]) -> None:
        """One batch: edge -> frames -> cloud -> metric. What is scored comes from the decoded bytes alone.

        plain: the uncompressed network's row of each image.
        """
        sent = self.edge.send(feature)
        received = self.cloud.receive(sent.frames, sent.uncoded)
        if not torch.equal(sent.symbols.cpu(), received.symbols.cpu()):
            raise SpicError(f"{self.point.name}: decoded symbols differ from the encoded ones; please report this as a bug")
        check_numbers(received.logits, self.point.name)
        self._count(sent, names, self.metric.update(received.logits, targets, reference), plain)

    def _count(self, sent, names: list[str], scores: list[dict], plain: list[dict]) -> None:
        table, symbols = self.edge.table, sent.symbols.cpu().numpy()
        histogram = table.histogram(symbols)
        self.histogram = histogram if self.histogram is None else self.histogram + histogram
        self.counts += torch.tensor([len(names), sum(sent.payload_bytes), sum(map(len, sent.frames)),
                                     sum(tensor.numel() for tensor in sent.uncoded)])
        if self.keep_rows:
            escaped = table.escapes_of(histogram) > 0  # rare: only then is it worth asking for each image
            escapes = [table.count_escapes(symbols[i:i + 1]) if escaped else 0 for i in range(len(names))]
            for i, (name, score, payload, frame) in enumerate(zip(names, scores, sent.payload_bytes, sent.frames)):
                self.rows.append({"image": name, **score, "payload_bytes": payload, "frame_bytes": len(frame),
                                  "escapes": escapes[i], "bpp": payload * 8 / self.pixels,
                                  **plain_columns(self.point.task, plain[i])})

    @property
    def device_name(self) -> str:
        """``cpu``, or the model of the GPU."""
        device = self.edge.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def count(self, name: str) -> int:
        """One of COUNTS, over all images of all processes once ``close`` has run."""
        return int(self.counts[COUNTS.index(name)])

    @property
    def escapes(self) -> int:
        """Symbols the table had never seen."""
        return self.edge.table.escapes_of(self.histogram)

    @property
    def table_bits(self) -> float:
        """The table's cross-entropy on all symbols sent, in bits: summed once, from whole counts, so that neither batches
        nor processes change a digit."""
        return self.edge.table.cross_entropy_of(self.histogram)

    def close(self) -> None:
        """End the stream, then add up what the processes counted."""
        end = self.edge.close()
        self.cloud.close(end)
        if parallel.rank() == 0:  # one stream carries the whole set, however many processes share the work
            self.counts[COUNTS.index("wire_bytes")] += len(self.edge.header) + len(end)
        self.counts = parallel.sum_over_ranks(self.counts)
        self.histogram = parallel.sum_over_ranks(torch.from_numpy(self.histogram)).numpy()
        add_up(self.metric)
        self.rows = parallel.interleave_over_ranks(self.rows)


def plain_columns(task: str, row: dict) -> dict:
    """What is kept of the uncompressed network's row of an image, so that both are scored on the same images."""
    return {f"{PLAIN}{name}": row[name] for name in TASKS[task].summed if name in row}


def add_up(metric: Metric) -> None:
    """A metric's counts, summed over all processes."""
    metric.counts = parallel.sum_over_ranks(metric.counts)
    metric.agreed = parallel.sum_over_ranks(metric.agreed)


def check_numbers(logits: Tensor, what: str) -> None:
    """NaN would count as class 0: no answer is taken from a network that gives any."""
    if torch.isnan(logits).any():
        image = int(torch.isnan(logits).flatten(1).any(1).nonzero()[0])
        raise SpicError(f"{what}: the network's answer to image {image + 1} of a batch is not a number; its weights, or the "
                        "picture, hold NaN or infinity: get the weights again (--backbone_weights)")


@dataclass
class Stretch:
    """A part of the network between two split points, the whole rest behind it, and the roads that branch off there."""

    front: nn.Module
    back: nn.Module
    roads: list[Road]
    watch: Stopwatch


@dataclass(frozen=True)
class Settings:
    """How to run: nothing here changes what is computed, but for ``amp`` (bf16 arithmetic) and ``rdo`` (symbols chosen).

    coder_device: "cpu", "gpu", or None for the device of the network. overlap: code one batch while the network runs on
    the next (worth it on a GPU; on a CPU both need the same cores). keep_rows: keep one row per image (a few hundred bytes
    each) for the per-image file. progress: the file that keeps what was counted so far; None keeps nothing. rdo: of the edges.
    """

    coder: str = "huffman"
    coder_device: str | None = None
    device: torch.device = torch.device("cpu")
    batch_size: int = 32
    workers: int = 2
    amp: bool = False
    overlap: bool = False
    keep_rows: bool = False
    progress: Path | None = None
    quiet: bool = False
    rdo: float = 0.0


@torch.inference_mode()
def lay_roads(benchmark: Benchmark, network: nn.Module, points: list[OperatingPoint], image_size: tuple[int, int],
              settings: Settings) -> list[Stretch]:
    """Cut the network at every split point of ``points`` and put edge and cloud of each point in place.

    BatchNorm is folded in each half, after the cut, as Edge and Cloud do it on two machines: a cut between a convolution and
    its norm then shows both sides the same feature.
    """
    groups: dict = {}
    for point in points:
        groups.setdefault(benchmark.cut_after(point), []).append(point)
    feature = torch.zeros(1, 3, *image_size, device=settings.device)
    stretches = []
    for front, back, frontier in zip(*cut_many(network, list(groups), feature)):
        front, back = fold_batch_norm(front), fold_batch_norm(back)
        feature, here = front(feature), groups[frontier.after]
        if benchmark.adapter(here[0]) is Whole:
            single(frontier)
        roads = [_road(benchmark, point, front, back, feature, image_size, settings) for point in here]
        stretches.append(Stretch(front, back, roads, Stopwatch(settings.device)))
    return stretches


def _road(benchmark, point, front, back, feature, image_size, settings) -> Road:
    edge, cloud = make_halves(point, benchmark, front, back, feature, image_size, settings.coder, settings.coder_device,
                              settings.rdo)
    cloud.open(edge.header)
    return Road(point, edge, cloud, TASKS[benchmark.task].metric(benchmark.num_classes), image_size[0] * image_size[1],
                keep_rows=settings.keep_rows)


def evaluate(stretches: list[Stretch], dataset: Dataset, baseline: Metric, settings: Settings) -> list[Road]:
    """Run every road over the data set once; every image counts, the last partial batch too.

    baseline: scores the uncompressed network. Returns the roads with their counts and seconds. With ``settings.overlap``
    a second thread codes, decodes and finishes batch n while this one runs the fronts on n + 1.
    """
    progress = Progress(settings.progress, stretches, baseline)
    done = progress.restore()
    with ThreadPoolExecutor(1) as second:
        behind: Future | None = None
        for images, targets, names in _batches(dataset, settings, done):
            features = _fronts(stretches, images, settings)
            if behind:
                behind.result()  # at most one batch waits, so that memory stays flat
                progress.keep_sometimes()
            behind = second.submit(_rest, stretches, features, targets, names, baseline, settings)
            if not settings.overlap:
                behind.result()
        if behind:
            behind.result()
    add_up(baseline)
    roads = _finish(stretches, baseline)
    progress.forget()
    return roads


@torch.inference_mode()
def _fronts(stretches: list[Stretch], images, settings: Settings) -> list:
    """The feature at each split point, from one run of the network."""
    features = [images]
    with torch.autocast(settings.device.type, torch.bfloat16, enabled=settings.amp):
        for stretch in stretches:
            with stretch.watch("front"):
                features.append(stretch.front(features[-1]))
    return features[1:]


@torch.inference_mode()
def _rest(stretches: list[Stretch], features: list, targets, names, baseline: Metric, settings: Settings) -> None:
    """Everything behind the fronts: the uncompressed network to its end, and the roads."""
    with torch.autocast(settings.device.type, torch.bfloat16, enabled=settings.amp):
        with stretches[-1].watch("baseline"):
            reference = stretches[-1].back(features[-1]).float()
        check_numbers(reference, "the uncompressed network")
        plain = baseline.update(reference, targets, reference)
        for stretch, feature in zip(stretches, features):
            for road in stretch.roads:
                road.travel(feature, targets, reference, names, plain)


@torch.inference_mode()
def _finish(stretches: list[Stretch], baseline: Metric) -> list[Road]:
    """Close all roads; a road's front is everything the network ran before its split point."""
    seconds = 0.0
    for stretch in stretches:
        seconds += stretch.watch.seconds["front"]
        for road in stretch.roads:
            road.close()
            road.baseline = baseline
            road.edge.watch.seconds["front"] = seconds
    return [road for stretch in stretches for road in stretch.roads]


def _batches(dataset: Dataset, settings: Settings, done: int) -> Iterator[tuple]:
    """Batches (images on the device, targets or None, names) of this process's share, behind a progress bar in images."""
    if len(dataset) < parallel.world():
        raise SpicError(f"{parallel.world()} processes for {len(dataset)} images; start at most one process per image")
    indices = parallel.rank_slice(len(dataset))
    quiet = settings.quiet or parallel.rank() > 0
    with tqdm(total=len(indices), initial=done, unit="img", desc="evaluate", disable=quiet) as bar:
        for images, targets, chosen in batches(dataset, settings.batch_size, settings.workers, indices[done:],
                                               settings.device.type == "cuda"):
            images = images.to(settings.device, memory_format=torch.channels_last, non_blocking=True)
            yield images, targets, [str(dataset.paths[i]) for i in chosen]
            bar.update(len(images))


class Progress:
    """What a pass has counted so far, in one file: an interrupted pass begins behind the last batch that it holds."""

    def __init__(self, path: Path | None, stretches: list[Stretch], baseline: Metric):
        self.path = path and path.with_name(f"{path.name}.{parallel.rank()}-of-{parallel.world()}")
        self.stretches, self.baseline = stretches, baseline
        self.roads = [road for stretch in stretches for road in stretch.roads]
        self.last = time.monotonic()

    def keep_sometimes(self) -> None:
        """Write the file if it was not written for a while; between two batches."""
        if self.path and time.monotonic() - self.last > KEEP_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Write the file now."""
        rows = json.dumps([road.rows for road in self.roads]).encode()
        tensors = {name: tensor.contiguous() for name, tensor, _ in self._state() if tensor is not None}
        tensors["rows"] = torch.frombuffer(bytearray(rows), dtype=torch.uint8)
        write_whole(self.path, save(tensors))
        self.last = time.monotonic()

    def restore(self) -> int:
        """Take over what the file holds; how many images of this process's share are done."""
        if not self.path or not self.path.exists():
            return 0
        try:
            stored = load(self.path.read_bytes())
            state = self._state()
            if any(tensor is not None and stored[name].shape != tensor.shape for name, tensor, _ in state):
                raise ValueError
            rows = json.loads(stored["rows"].numpy().tobytes())
        except (OSError, SafetensorError, ValueError, KeyError):
            return 0  # of another pass, or damaged: the pass begins anew
        for name, _, put in state:
            put(stored[name])
        for road, own in zip(self.roads, rows):
            road.rows = own
        return self.roads[0].count("images")

    def forget(self) -> None:
        """The pass is through: the file is of no use any more."""
        if self.path:
            self.path.unlink(missing_ok=True)

    def _state(self) -> list[tuple[str, Tensor | None, Callable]]:
        """(name, tensor, how to put a stored one back) of everything that is counted."""
        entries = [("baseline.counts", self.baseline, "counts"), ("baseline.agreed", self.baseline, "agreed")]
        for number, road in enumerate(self.roads):
            entries += [(f"{number}.counts", road, "counts"), (f"{number}.metric", road.metric, "counts"),
                        (f"{number}.agreed", road.metric, "agreed")]
        state = [(name, getattr(owner, key), _setter(owner, key)) for name, owner, key in entries]
        state += [(f"{number}.histogram", None if road.histogram is None else torch.from_numpy(road.histogram),
                   lambda tensor, road=road: setattr(road, "histogram", tensor.numpy()))
                  for number, road in enumerate(self.roads)]
        watches = [stretch.watch for stretch in self.stretches] + [
            watch for road in self.roads for watch in (road.edge.watch, road.cloud.watch)]
        return state + [(f"seconds.{number}", _seconds(watch), lambda tensor, watch=watch: _put_seconds(watch, tensor))
                        for number, watch in enumerate(watches)]


STAGES = ("front", "encoder", "encode", "decode", "decoder", "back", "baseline")


def _setter(owner, key: str) -> Callable:
    return lambda tensor: setattr(owner, key, tensor.clone())


def _seconds(watch: Stopwatch) -> Tensor:
    return torch.tensor([watch.seconds.get(stage, 0.0) for stage in STAGES], dtype=torch.float64)


def _put_seconds(watch: Stopwatch, seconds: Tensor) -> None:
    watch.seconds.update({stage: value for stage, value in zip(STAGES, seconds.tolist()) if value})
