"""Trained rivals on a benchmark's pictures: every rate coded, decoded and answered by the network."""

from __future__ import annotations

import argparse
import copy

import torch
from torch import nn

from spic.rivals.evaluate import PixelRival, sweep
from spic.rivals.learned import store
from spic.rivals.learned.codec import LearnedCodec, StudentRival
from spic.rivals.learned.recipes import CURVES
from spic.rivals.results import ResultCache
from spic.benchmarks import Benchmark
from spic.commands import pick_device
from spic.errors import SpicError
from spic.files import cache_root
from spic.tasks import TASKS
from spic.networks import cut
from spic.networks.fold import fold_batch_norm
from spic.networks.weights import fingerprint


def measure(benchmark: Benchmark, args: argparse.Namespace) -> tuple[list[dict], dict[str, str]]:
    """Reports in the form of the other rivals, and for each rival that is missing the reason."""
    trained, missing = [], {}
    for model in args.models:
        try:
            trained.append(store.read(args.weights, benchmark, model))
        except SpicError as error:
            missing[CURVES[model]] = str(error)
    if not trained:
        return [], missing
    network = benchmark.build_network(args.backbone_weights)
    identity = fingerprint(network)
    for rival in [rival for rival in trained if rival.network not in (None, identity)]:
        missing[rival.curve] = f"{rival.curve} was trained for other weights of the network: train it again"
        trained.remove(rival)
    return _sweeps(benchmark, args, trained, fold_batch_norm(network)), missing


def _sweeps(benchmark: Benchmark, args: argparse.Namespace, trained: list[store.Trained], network: nn.Module) -> list:
    device = pick_device(args.gpu)
    dataset = benchmark.open_data(args.valdir, args.limit)
    network.to(device, memory_format=torch.channels_last)
    about = {"task": benchmark.task, "benchmark": benchmark.name, "device": str(device)}
    cache = ResultCache(args.cache or cache_root() / "rivals")
    reports = []
    for rival in trained:
        codec = LearnedCodec(rival, device)
        cost = codec.edge_cost(dataset.image_size)
        for rate in codec.sweep:
            road = _road(rival, rate, dataset, network, device)
            found = sweep(road, [codec], lambda: TASKS[benchmark.task].metric(benchmark.num_classes), about, cache,
                          {codec.name: [rate]}, args.batch_size, args.workers)
            reports += [{**report, **cost, "lambda": rival.recipe["lambdas"][rate]} for report in found]
    return reports


def _road(rival: store.Trained, rate: int, dataset, network: nn.Module, device: torch.device) -> PixelRival:
    """What answers: the whole network, or behind a student the rest of it, as fine-tuned where it was."""
    if not rival.recipe["station"]:
        return PixelRival(dataset, network, device)
    rest = getattr(rival.networks[rate], "rest", None) or cut(network, rival.recipe["station"])[1]
    rest = fold_batch_norm(copy.deepcopy(rest)).to(device, memory_format=torch.channels_last)
    return StudentRival(dataset, network, device, rest=rest)
