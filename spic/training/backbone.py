"""Trains the backbones of the benchmarks from scratch, on a CPU or a GPU.

    python -m spic.training.backbone --benchmark imagenette --task classification --data imagenette-160

SGD with Nesterov momentum, a one-cycle learning rate, label smoothing, growing pictures; batches of pictures held
in memory. Interrupted runs resume from the last epoch to the same result.
Output: Weights/<benchmark>/<task>.safetensors.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from spic.errors import SpicError
from spic.files import record_checksums, write_whole
from spic.networks import NETWORKS
from spic.points import ROOT
from spic.training import checkpoint, parallel
from spic.training.augment import RandomCrop, augmented
from spic.training.sources import SOURCES

WARM_UP = 0.15  # share of all iterations in which the learning rate rises


@dataclass(frozen=True)
class Recipe:
    """How one backbone is trained; ``stages`` are (epochs, picture size)."""

    width: float
    classes: int
    stages: tuple[tuple[int, int], ...]
    cropping: RandomCrop
    batch: int = 96
    lr: float = 0.15
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    cycles: int = 1  # of the learning rate
    start: str | None = None  # benchmark/task whose backbone gives the first weights

    @property
    def epochs(self) -> int:
        return sum(epochs for epochs, _ in self.stages)

    def size(self, epoch: int) -> int:
        """Picture size in an epoch counted from 0."""
        for epochs, size in self.stages:
            if epoch < epochs:
                return size
            epoch -= epochs
        return self.stages[-1][1]


_PHOTO_CROPS = RandomCrop((0.3, 1.0))
_OBJECT_CROPS = RandomCrop((0.5, 1.0), of_square=True)
RECIPES = {
    ("imagenette", "classification"): Recipe(0.5, 10, ((15, 96), (22, 128), (3, 144)), _PHOTO_CROPS),
    ("scenes", "classification"): Recipe(0.25, 100, ((8, 96), (7, 128), (4, 192)), _OBJECT_CROPS, batch=96),
    ("scenes", "segmentation"): Recipe(0.25, 21, ((14, 257),), RandomCrop((0.12, 0.3), 1.2), batch=24, lr=0.05,
                                       cycles=2, smoothing=0.0, start="scenes/classification"),
    ("camvid", "segmentation"): Recipe(0.5, 11, ((30, 193), (20, 257)), RandomCrop((0.15, 0.7)), batch=12, lr=0.03,
                                       smoothing=0.0, start="imagenette/classification"),
}


def weights_file(benchmark: str, task: str) -> Path:
    return ROOT / "Weights" / benchmark / f"{task}.safetensors"


def build(recipe: Recipe, task: str, seed: int) -> nn.Module:
    """The network with its first weights: random under the seed, or those of the backbone it starts from."""
    torch.manual_seed(seed)
    network = NETWORKS[task](recipe.width, recipe.classes)
    if recipe.start:
        _start_from(network, weights_file(*recipe.start.split("/")))
    else:
        for module in network.modules():
            if hasattr(module, "bn3"):
                nn.init.zeros_(module.bn3.weight)  # every residual block starts as the identity
    return network.to(memory_format=torch.channels_last)


def _start_from(network: nn.Module, path: Path) -> None:
    if not path.exists():
        raise SpicError(f"{path}: no such file; train that backbone first")
    weights = {name: value.float() for name, value in load_file(path).items() if not name.startswith("fc.")}
    network.backbone.load_state_dict(weights)


def optimizer_for(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """No weight decay on biases and BatchNorm."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)


