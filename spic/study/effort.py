"""What the papers claim about effort, measured: costs of the bottlenecks, time to switch the rate, time to train."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from spic.benchmarks import Benchmark, Recipe
from spic.costs import LATENCY_IMAGES, costs_of_points, halves, ready, sample
from spic.errors import SpicError, reason
from spic.files import write_json
from spic.points import OperatingPoint
from spic.record import Costs
from spic.tasks import TASKS

CODER = "rans"
REPEATS = 5
STEP_IMAGES = 8  # of a timed training step


@dataclass(frozen=True)
class PointEffort:
    """One geometry of a split point. network_untouched: whether a change to this point left the network in memory alone."""

    split_point: str
    stride: int
    channels: int
    costs: Costs
    switch_seconds: float
    network_untouched: bool


@dataclass(frozen=True)
class Effort:
    """Of a benchmark: its points, and the uncompressed network's parameters, seconds to load and seconds to train."""

    points: tuple[PointEffort, ...]
    parameters: int
    load_seconds: float
    training_pictures: int
    training_seconds: float


def measure(benchmark: Benchmark, points: list[OperatingPoint], data: Path | None) -> Effort:
    """Measure the first point of each geometry, with one thread. benchmark: one with a recipe, by which its network was trained."""
    torch.set_num_threads(1)
    dataset = benchmark.open_data(data, LATENCY_IMAGES)
    load_seconds, network = timed(lambda: ready(benchmark, dataset.image_size, torch.device("cpu")))
    chosen, images = one_per_geometry(points), sample(benchmark, dataset, torch.device("cpu"))
    costs = costs_of_points(benchmark, network, chosen, images, CODER)
    found = tuple(PointEffort(point.split_point, point.stride, point.channels, cost,
                              *switching(benchmark, network, point, images[0])) for point, cost in zip(chosen, costs))
    pictures = len(benchmark.training.open(data, benchmark.training.backbone))
    seconds = pictures * network_seconds_per_picture(benchmark, benchmark.recipe)
    return Effort(found, sum(parameter.numel() for parameter in network.parameters()), load_seconds, pictures, seconds)


def write(path: Path, effort: Effort) -> None:
    write_json(path, asdict(effort))


def read(path: Path) -> Effort:
    """What ``write`` wrote; SpicError for anything else."""
    try:
        content = json.loads(path.read_text())
        points = tuple(PointEffort(**{**point, "costs": Costs(**point["costs"])}) for point in content["points"])
        return Effort(**{**content, "points": points})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SpicError(f"{path}: not what spic study measure writes ({reason(error)}); delete it and measure again") from None


def timed(work: Callable, clock: Callable[[], float] = time.perf_counter) -> tuple[float, object]:
    """Median seconds of some repeats, and what the last one returned."""
    seconds, result = [], None
    for _ in range(REPEATS):
        start = clock()
        result = work()
        seconds.append(clock() - start)
    return statistics.median(seconds), result


def one_per_geometry(points: list[OperatingPoint]) -> list[OperatingPoint]:
    """Points of one split point, form, stride and number of channels cost the same: the first of them."""
    first: dict[tuple, OperatingPoint] = {}
    for point in points:
        first.setdefault((point.split_point, point.form, point.stride, point.channels), point)
    return list(first.values())


def switching(benchmark: Benchmark, network: nn.Module, point: OperatingPoint, image: torch.Tensor) -> tuple[float, bool]:
    """Seconds from the files of a point to an edge and a cloud that run it; was the network in memory left alone?"""
    before = _places(network)
    seconds, _ = timed(lambda: halves(benchmark, network, point, image, CODER))
    return seconds, before == _places(network)


def _places(network: nn.Module) -> list[tuple[int, int]]:
    """Where each tensor lies in memory, and how often it was written to."""
    return [(tensor.data_ptr(), tensor._version) for tensor in network.state_dict().values()]


def network_seconds_per_picture(benchmark: Benchmark, recipe: Recipe) -> float:
    """Of training the network itself, all epochs: forward and backward at each stage's size, reading not counted.

    The processor's seconds, not the clock's: other programs beside this one do not make the network look slower.
    """
    network = benchmark.build_network().train().requires_grad_(True).to(memory_format=torch.channels_last)
    return sum(epochs * _step_seconds(network, benchmark, size) for epochs, size in recipe.stages) / STEP_IMAGES


def _step_seconds(network: nn.Module, benchmark: Benchmark, size: int) -> float:
    images = torch.randn(STEP_IMAGES, 3, size, size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        pixels = network(images).shape[2:]  # of the answer: none, or rows and columns
    targets = torch.randint(benchmark.num_classes, (STEP_IMAGES, *pixels))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        TASKS[benchmark.task].loss(logits.float(), targets).backward()

    return timed(step, time.process_time)[0]
