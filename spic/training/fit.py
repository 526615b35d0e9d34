"""The fit loop: a bottleneck behind a frozen front and before a frozen back, distortion + lambda * estimated bpp.

    feature --> encoder --> y --+--> rounded to the step --> decoder --> back --> distortion
                                +--> rate estimator ----------------------------> bpp

Only encoder, decoder and estimator learn. Deterministic under the seed: a run that is interrupted anywhere resumes at its
last checkpoint and ends as if it had never stopped, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from spic import parallel
from spic.bottleneck import Bottleneck
from spic.errors import SpicError
from spic.networks.cut import answers
from spic.training import log as logs
from spic.training.checkpoint import Run
from spic.training.distortion import TASK, Output, matched
from spic.training.features import FeatureSet
from spic.training.precision import autocast, fast_dtype
from spic.training.rate import make_estimator
from spic.training.schedule import BOTTLENECK

ESTIMATOR_LR = 5.0  # times the bottleneck's: densities have few parameters, and a long way to their place
LEAST_SIZE = 1e-3  # of weights that begin at 0
LINES = 40  # of a log
CHECKPOINT_SECONDS = 20.0
CPU = torch.device("cpu")
Tick = Callable[[int, Tensor | None], None]
"""Is told how many more steps are done, and the terms of the last one."""


@dataclass(frozen=True)
class Options:
    """How one bottleneck is trained. step: of the quantiser. weight: lambda, the distortion (nats) that one bit per input
    pixel may cost. steps: length of the training, in batches; 0: the closed form as it is. lr: the peak of the learning
    rate; from a closed form on, as a share of a weight's own size."""

    step: float
    weight: float
    rate: str = "table"
    distortion: str = "task"
    steps: int = 2000
    batch_size: int = 64
    lr: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class Terms:
    """The parts of one batch's loss."""

    distortion: Tensor
    bpp: Tensor
    loss: Tensor


class History(nn.Module):
    """What every step so far cost: float64 [steps, 3] of distortion, bpp and loss. A module, so that checkpoints keep it."""

    NAMES = ("distortion", "bpp", "loss")

    def __init__(self, steps: int):
        super().__init__()
        self.register_buffer("terms", torch.zeros(steps, len(self.NAMES), dtype=torch.float64))

    def means(self, first: int, stop: int) -> dict[str, float]:
        """The mean of each term over some steps."""
        return dict(zip(self.NAMES, self.terms[first:stop].mean(0).tolist()))


class Trainee(nn.Module):
    """What learns: the bottleneck and its rate estimator, between a frozen front's features and a frozen back.

    loss: (logits, targets) -> scalar, of the task; asked where the distortion is TASK alone. pixels: of the input
    behind what a batch shows of one picture.
    """

    def __init__(self, bottleneck: Bottleneck, back: fx.GraphModule, options: Options, pixels: int, loss: Callable | None):
        super().__init__()
        self.bottleneck = bottleneck
        self.estimator = make_estimator(options.rate, bottleneck.encoder)
        self.options, self.pixels, self.loss = options, pixels, loss
        self.history = History(options.steps)
        self.against, layer = matched(options.distortion)
        self._back = [answers(back.eval().requires_grad_(False), layer)]  # in a list: not a part that learns or is saved

    def forward(self, feature: Tensor, target: Tensor | None) -> Terms:
        options, encoder, decoder = self.options, self.bottleneck.encoder, self.bottleneck.decoder
        # fp32 for the bottleneck: depthwise convolutions in bf16 take 4 to 10 times as long on a CPU
        with torch.autocast(feature.device.type, enabled=False):
            y = encoder(feature) / options.step
            rounded = y + (y.round() - y).detach()
            decoded = decoder.place(decoder(rounded * options.step), tuple(encoder.planes.open(feature).shape[-2:]))
        student = self._answer_fast(decoded)
        distortion = self.against(student, self._teacher(feature)) if self.against else self.loss(student.logits, target)
        bpp = self.estimator(y).mean() / self.pixels
        return Terms(distortion, bpp, distortion + options.weight * bpp)

    @torch.no_grad()
    def _teacher(self, feature: Tensor) -> Output:
        return self._answer_fast(feature)

    def _answer_fast(self, feature: Tensor) -> Output:
        """In the fast type from the first layer on: a float32 feature would be cast anew at every residual sum."""
        dtype = fast_dtype(feature.device)
        with autocast(feature.device, dtype):
            logits, hidden = self._back[0](feature.to(dtype))
        return Output(logits.float(), None if hidden is None else hidden.float())


def fit(bottleneck: Bottleneck, back: fx.GraphModule, data: FeatureSet, options: Options, loss: Callable | None = None,
        run: Run | None = None, log: Path | None = None, device: torch.device = CPU, tick: Tick | None = None) -> Trainee:
    """Train ``bottleneck`` (in place) on ``data``; what learned, in evaluation mode, with the ``history`` of its steps.

    back: as ``spic.networks.cut`` gives it. loss: the task's. run: holds the checkpoint, written every 20 seconds. log:
    gets 40 JSON lines. tick: for a progress bar. SpicError: too few pictures, a loss that is no number, a checkpoint of another run.
    """
    _check_sizes(data, options)
    torch.manual_seed(options.seed)
    layout = {"device": device, "memory_format": torch.channels_last}
    trainee = Trainee(bottleneck.to(**layout), back.to(**layout), options, data.pixels, loss).to(device)
    parallel.join(trainee)
    history = trainee.history
    optimizer = torch.optim.Adam([*_groups(trainee.bottleneck),
                                  {"params": list(trainee.estimator.parameters()), "factor": ESTIMATOR_LR}], lr=options.lr)
    parts = {"bottleneck": trainee.bottleneck, "estimator": trainee.estimator, "optimizer": optimizer, "history": history}
    done = run.restore(**parts) if run else 0
    keeper = _Keeper(options, history, run, log, parts, done)
    tick = tick or (lambda steps, terms: None)
    tick(done, None)
    for step, indices, place in batches(data, options, done):
        history.terms[step] = _learn(trainee.train(), optimizer, data, step, indices, place, device)
        keeper.after(step + 1, BOTTLENECK(step / options.steps, options.lr))
        tick(1, history.terms[step])
    return trainee.eval()


