"""Training of the learned rivals: random crops of the benchmark's training pictures, rate after rate.

Deterministic under the seed. An interrupted run resumes at the last epoch of the rate it was at.
"""

from __future__ import annotations

import copy
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from spic.rivals.learned import networks, store
from spic.rivals.learned.lessons import LESSONS, example
from spic.rivals.learned.networks import NETWORKS
from spic.rivals.learned.recipes import Recipe
from spic.benchmarks import Benchmark
from spic.errors import SpicError
from spic.networks import cut
from spic.tasks import TASKS
from spic.training.checkpoint import Run
from spic.networks.weights import fingerprint
from spic.training.pictures import Pictures
from spic.training.schedule import BOTTLENECK

CLIP = 1.0  # of the gradient's norm, as in compressai's example of training
SPREAD = 3.0  # of the first latents: at the usual 0.1 a short training must first lift them over the noise of rounding


@dataclass(frozen=True)
class Job:
    """A rival to be trained for a benchmark: where its pictures, checkpoints and weights lie."""

    model: str
    benchmark: Benchmark
    recipe: Recipe
    runs: Path
    root: Path
    data: Path | None = None
    backbone_weights: Path | None = None

    @cached_property
    def network(self) -> nn.Module | None:
        """The frozen network; picture codecs need none."""
        if not self.recipe.cut:
            return None
        return self.benchmark.build_network(self.backbone_weights).to(memory_format=torch.channels_last)

    @cached_property
    def pictures(self) -> Pictures:
        source = self.benchmark.training
        return read_pictures(source.open(self.data, source.bottlenecks, self.recipe.limit), self.recipe.crop)

    def architecture(self) -> dict:
        front = cut(self.network, self.recipe.cut, example(networks.SIDE))[0] if self.network else None
        return NETWORKS[self.model].architecture(front, self.recipe.hidden, self.recipe.latent)

    def checkpoint(self, rate: int, stage: int) -> Run:
        name = f"{self.benchmark.name}_{self.benchmark.task}_{self.model}_{rate}_{stage}.pt"
        known = {"data": len(self.pictures), "network": fingerprint(self.network) if self.network else None}
        recipe = {**asdict(self.recipe), "lambdas": self.recipe.lambdas[: rate + 1]}  # more rates may follow later
        return Run(self.runs / name, {**recipe, "stage": stage, **known})


def read_pictures(dataset, crop: int) -> Pictures:
    """All pictures as the network would see them, uint8 [3, H, W], and their targets, decoded once."""

    def load(index: int) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(dataset.pixels(index).copy()).permute(2, 0, 1)
        return pixels, torch.as_tensor(dataset.label(index)).to(torch.int16)

    if crop > min(dataset.image_size):
        raise SpicError(f"--crop {crop}: the pictures have only {min(dataset.image_size)} rows or columns")
    with ThreadPoolExecutor() as pool:
        items = list(tqdm(pool.map(load, range(len(dataset))), "reading pictures", len(dataset), unit="img"))
    return Pictures(*map(list, zip(*items)))


def crops(pictures: Pictures, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Random windows, mirrored or not, of random pictures: uint8 [B, 3, size, size] and labels [B] or masks."""
    images, targets = [], []
    for index in torch.randint(len(pictures), (count,)).tolist():
        image, target = pictures.images[index], pictures.targets[index]
        top, left = (int(torch.randint(side - size + 1, ())) for side in image.shape[-2:])
        window = (..., slice(top, top + size), slice(left, left + size))
        image, target = image[window], target[window] if target.ndim else target
        if torch.rand(()) < 0.5:
            image, target = image.flip(-1), target.flip(-1) if target.ndim else target
        images.append(image)
        targets.append(target)
    return torch.stack(images), torch.stack(targets).long()


def train(job: Job) -> list[Path]:
    """All rates of a rival, and their files; what an earlier run finished is read back."""
    architecture = job.architecture()
    torch.manual_seed(job.recipe.seed)  # behind the network, which may have drawn numbers of its own
    model = NETWORKS[job.model](**architecture).to(memory_format=torch.channels_last)
    _spread_latents(job, model)
    files = []
    for rate in range(len(job.recipe.lambdas)):
        finished = _train_rate(job, rate, model)
        files.append(store.write(job, rate, architecture, finished))
    return files


@torch.no_grad()
def _spread_latents(job: Job, model: nn.Module) -> None:
    """Scale the encoder's last layer for latents of a deviation of SPREAD."""
    encoder = model.edge_modules()[0]
    images, _ = crops(job.pictures, job.recipe.batch_size, job.recipe.crop)
    encoder[-1].weight.mul_(SPREAD / encoder(model.scaled(images)).std())


def _train_rate(job: Job, rate: int, model: nn.Module) -> nn.Module:
    """Train ``model`` in place by the first lesson; the result has been through all of them and is ready to code."""
    recipe, (first, *later) = job.recipe, LESSONS[job.model]
    lesson = first(model, recipe.lambdas[rate], job.network, recipe)
    _fit(job, lesson, rate, 0, recipe.refine if rate else recipe.epochs)
    finished = copy.deepcopy(model)
    finished.update(force=True, update_quantiles=True)
    if recipe.finetune == "all":
        finished.rest = cut(copy.deepcopy(job.network), recipe.cut, example(recipe.crop))[1]
    for stage, lesson in enumerate(later, 1):
        lesson = lesson(finished, recipe.lambdas[rate], job.network, recipe, TASKS[job.benchmark.task].loss)
        _fit(job, lesson, rate, stage, recipe.finetune_epochs)
    return finished.eval()


def _fit(job: Job, lesson, rate: int, stage: int, epochs: int) -> None:
    recipe, run = job.recipe, job.checkpoint(rate, stage)
    peak = recipe.finetune_lr if stage else recipe.lr
    optimizer = torch.optim.Adam(lesson.groups, lr=peak)
    first = run.restore(**lesson.learning, optimizer=optimizer)
    batches = math.ceil(recipe.epoch_size / recipe.batch_size)
    title = f"{job.model} {recipe.lambdas[rate]:g} {type(lesson).__name__.lower()}"
    with tqdm(total=epochs * batches, initial=first * batches, desc=title, unit="batch", mininterval=1) as bar:
        for epoch in range(first, epochs):
            torch.manual_seed(((recipe.seed * 256 + rate) * 8 + stage) * 10_007 + epoch)  # the same if resumed
            for number in range(batches):
                for group in optimizer.param_groups:
                    group["lr"] = group["factor"] * BOTTLENECK((epoch + number / batches) / epochs, peak)
                terms = _step(lesson, optimizer, crops(job.pictures, recipe.batch_size, recipe.crop))
                if not math.isfinite(terms["loss"]):
                    raise SpicError(f"{title}: the loss is no longer a number in epoch {epoch + 1}; the checkpoint "
                                    f"of epoch {epoch} is kept: start anew with a lower --lr and another --runs")
                bar.set_postfix({name: f"{value:.4g}" for name, value in terms.items()}, refresh=False)
                bar.update()
            run.save(epoch + 1, **lesson.learning, optimizer=optimizer)


def _step(lesson, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
    with torch.autocast("cpu", torch.bfloat16):
        terms = lesson.loss(*batch)
    optimizer.zero_grad()
    if math.isfinite(terms["loss"].item()):
        terms["loss"].backward()
        nn.utils.clip_grad_norm_([p for group in lesson.groups for p in group["params"]], CLIP)
        optimizer.step()
    return {name: value.item() for name, value in terms.items()}
