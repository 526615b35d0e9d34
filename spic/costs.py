"""What a point costs its edge, and how long one picture takes on this machine. The one place that measures either.

networks/cost.py counts parameters and multiply-accumulates of a module; here they are put together for an edge and a
cloud, beside measured seconds and the bytes of the weights' files.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from spic.benchmarks import Benchmark
from spic.networks import cut, trace
from spic.networks.cost import cost
from spic.networks.fold import fold_batch_norm
from spic.pipeline import Cloud, Edge, make_halves
from spic.points import OperatingPoint
from spic.record import Costs

LATENCY_IMAGES = 7


def ready(benchmark: Benchmark, image_size: tuple[int, int], device: torch.device, weights: Path | None = None) -> nn.Module:
    """The benchmark's network as evaluations run it: traced for the size, BatchNorm folded, on the device."""
    traced = fold_batch_norm(trace(benchmark.build_network(weights), torch.zeros(1, 3, *image_size)))
    return traced.to(device, memory_format=torch.channels_last)


@torch.inference_mode()
def sample(benchmark: Benchmark, dataset: Any, device: torch.device) -> list[Tensor]:
    """Some pictures of a data set as inputs of the network, float [1, 3, H, W] each."""
    chosen = range(min(LATENCY_IMAGES, len(dataset)))
    return [benchmark.preparation.normalise(dataset.pixels(i)[None]).to(device, memory_format=torch.channels_last)
            for i in chosen]


@torch.inference_mode()
def latency(edge: Callable[[Any], Any], cloud: Callable[[Any], Any], pictures: Iterable[Any]) -> tuple[float, float]:
    """Median seconds of one picture through ``edge``, and of what it gave through ``cloud``; the first is a warm-up."""
    spent = []
    for picture in pictures:
        start = time.perf_counter()
        sent = edge(picture)
        middle = time.perf_counter()
        cloud(sent)
        spent.append((middle - start, time.perf_counter() - middle))
    edge_seconds, cloud_seconds = (statistics.median(times) for times in zip(*(spent[1:] or spent)))
    return edge_seconds, cloud_seconds


def costs_of_points(benchmark: Benchmark, network: nn.Module, points: Sequence[OperatingPoint], images: Sequence[Tensor],
                    coder: str) -> list[Costs]:
    """Costs of each point on ``images``: normalised float [1, 3, H, W] each, on the network's device.

    network: traced, BatchNorm folded, so that what is counted is what is evaluated (``ready``).
    """
    costs = []
    for point in tqdm(points, "edge cost", unit="point", dynamic_ncols=True):
        edge, cloud = halves(benchmark, network, point, images[0], coder)
        costs.append(Costs(**parts_of(edge, cloud, images[0]), **file_sizes(benchmark, point), threads=torch.get_num_threads(),
                           **dict(zip(("edge_seconds", "cloud_seconds"), latency_of(edge, cloud, images)))))
    return costs


@torch.inference_mode()
def halves(benchmark: Benchmark, network: nn.Module, point: OperatingPoint, image: Tensor, coder: str) -> tuple[Edge, Cloud]:
    """Edge and cloud of a point that share the network in memory, the cloud's stream opened."""
    front, back, _ = cut(network, benchmark.cut_after(point), image)
    edge, cloud = make_halves(point, benchmark, front, back, front(image), tuple(image.shape[-2:]), coder)
    cloud.open(edge.header)
    return edge, cloud


def latency_of(edge: Edge, cloud: Cloud, images: Sequence[Tensor]) -> tuple[float, float]:
    """Median seconds from one image to its frame, and from the frame to the answer."""
    return latency(edge, lambda sent: cloud.receive(sent.frames, sent.uncoded), images)


@torch.inference_mode()
def parts_of(edge: Edge, cloud: Cloud, image: Tensor) -> dict[str, int]:
    """``<part>_parameters`` and ``<part>_macs`` of front, encoder, decoder, and of the edge: front and encoder."""
    feature, _ = edge.adapter.parts(edge.front(image))
    parts = {part: cost(module, tuple(x.shape[2:]), x.shape[1]) for part, module, x in (
        ("front", edge.front, image), ("encoder", edge.encoder, feature), ("decoder", cloud.decoder, edge.encoder(feature)))}
    parts["edge"] = {key: parts["front"][key] + parts["encoder"][key] for key in parts["front"]}
    return {f"{part}_{key}": value for part, counts in parts.items() for key, value in counts.items()}


def file_sizes(benchmark: Benchmark, point: OperatingPoint) -> dict[str, int | None]:
    """``bottleneck_bytes`` and ``backbone_bytes``: of the weights' files; None where the backbone's is none of ours."""
    shipped = benchmark.backbone_file
    return {"bottleneck_bytes": point.weights.stat().st_size,
            "backbone_bytes": shipped.stat().st_size if shipped.exists() and not benchmark.official else None}