def _groups(bottleneck: Bottleneck) -> list[dict]:
    """The parameters, and how many times the learning rate is theirs.

    A step of Adam is about as large as the learning rate, whatever the gradient: weights with units of their own are moved
    by a share of their size instead (the relative step of Adafactor, Shazeer and Stern 2018).
    """
    if not bottleneck.encoder.scaled:
        return [{"params": list(bottleneck.parameters()), "factor": 1.0}]
    return [{"params": [weights], "factor": max(float(weights.detach().pow(2).mean().sqrt()), LEAST_SIZE)}
            for weights in bottleneck.parameters()]


class _Keeper:
    """Writes the log and the checkpoints of one run; only the first process does."""

    def __init__(self, options: Options, history: History, run: Run | None, log: Path | None, parts: dict, done: int):
        self.steps, self.history, self.parts = options.steps, history, parts
        self.run, self.log = (run, log) if parallel.rank() == 0 else (None, None)
        self.logged, self.saved, self.line_began = done * LINES // options.steps, time.monotonic(), time.monotonic()
        if self.log:
            logs.go_back(self.log, done)

    def after(self, done: int, lr: float) -> None:
        """To be called when ``done`` steps are done."""
        line = done * LINES // self.steps
        if self.log and line > self.logged:
            now, first = time.monotonic(), -(-self.logged * self.steps // LINES)
            logs.note(self.log, {"step": done, **self.history.means(first, done), "lr": lr, "seconds": now - self.line_began})
            self.logged, self.line_began = line, now
        if self.run and (done == self.steps or time.monotonic() - self.saved > CHECKPOINT_SECONDS):
            self.run.save(done, **self.parts)
            self.saved = time.monotonic()


def batches_per_epoch(pictures: int, batch_size: int) -> int:
    """Batches of one pass over the pictures; a last one too small for BatchNorm's statistics is left out."""
    full, rest = divmod(pictures, batch_size)
    return full + (rest > 1 and rest >= batch_size // 2 or not full)


def batches(data: FeatureSet, options: Options, first: int = 0) -> Iterator[tuple[int, Tensor, tuple | None]]:
    """(step, indices, place of the window) of every step from ``first`` on: the same ones, resumed or not, in all processes."""
    count = batches_per_epoch(len(data), options.batch_size)
    for epoch in range(first // count, -(-options.steps // count)):
        seed = options.seed * 10_007 + epoch
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        places = torch.Generator().manual_seed(seed)
        for number in range(count):
            step, place = epoch * count + number, data.place(places)
            if first <= step < options.steps:
                yield step, order[number * options.batch_size:(number + 1) * options.batch_size], place


def _learn(trainee: Trainee, optimizer, data: FeatureSet, step: int, indices: Tensor, place, device) -> Tensor:
    """One step on a batch, of which each process takes its share; the terms of the whole batch, float64 [3]."""
    options = trainee.options
    for group in optimizer.param_groups:
        group["lr"] = BOTTLENECK(step / options.steps, options.lr) * group["factor"]
    torch.manual_seed((options.seed * 1_000_003 + step) % 2**63)  # the noise of this step, whether resumed or not
    mine = parallel.share(indices)
    feature, target = data.batch(mine, place)
    terms = trainee(data.laid_out(feature.to(device).float()),
                    None if target is None or options.distortion != TASK else target.to(device))
    part = len(mine) / len(indices)
    whole = parallel.sum_over_ranks(torch.stack([terms.distortion, terms.bpp, terms.loss]).detach().cpu() * part)
    if not whole.isfinite().all():
        raise SpicError(f"the loss is no longer a number in step {step + 1} of {options.steps} (lambda {options.weight:g}, "
                        f"learning rate {options.lr:g}); train again with a lower --lr, or another --step")
    optimizer.zero_grad()
    (terms.loss * part).backward()
    parallel.add_gradients(trainee)
    nn.utils.clip_grad_norm_(trainee.parameters(), 5.0)
    optimizer.step()
    return whole.double()


def _check_sizes(data: FeatureSet, options: Options) -> None:
    if len(data) < 2:
        raise SpicError("one picture is not enough to train on: BatchNorm needs two, and a curve some hundreds")
    smallest = min(len(data), max(2, options.batch_size // 2))
    if smallest < parallel.world():
        raise SpicError(f"{parallel.world()} processes, but batches can be as small as {smallest}; "
                        "start fewer processes or raise --batch_size")


def identity(options: Options, device: torch.device = CPU, **more) -> dict:
    """What a checkpoint is checked against when a run is resumed."""
    return {**asdict(options), "precision": str(fast_dtype(device)), **more}
