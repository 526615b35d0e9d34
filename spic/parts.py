"""What an operating point is made of, from its files: a half of its network, its bottleneck, its frequency table.

Files are checked before they are read; what several points share is in memory once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from spic.benchmarks import Benchmark, Whole, of_points
from spic.bottleneck import Bottleneck, make_bottleneck
from spic.coding import FrequencyTable
from spic.errors import SpicError, reason
from spic.files import verify_file
from spic.networks.cut import single
from spic.networks.fold import fold_batch_norm
from spic.networks.weights import load_strictly
from spic.points import DICT_FILE, ROOT, SHARED, OperatingPoint


@dataclass(frozen=True)
class Half:
    """One half of a network with its own weights; crossing: the shape of what one picture sends over the cut."""

    network: nn.Module
    crossing: tuple[int, ...]


class Parts:
    """Halves of networks and of bottlenecks, each once in memory. which: "front" or "back"; half: "encoder" or "decoder"."""

    def __init__(self, which: str, half: str, weights: Path | str | None):
        self.which, self.half, self.weights = which, half, weights
        self._networks: dict[tuple, Half] = {}
        self._bottlenecks: dict[tuple, Bottleneck] = {}

    def of(self, point: OperatingPoint, device: torch.device) -> tuple[nn.Module, Bottleneck]:
        """The half of the network at the point, and the bottleneck with the weights of one half, both ready to run."""
        benchmark = of_points([point])
        place = point.task, benchmark.network, benchmark.cut_after(point)
        if place not in self._networks:
            self._networks[place] = _half(point, self.which, self.weights)
            ready(self._networks[place].network, device)
        network, own = self._networks[place], (place, bottleneck_of(point))
        if own not in self._bottlenecks:
            empty = empty_bottleneck(point, benchmark, network.crossing, benchmark.image_size)
            self._bottlenecks[own] = load_half_bottleneck(point, empty, self.half)
            ready(self._bottlenecks[own].get_submodule(self.half), device)
        return network.network, self._bottlenecks[own]


def bottleneck_of(point: OperatingPoint) -> tuple:
    """What says which bottleneck a point has; points that differ in their step, table and name alone have the same."""
    return point.weights, point.stride, point.channels, point.activation, point.form


def ready(module: nn.Module, device: torch.device) -> nn.Module:
    """As it runs: folded, on its device, in the layout in which convolutions are fast."""
    return fold_batch_norm(module).to(device, memory_format=torch.channels_last)


def is_split(point: OperatingPoint) -> bool:
    """Whether all of the feature is coded: the published segmentation S1 leaves most of it uncoded."""
    return of_points([point]).adapter(point) is Whole


def require_splits(points: Sequence[OperatingPoint]) -> None:
    """SpicError where one of the points is none."""
    for point in points:
        if not is_split(point):
            raise SpicError(f"{point.name}: as published, this is no split: most of the feature would bypass the coder; choose "
                            "another split point")


def _half(point: OperatingPoint, which: str, weights: Path | str | None) -> Half:
    benchmark = of_points([point])
    require_splits([point])
    network, frontier = benchmark.half(point, which, weights)
    return Half(network, single(frontier).shape)


def empty_bottleneck(point: OperatingPoint, benchmark: Benchmark, shape: tuple[int, ...],
                     image_size: tuple[int, int]) -> Bottleneck:
    """The untrained bottleneck of an operating point for a feature of this shape (without the batch)."""
    return make_bottleneck(shape, point.channels, point.stride, benchmark.geometry_of(point), point.activation, image_size,
                           point.form)


def load_bottleneck(point: OperatingPoint, benchmark: Benchmark, shape: tuple[int, ...],
                    image_size: tuple[int, int]) -> Bottleneck:
    """The bottleneck of an operating point in evaluation mode, its file checked."""
    bottleneck = empty_bottleneck(point, benchmark, shape, image_size)
    return _filled(bottleneck, point, "", image_size)


def load_half_bottleneck(point: OperatingPoint, bottleneck: Bottleneck, half: str) -> Bottleneck:
    """``bottleneck`` with the weights of one half (encoder or decoder) read; the other half's stay where they are."""
    return _filled(bottleneck, point, f"{half}.", None)


def _filled(bottleneck: Bottleneck, point: OperatingPoint, prefix: str, image_size) -> Bottleneck:
    path = verify_file(point.weights, point.benchmark, advice(point), point.root)
    module = bottleneck.get_submodule(prefix.rstrip("."))
    load_strictly(module, _read_part(path, prefix), path)
    return bottleneck.eval().requires_grad_(False)


def _read_part(path: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``; the others are not read."""
    try:
        with safe_open(path, "pt") as file:
            return {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}
    except (SafetensorError, OSError) as error:
        raise SpicError(f"{path}: not a readable state dict ({reason(error)})") from None


def trained_behind(point: OperatingPoint) -> dict[str, str]:
    """What the weights file says of the network it was trained for; empty where it says nothing."""
    try:
        with safe_open(point.weights, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, json.JSONDecodeError) as error:
        raise SpicError(f"{point.weights}: not a readable state dict ({reason(error)})") from None


def load_table(point: OperatingPoint) -> FrequencyTable:
    """The frequency table of an operating point, of the kind it asks for, its file and its step checked."""
    how_to_get = advice(point) if point.tables == SHARED else \
        f"count it by: {_recount_command(point)}, or take --tables {SHARED}"
    table = FrequencyTable.load(verify_file(point.table, point.benchmark, how_to_get, point.root))
    if not math.isclose(table.step, point.step, rel_tol=1e-6):
        raise SpicError(f"{point.table}: made for step {table.step}, but dict.yaml says {point.step} for {point.name}")
    return table


def advice(point: OperatingPoint) -> str:
    """What to do when a file of the point is missing or altered."""
    return of_points([point]).how_to_get


def check_files(points: Sequence[OperatingPoint]) -> None:
    """Every file of the points is there and unaltered; to be asked before anything long or large is begun."""
    for point in points:
        verify_file(point.weights, point.benchmark, advice(point), point.root)
        load_table(point)


def _recount_command(point: OperatingPoint) -> str:
    own = f" --points {point.root / DICT_FILE.name}" if point.root != ROOT else ""
    data = "" if point.benchmark == "scenes" else " --data DIR" + (" --backbone_weights FILE" if point.network else "")
    return (f"spic recount --task {point.task} --benchmark {point.benchmark} --split_point {point.split_point} "
            f"--compress_factor {point.compress_factor} --tables {point.tables}{data}{own}")
