"""What each operating point costs its edge, and how long one image takes on the machine at hand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from spic.benchmarks import Benchmark
from spic.datasets.images import normalise
from spic.evaluate import Settings, lay_roads
from spic.networks.cost import cost
from spic.networks.split import first
from spic.points import OperatingPoint

LATENCY_IMAGES = 7


@torch.inference_mode()
def latency(edge, cloud, images: Sequence[Tensor]) -> dict[str, float]:
    """Median seconds of one image [1, 3, H, W]: to its frame, and from there to logits. The first is a warm-up."""
    spent = []
    for image in images:
        start = time.perf_counter()
        sent = edge(image)
        middle = time.perf_counter()
        cloud.receive(sent.frames, sent.uncoded)
        spent.append((middle - start, time.perf_counter() - middle))
    edge_seconds, cloud_seconds = (statistics.median(times) for times in zip(*(spent[1:] or spent)))
    return {"edge_seconds": edge_seconds, "cloud_seconds": cloud_seconds}


def point_costs(benchmark: Benchmark, network: nn.Module, dataset, points: Sequence[OperatingPoint],
                settings: Settings) -> list[dict]:
    """One row per point. Parameters and operations are those of what is evaluated, BatchNorm folded."""
    chosen = range(min(LATENCY_IMAGES, len(dataset)))
    images = [normalise(dataset.pixels(i)[None]).to(settings.device, memory_format=torch.channels_last) for i in chosen]
    rows = []
    for point in tqdm(points, "edge cost", unit="point", dynamic_ncols=True):
        (station,) = lay_roads(benchmark, network, [point], dataset.image_size, settings)
        edge, cloud = station.roads[0].edge, station.roads[0].cloud
        rows.append({
            "task": benchmark.task, "benchmark": benchmark.name, "split_point": point.split_point,
            "compress_factor": point.compress_factor, "threads": torch.get_num_threads(),
            **_parts(station.front, edge.encoder, cloud.decoder, images[0]), **_bytes(point, benchmark),
            **latency(edge, cloud, images),
        })
    return rows


@torch.inference_mode()
def _parts(front: nn.Module, encoder: nn.Module, decoder: nn.Module, image: Tensor) -> dict[str, int]:
    """``<part>_parameters`` and ``<part>_macs`` of front, encoder, decoder, and of the edge: front and encoder."""
    feature = first(front(image))
    costs = {part: cost(module, tuple(x.shape[2:]), x.shape[1]) for part, module, x in (
        ("front", front, image), ("encoder", encoder, feature), ("decoder", decoder, encoder(feature)))}
    costs["edge"] = {key: costs["front"][key] + costs["encoder"][key] for key in costs["front"]}
    return {f"{part}_{key}": value for part, paid in costs.items() for key, value in paid.items()}


def _bytes(point: OperatingPoint, benchmark: Benchmark) -> dict[str, int | None]:
    """``bottleneck_bytes`` and ``backbone_bytes``: of the weights files; None where the backbone's is not known."""
    shipped, official = benchmark.backbone_file, benchmark.official
    backbone = shipped.stat().st_size if shipped.exists() else official and round(official.meta["_file_size"] * 2**20)
    return {"bottleneck_bytes": point.weights.stat().st_size, "backbone_bytes": backbone}
