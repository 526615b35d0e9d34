"""The files of trained rivals: Weights/<benchmark>/rivals/<task>_<model>_<rate>.safetensors, one JSON for all rates.

The tables of the entropy coder are stored, not computed anew, so that every machine codes with the same integers.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from spic.benchmarks import Benchmark
from spic.errors import SpicError, reason
from spic.files import record_checksums, sha256, verify_file, write_json, write_whole
from spic.networks import cut
from spic.networks.weights import fingerprint, load_strictly
from spic.rivals.learned import networks as rivals
from spic.rivals.learned.recipes import CURVES


@dataclass(frozen=True)
class Trained:
    """A rival as its files describe it; ``networks`` by rate, ready to code."""

    model: str
    networks: tuple[nn.Module, ...]
    recipe: dict
    network: str | None  # fingerprint of the network it was trained with, where that matters
    digest: str  # changes with any of the files

    @property
    def curve(self) -> str:
        return CURVES[self.model]


def options_file(root: Path, benchmark: Benchmark, model: str) -> Path:
    return root / "Weights" / benchmark.name / "rivals" / f"{benchmark.task}_{model}.json"


def weights_file(root: Path, benchmark: Benchmark, model: str, rate: int) -> Path:
    return options_file(root, benchmark, model).with_name(f"{benchmark.task}_{model}_{rate}.safetensors")


@torch.no_grad()
def _rounded(model: nn.Module) -> nn.Module:
    """A copy with parameters rounded to float16, and tables of the coder that fit them.

    Buffers stay: bounds such as 1e-9 would become 0.
    """
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.copy_(parameter.half())
    model.update(force=True)
    return model


def write(job, rate: int, architecture: dict, model: nn.Module) -> Path:
    """One rate's weights, the options of all rates so far, and their checksums; the options come last."""
    model = _rounded(model)
    parameters = {name for name, _ in model.named_parameters()}
    state = {name: (value.half() if name in parameters else value).contiguous()
             for name, value in model.state_dict().items()}
    path = weights_file(job.root, job.benchmark, job.model, rate)
    write_whole(path, save(state))
    options = {"model": job.model, "architecture": architecture, "recipe": asdict(job.recipe), "rates": rate + 1,
               "network": fingerprint(job.network) if job.network else None}
    listed = options_file(job.root, job.benchmark, job.model)
    write_json(listed, options)
    record_checksums(job.benchmark.name, [path, listed], job.root)
    return path


def read(root: Path, benchmark: Benchmark, model: str) -> Trained:
    """A rival's files, checked; SpicError that says what to do when they are absent or altered."""
    advice = f"train it: spic rivals learned train --model {model} --task {benchmark.task} " \
             f"--benchmark {benchmark.name}"
    listed = verify_file(options_file(root, benchmark, model), benchmark.name, advice, root)
    files = []
    try:
        options = json.loads(listed.read_text())
        for rate in range(options["rates"]):
            path = weights_file(root, benchmark, model, rate)
            files.append(verify_file(path, benchmark.name, advice, root))
        loaded = tuple(_load(benchmark, options, path) for path in files)
        digest = "-".join(sha256(path)[:6] for path in files)
        return Trained(model, loaded, options["recipe"], options["network"], digest)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise SpicError(f"{listed}: not the options of a {model} ({reason(error)}); {advice}") from None


def _load(benchmark: Benchmark, options: dict, path: Path) -> nn.Module:
    model = rivals.NETWORKS[options["model"]](**options["architecture"])
    if options["recipe"]["finetune"] == "all":
        empty, image = benchmark.build_network("random"), torch.zeros(1, 3, *benchmark.image_size)
        model.rest = cut(empty, options["recipe"]["cut"], image)[1]
    load_strictly(model, load_file(path), path)
    return model.eval().requires_grad_(False)
