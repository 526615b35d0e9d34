"""Trains the networks of the benchmarks from scratch, on a CPU: the command `spic backbone`.

    spic backbone --benchmark imagenette --task classification --data imagenette-160

SGD with Nesterov momentum, a one-cycle learning rate, label smoothing, growing pictures; batches of pictures held in memory.
Interrupted runs resume at the last epoch to the same result. Output: Weights/<benchmark>/<task>.safetensors.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from spic import parallel
from spic.benchmarks import Benchmark, Recipe, benchmarks, find
from spic.commands import Parser, guarded, natural, positive
from spic.errors import SpicError
from spic.files import record_checksums, write_whole
from spic.machine import cores
from spic.networks import zoo
from spic.networks.weights import read_state_dict
from spic.points import ROOT
from spic.tasks import TASKS, Metric
from spic.training import checkpoint
from spic.training.augment import augmented
from spic.training.pictures import evaluation_pictures, training_pictures
from spic.training.precision import autocast, fast_dtype
from spic.training.schedule import NETWORK

CPU = torch.device("cpu")


def build(benchmark: Benchmark, seed: int) -> nn.Module:
    """The network with its first weights: random under the seed, or those of the network that its recipe starts from."""
    torch.manual_seed(seed)
    network = zoo.find(benchmark.network).make(benchmark.num_classes)
    if benchmark.recipe.start:
        _start_from(network, find(*benchmark.recipe.start).backbone_file)
    else:
        for module in network.modules():
            if hasattr(module, "bn3"):
                nn.init.zeros_(module.bn3.weight)  # every residual block starts as the identity
    return network.to(memory_format=torch.channels_last)


def _start_from(network: nn.Module, path: Path) -> None:
    if not path.exists():
        raise SpicError(f"{path}: no such file; train that backbone first")
    weights = {name: value.float() for name, value in read_state_dict(path).items() if not name.startswith("fc.")}
    network.backbone.load_state_dict(weights)


def optimizer_for(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """No weight decay on biases and BatchNorm."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)


def _train_epoch(team, network, optimizer, recipe: Recipe, classes: int, pictures, epoch: int, seed: int) -> float:
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
        rate = NETWORK(progress * recipe.cycles % 1, recipe.lr)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = augmented(pictures, indices, recipe.cropping, recipe.size(epoch), generator)
        loss = _step(team, network, optimizer, recipe, classes, batch)
        total += loss
        bar.set_postfix(loss=f"{loss:.3f}", lr=f"{rate:.4f}", refresh=False)
    team.mean_statistics(network)
    return total / len(batches)


def _step(team, network, optimizer, recipe: Recipe, classes: int, batch) -> float:
    images, targets = batch
    with autocast(CPU, fast_dtype(CPU)):
        logits = network(images)
    loss = F.cross_entropy(logits.float(), targets, ignore_index=classes, label_smoothing=recipe.smoothing)
    if not math.isfinite(loss.item()):
        raise SpicError("the loss is not a finite number; resume from the last checkpoint with a lower learning rate")
    optimizer.zero_grad()
    loss.backward()
    team.mean_gradients(network)
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return loss.item()


def score(team, network: nn.Module, pictures, metric: Metric, batch: int = 25) -> float:
    """The task's first score of the network's answers, of all processes."""
    network.eval()
    indices = range(team.rank, len(pictures), team.size)
    with torch.inference_mode(), autocast(CPU, fast_dtype(CPU)):
        for start in range(0, len(indices), batch):
            chosen = indices[start:start + batch]
            targets = torch.stack([pictures.targets[i] for i in chosen]).long()
            images = torch.stack([pictures.images[i] for i in chosen]).float()
            metric.update(network(images.contiguous(memory_format=torch.channels_last)), targets)
        counts = metric.counts.double()
        team.mean([counts])
        metric.counts = (counts * team.size).round().long()
        return next(iter(metric.result().values()))


def train(benchmark: Benchmark, data: Path | None, runs: Path, seed: int = 0, processes: int = 1, output: Path = ROOT) -> None:
    """Train (or resume) the network of a benchmark, write its weights, and print its score on the evaluation pictures."""
    if benchmark.recipe is None:
        raise SpicError(f"{benchmark.name} {benchmark.task}: its network is not trained by this project; there are: "
                        f"{', '.join(' '.join(entry) for entry in trained())}")
    pictures = training_pictures(benchmark.training, data), evaluation_pictures(benchmark.training, data)
    parallel.launch(_train, processes, benchmark, *pictures, runs, seed, output)


def trained() -> list[tuple[str, str]]:
    """The benchmarks and tasks whose networks this project trains."""
    return [(name, task) for (task, name), entry in benchmarks().items() if entry.recipe]


def _train(team, benchmark: Benchmark, training, evaluation, runs: Path, seed: int, output: Path) -> None:
    recipe, classes, name = benchmark.recipe, benchmark.num_classes, f"{benchmark.name} {benchmark.task}"
    network = build(benchmark, seed)
    optimizer = optimizer_for(network, recipe)
    identity = {"recipe": repr(recipe), "network": benchmark.network, "seed": seed, "processes": team.size,
                "precision": str(fast_dtype(CPU))}
    state = checkpoint.Run(runs / f"{benchmark.name}_{benchmark.task}.pt", identity)
    first = state.restore(network=network, optimizer=optimizer)
    for epoch in range(first, recipe.epochs):
        loss = _train_epoch(team, network, optimizer, recipe, classes, training, epoch, seed)
        last = epoch + 1 == recipe.epochs
        result = score(team, network, evaluation, TASKS[benchmark.task].metric(classes)) if last or epoch % 3 == 2 else math.nan
        if team.rank == 0:
            state.save(epoch + 1, network=network, optimizer=optimizer)
            tqdm.write(f"{name} epoch {epoch + 1}: loss {loss:.4f}, score {result:.4f}")
    if team.rank == 0:
        write_weights(network, benchmark, output)


def write_weights(network: nn.Module, benchmark: Benchmark, root: Path) -> None:
    """float16 halves the files; loading converts back, and the lost digits lie far below those of training."""
    half = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    path = root / benchmark.backbone_file.relative_to(ROOT)
    write_whole(path, save({name: value.contiguous() for name, value in half.items()}))
    record_checksums(benchmark.name, [path], root)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("spic backbone", description="Train the network of a benchmark from scratch.")
    add = parser.add_argument
    add("--benchmark", choices=sorted({name for name, _ in trained()}), required=True)
    add("--task", choices=sorted({task for _, task in trained()}), required=True)
    add("--data", type=Path, help="folder of the public data set; scenes are drawn")
    add("--runs", type=Path, default=Path("runs"), help="folder of the checkpoints")
    add("--output", type=Path, default=ROOT, help="root to write to, instead of the project")
    add("--seed", type=natural, default=0)
    add("--processes", type=positive, default=cores(), help="one core each; they share every batch")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = _parser().parse_args(argv)
    return guarded(lambda: train(find(args.task, args.benchmark), args.data, args.runs, args.seed, args.processes, args.output))


if __name__ == "__main__":
    raise SystemExit(main())