def learning_rate(progress: float, peak: float) -> float:
    """One cycle: rises linearly, falls as a cosine; ``progress`` from 0 to 1."""
    if progress < WARM_UP:
        return peak * (0.02 + 0.98 * progress / WARM_UP)
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def _train_epoch(team, network, optimizer, recipe: Recipe, pictures, epoch: int, seed: int) -> float:
    """One pass over the pictures; every process takes its share of each batch. Mean loss of this process."""
    generator = torch.Generator().manual_seed(seed * 10_007 + epoch)
    order = torch.randperm(len(pictures), generator=generator)
    rank, share = team.rank, recipe.batch // team.size
    generator.manual_seed(generator.initial_seed() * 101 + rank)
    whole = order[:len(order) // recipe.batch * recipe.batch].view(-1, recipe.batch)
    batches = whole[:, rank * share:(rank + 1) * share].tolist()
    network.train()
    title = f"epoch {epoch + 1}/{recipe.epochs}"
    total, bar = 0.0, tqdm(batches, title, unit="batch", mininterval=2, disable=rank > 0)
    for number, indices in enumerate(bar):
        progress = (epoch + number / len(batches)) / recipe.epochs
        rate = learning_rate(progress * recipe.cycles % 1, recipe.lr)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = augmented(pictures, indices, recipe.cropping, recipe.size(epoch), generator)
        loss = _step(team, network, optimizer, recipe, batch)
        total += loss
        bar.set_postfix(loss=f"{loss:.3f}", lr=f"{rate:.4f}", refresh=False)
    team.mean_statistics(network)
    return total / len(batches)


def _step(team, network, optimizer, recipe: Recipe, batch) -> float:
    images, targets = batch
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images)
    loss = F.cross_entropy(logits.float(), targets, ignore_index=recipe.classes, label_smoothing=recipe.smoothing)
    if not math.isfinite(loss.item()):
        raise SpicError("the loss is not a finite number; resume from the last checkpoint with a lower learning rate")
    optimizer.zero_grad()
    loss.backward()
    team.mean_gradients(network)
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return loss.item()


def score(team, network: nn.Module, pictures, classes: int, batch: int = 25) -> float:
    """Top-1 in percent for labels, mean IoU (0 to 1) for masks; targets of `classes` or more are not scored."""
    network.eval()
    confusion = torch.zeros(classes, classes)
    indices = range(team.rank, len(pictures), team.size)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(indices), batch):
            chosen = indices[start:start + batch]
            targets = torch.stack([pictures.targets[i] for i in chosen]).long()
            images = torch.stack([pictures.images[i] for i in chosen]).float()
            found = network(images.contiguous(memory_format=torch.channels_last)).argmax(1)
            known = targets < classes
            confusion += torch.bincount(targets[known] * classes + found[known],
                                        minlength=classes * classes).view(classes, classes)
    team.mean([confusion])
    return _top1_or_miou(confusion, masks=pictures.targets[0].ndim > 0)


def _top1_or_miou(confusion: torch.Tensor, masks: bool) -> float:
    hits = confusion.diag().double()
    if not masks:
        return 100 * (hits.sum() / confusion.sum()).item()
    union = confusion.sum(0) + confusion.sum(1) - hits
    return (hits / union)[union > 0].mean().item()


def train(benchmark: str, task: str, data: Path | None, runs: Path, seed: int = 0, processes: int = 1) -> None:
    """Train (or resume) one backbone, write its weights, and print its score on the evaluation pictures."""
    source = SOURCES[benchmark, task]
    parallel.launch(_train, processes, benchmark, task, source.training(data), source.evaluation(data), runs, seed)


def _train(team, benchmark: str, task: str, training, evaluation, runs: Path, seed: int) -> None:
    recipe = RECIPES[benchmark, task]
    network = build(recipe, task, seed)
    optimizer = optimizer_for(network, recipe)
    identity = {"recipe": repr(recipe), "seed": seed, "processes": team.size}
    state = checkpoint.Run(runs / f"{benchmark}_{task}.pt", identity)
    first = state.restore(network=network, optimizer=optimizer)
    for epoch in range(first, recipe.epochs):
        loss = _train_epoch(team, network, optimizer, recipe, training, epoch, seed)
        last = epoch + 1 == recipe.epochs
        result = score(team, network, evaluation, recipe.classes) if last or epoch % 3 == 2 else math.nan
        if team.rank == 0:
            state.save(epoch + 1, network=network, optimizer=optimizer)
            tqdm.write(f"{benchmark} {task} epoch {epoch + 1}: loss {loss:.4f}, score {result:.4f}")
    if team.rank == 0:
        write_weights(network, benchmark, task)


def write_weights(network: nn.Module, benchmark: str, task: str) -> None:
    """float16 halves the files; loading converts back, and the lost digits lie far below those of training."""
    half = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    path = weights_file(benchmark, task)
    write_whole(path, save({name: value.contiguous() for name, value in half.items()}))
    record_checksums(benchmark, [path], ROOT)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m spic.training.backbone", description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--benchmark", choices=sorted({key[0] for key in RECIPES}), required=True)
    parser.add_argument("--task", choices=sorted({key[1] for key in RECIPES}), required=True)
    parser.add_argument("--data", type=Path, help="folder of the public data set; scenes are drawn")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=parallel.cores(), help="one core each; they share every batch")
    args = parser.parse_args(argv)
    try:
        if (args.benchmark, args.task) not in RECIPES:
            raise SpicError(f"{args.benchmark} has no {args.task} task")
        train(**vars(args))
    except SpicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
