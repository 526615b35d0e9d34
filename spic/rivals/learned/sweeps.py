"""Trained rivals on a benchmark's pictures: every rate coded, decoded and answered by the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from spic.benchmarks import Benchmark
from spic.commands import pick_device
from spic.errors import SpicError
from spic.files import cache_root
from spic.networks import cut, trace
from spic.networks.fold import fold_batch_norm
from spic.networks.weights import fingerprint
from spic.record import Record
from spic.rivals.cache import ResultCache
from spic.rivals.evaluate import PixelRival, sweep
from spic.rivals.inputs import normalisation
from spic.rivals.learned import store
from spic.rivals.learned.codec import LearnedCodec, StudentRival
from spic.rivals.learned.recipes import CURVES


def measure(benchmark: Benchmark, models: Iterable[str], weights: Path, *, valdir: Path | None = None,
            limit: int | None = None, backbone_weights: Path | None = None, gpu: bool = False, cache: Path | None = None,
            batch_size: int = 16, workers: int = 2, per_image: Path | None = None) -> tuple[list[Record], dict[str, str]]:
    """Records of the models whose files lie under ``weights``, and for each that is missing the reason."""
    trained, missing = _read(benchmark, models, weights)
    if not trained:
        return [], missing
    network = benchmark.build_network(backbone_weights)
    identity = fingerprint(network)
    for rival in [rival for rival in trained if rival.network not in (None, identity)]:
        missing[rival.curve] = f"{rival.curve} was trained for other weights of the network: train it again"
        trained.remove(rival)
    device = pick_device(gpu)
    dataset = benchmark.open_data(valdir, limit)
    network.to(device, memory_format=torch.channels_last)
    finished = ResultCache(cache or cache_root() / "rivals")
    records = []
    for rival in trained:
        codec = LearnedCodec(rival, device)
        for rate in codec.sweep:
            road = _road(benchmark, rival, rate, dataset, network, device)
            found = sweep(road, benchmark, [codec], finished, {codec.name: [rate]}, batch_size, workers, per_image)
            records += [_completed(record, codec, dataset.image_size, rival.recipe["lambdas"][rate]) for record in found]
    return records, missing


def _read(benchmark: Benchmark, models: Iterable[str], weights: Path) -> tuple[list[store.Trained], dict[str, str]]:
    trained, missing = [], {}
    for model in dict.fromkeys(models):
        try:
            trained.append(store.read(weights, benchmark, model))
        except SpicError as error:
            missing[CURVES[model]] = str(error).replace(f"{weights}/", "")  # a caption travels, its machine's folders do not
    return trained, missing


def _completed(record: Record, codec: LearnedCodec, image_size: tuple[int, int], weight: float) -> Record:
    """With what the codec's own networks cost the edge, and the lambda it was trained at."""
    costs = dataclasses.replace(record.costs, **codec.edge_cost(image_size))
    return dataclasses.replace(record, costs=costs, more={**record.more, "lambda": weight})


def _road(benchmark: Benchmark, rival: store.Trained, rate: int, dataset, network: nn.Module, device: torch.device) -> PixelRival:
    """What answers: the whole network, or behind a student the rest of it, as fine-tuned where it was."""
    example = torch.zeros(1, 3, *dataset.image_size, device=device)
    whole, normalise = fold_batch_norm(trace(network, example)), normalisation(benchmark)
    if not rival.recipe["cut"]:
        return PixelRival(dataset, whole, device, normalise=normalise)
    rest = getattr(rival.networks[rate], "rest", None) or cut(whole, rival.recipe["cut"], example)[1]
    rest = fold_batch_norm(rest).to(device, memory_format=torch.channels_last)
    return StudentRival(dataset, whole, device, normalise=normalise, rest=rest)
