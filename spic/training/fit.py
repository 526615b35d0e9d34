"""The fit loop: a bottleneck behind a frozen front and before a frozen back, distortion + lambda * estimated bpp.

    feature --> encoder --> y --+--> rounded to the step --> decoder --> back --> distortion
                                +--> rate estimator ----------------------------> bpp

Only encoder, decoder and estimator learn. Deterministic under the seed; an interrupted run resumes at the last epoch.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from spic import parallel
from spic.bottleneck import Bottleneck
from spic.errors import SpicError
from spic.training import together
from spic.training.checkpoint import Run
from spic.training.distortion import Answer, answer, distill_loss, task_loss
from spic.training.features import FeatureSet
from spic.training.log import note
from spic.training.rate import ESTIMATORS

DISTORTIONS = ("task", "distill")
WARM_UP = 0.1  # share of the run in which the learning rate rises
ESTIMATOR_LR = 5.0  # times the bottleneck's: densities have few parameters and a far way to go


@dataclass(frozen=True)
class Options:
    """How one bottleneck is trained. ``weight`` is lambda: distortion (nats) one may pay for a bit per input pixel."""

    step: float
    weight: float
    rate: str = "table"
    distortion: str = "task"
    epochs: int = 12
    batch_size: int = 64
    lr: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class Terms:
    """The parts of one batch's loss."""

    distortion: Tensor
    bpp: Tensor
    loss: Tensor


class Trainee(nn.Module):
    """What learns: the bottleneck and its rate estimator, between a frozen front's features and a frozen back."""

    def __init__(self, bottleneck: Bottleneck, back: nn.Module, options: Options, pixels: int):
        super().__init__()
        self.bottleneck = bottleneck
        self.estimator = ESTIMATORS[options.rate](bottleneck.encoder.pointwise.out_channels)
        self.options, self.pixels = options, pixels
        self._back = [back.eval().requires_grad_(False)]  # in a list: not a part that learns or is saved

    def forward(self, feature: Tensor, target: Tensor | None) -> Terms:
        back, options = self._back[0], self.options
        # fp32 for the bottleneck: depthwise convolutions in bf16 take 4 to 10 times as long on a CPU
        with torch.autocast(feature.device.type, enabled=False):
            y = self.bottleneck.encoder(feature) / options.step
            rounded = y + (y.round() - y).detach()
            decoded = self.bottleneck.decoder(rounded * options.step)
        student = _answer_fast(back, decoded)
        distortion = task_loss(student, target) if options.distortion == "task" else \
            distill_loss(student, self._teacher(feature))
        bpp = self.estimator(y).mean() / self.pixels
        return Terms(distortion, bpp, distortion + options.weight * bpp)

    @torch.no_grad()
    def _teacher(self, feature: Tensor) -> Answer:
        return _answer_fast(self._back[0], feature)


def _answer_fast(back: nn.Module, feature: Tensor) -> Answer:
    """In bfloat16 from the first layer on: a float32 feature would be cast anew at every residual sum."""
    with torch.autocast(feature.device.type, torch.bfloat16):
        return answer(back, feature.bfloat16())


def fit(bottleneck: Bottleneck, back: nn.Module, data: FeatureSet, options: Options, run: Run | None = None,
        log: Path | None = None, device: torch.device = torch.device("cpu"), quiet: bool = False) -> Trainee:
    """Train ``bottleneck`` (in place) on ``data``; ``run`` holds the checkpoint, ``log`` gets a JSON line per epoch."""
    torch.manual_seed(options.seed)
    layout = {"device": device, "memory_format": torch.channels_last}
    trainee = Trainee(bottleneck.to(**layout), back.to(**layout), options, data.pixels).to(device)
    _check_shares(data, options)
    together.join(trainee)
    groups = [{"params": list(trainee.bottleneck.parameters()), "factor": 1.0},
              {"params": list(trainee.estimator.parameters()), "factor": ESTIMATOR_LR}]
    optimizer = torch.optim.Adam(groups, lr=options.lr)
    first = run.restore(trainee=trainee, optimizer=optimizer) if run else 0
    with tqdm(total=options.epochs * _batches(data, options), initial=first * _batches(data, options), unit="batch",
              desc="fit", disable=quiet or parallel.rank() > 0, mininterval=1) as bar:
        for epoch in range(first, options.epochs):
            start = time.perf_counter()
            means = _epoch(trainee, optimizer, data, epoch, bar, device)
            if log and parallel.rank() == 0:
                note(log, {"epoch": epoch + 1, **means, "lr": optimizer.param_groups[0]["lr"],
                           "seconds": time.perf_counter() - start})
            if run and parallel.rank() == 0:
                run.save(epoch + 1, trainee=trainee, optimizer=optimizer)
    return trainee.eval()


