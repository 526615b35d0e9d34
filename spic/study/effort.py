"""What bottlenecks cost beside the network they sit in: parameters, operations, training time, time to switch."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from spic.benchmarks import Benchmark, find
from spic.files import write_whole
from spic.curves.cost import LATENCY_IMAGES, point_costs
from spic.evaluate import Settings
from spic.networks import cut
from spic.networks.fold import fold_batch_norm
from spic.pipeline import make_halves
from spic.points import OperatingPoint, load_points, select
from spic.training.backbone import RECIPES
from spic.training.sources import SOURCES

CODER = "rans"
REPEATS = 5
STEP_IMAGES = 8  # of a timed training step


def write(name: str, task: str, catalogue: Path, data: Path | None, output: Path) -> None:
    """Measure the costs of a benchmark's points in a dict.yaml, once; all with one thread."""
    if output.exists():
        return
    torch.set_num_threads(1)
    benchmark = find(task, name)
    load_seconds, network = timed(lambda: fold_batch_norm(benchmark.build_network()))
    network.to(memory_format=torch.channels_last)
    points = one_per_geometry(select(load_points(catalogue), task, name, ["all"], ["all"]))
    dataset = benchmark.open_data(data, LATENCY_IMAGES)
    rows = point_costs(benchmark, network, dataset, points, Settings(CODER))
    for point, row in zip(points, rows):
        row |= {"stride": point.stride, "channels": point.channels,
                **switching(benchmark, network, point, dataset.image_size)}
    pictures = len(SOURCES[name, task].open(data, "train"))
    whole = {"parameters": sum(parameter.numel() for parameter in network.parameters()),
             "load_seconds": load_seconds, "training_pictures": pictures,
             "training_seconds": pictures * network_seconds_per_picture(benchmark, RECIPES[name, task])}
    write_whole(output, (json.dumps({"costs": rows, "network": whole}, indent=1) + "\n").encode())


def timed(work: Callable, clock: Callable[[], float] = time.perf_counter) -> tuple[float, object]:
    """Median seconds of some repeats, and what the last one returned."""
    seconds, result = [], None
    for _ in range(REPEATS):
        start = clock()
        result = work()
        seconds.append(clock() - start)
    return statistics.median(seconds), result


def one_per_geometry(points: list[OperatingPoint]) -> list[OperatingPoint]:
    """Points of one split point, stride and number of channels cost the same: the first of them."""
    first: dict[tuple, OperatingPoint] = {}
    for point in points:
        first.setdefault((point.split_point, point.stride, point.channels), point)
    return list(first.values())


@torch.inference_mode()
def switching(benchmark: Benchmark, network: nn.Module, point: OperatingPoint, size: tuple[int, int]) -> dict:
    """Seconds from the files of a point to an edge and a cloud that run it; was the network in memory left alone?"""
    front, back = cut(network, benchmark.cut_after(point))
    feature = front(torch.zeros(1, 3, *size))
    before = _places(network)
    seconds, (edge, cloud) = timed(lambda: make_halves(point, front, back, feature, size, CODER))
    return {"switch_seconds": seconds,
            "network_untouched": before == _places(network) and edge.front is front and cloud.back is back}


def _places(network: nn.Module) -> list[tuple[int, int]]:
    """Where each tensor lies in memory, and how often it was written to."""
    return [(tensor.data_ptr(), tensor._version) for tensor in network.state_dict().values()]


def network_seconds_per_picture(benchmark: Benchmark, recipe) -> float:
    """Of training the network itself, all epochs: forward and backward at each stage's size, reading not counted.

    The processor's seconds, not the clock's: other programs beside this one do not make the network look slower.
    """
    network = benchmark.build_network().train().requires_grad_(True).to(memory_format=torch.channels_last)
    return sum(epochs * _step_seconds(network, benchmark, size) for epochs, size in recipe.stages) / STEP_IMAGES


def _step_seconds(network: nn.Module, benchmark: Benchmark, size: int) -> float:
    images = torch.randn(STEP_IMAGES, 3, size, size).contiguous(memory_format=torch.channels_last)
    shape = (STEP_IMAGES, size, size) if benchmark.task == "segmentation" else (STEP_IMAGES,)
    targets = torch.randint(benchmark.num_classes, shape)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        F.cross_entropy(logits.float(), targets).backward()

    return timed(step, time.process_time)[0]