def _batches(data: FeatureSet, options: Options) -> int:
    """Batches of an epoch; a last one too small for BatchNorm's statistics is left out."""
    full, rest = divmod(len(data), options.batch_size)
    return full + (rest > 1 and rest >= options.batch_size // 2 or not full)


def _epoch(trainee: Trainee, optimizer, data: FeatureSet, epoch: int, bar: tqdm, device) -> dict[str, float]:
    options = trainee.options
    torch.manual_seed(options.seed * 10_007 + epoch)  # the noise of this epoch, whether resumed or not
    order = torch.randperm(len(data))
    places = torch.Generator().manual_seed(options.seed * 10_007 + epoch)  # of windows: alike in all processes
    trainee.train()
    sums, count = {"distortion": 0.0, "bpp": 0.0, "loss": 0.0}, _batches(data, options)
    for number in range(count):
        indices = order[number * options.batch_size:(number + 1) * options.batch_size]
        rate = learning_rate((epoch + number / count) / options.epochs, options.lr)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        terms = _step(trainee, optimizer, data, indices, places, device)
        if not math.isfinite(terms["loss"]):
            raise SpicError(f"the loss is no longer a number in epoch {epoch + 1}, batch {number + 1}; the "
                            f"checkpoint of epoch {epoch} is kept: resume with a lower learning rate or lambda")
        sums = {name: sums[name] + terms[name] for name in sums}
        bar.set_postfix({"distortion": f"{terms['distortion']:.4f}", "rate": f"{options.weight * terms['bpp']:.4f}",
                         "bpp": f"{terms['bpp']:.5f}"}, refresh=False)
        bar.update()
    return {name: value / count for name, value in sums.items()}


def _step(trainee: Trainee, optimizer, data: FeatureSet, indices: Tensor, places, device) -> dict[str, float]:
    """One step on a batch, of which each process takes its share; the terms are those of the whole batch."""
    mine = together.share(indices)
    feature, target = data.batch(mine, places)
    feature = feature.to(device).float().contiguous(memory_format=torch.channels_last)
    target = None if target is None or trainee.options.distortion != "task" else target.to(device)
    terms = trainee(feature, target)
    part = len(mine) / len(indices)
    whole = parallel.sum_over_ranks(torch.stack([terms.distortion, terms.bpp, terms.loss]).detach().cpu() * part)
    optimizer.zero_grad()
    if math.isfinite(whole[-1].item()):
        (terms.loss * part).backward()
        together.add_gradients(trainee)
        nn.utils.clip_grad_norm_(trainee.parameters(), 5.0)
        optimizer.step()
    return dict(zip(("distortion", "bpp", "loss"), whole.tolist()))


def _check_shares(data: FeatureSet, options: Options) -> None:
    smallest = min(len(data), max(2, options.batch_size // 2))
    if smallest < parallel.world():
        raise SpicError(f"{parallel.world()} processes, but batches can be as small as {smallest}; "
                        "start fewer processes or raise --batch_size")


def learning_rate(progress: float, peak: float) -> float:
    """Rises linearly, then falls as a cosine to a hundredth; ``progress`` from 0 to 1."""
    if progress < WARM_UP:
        return peak * (0.1 + 0.9 * progress / WARM_UP)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))))


def identity(options: Options, **more) -> dict:
    """What a checkpoint is checked against when a run is resumed."""
    return {**asdict(options), **more}
