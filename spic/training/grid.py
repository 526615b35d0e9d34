"""Trains all bottlenecks of a benchmark, as grid.yaml lists them, and puts them into place.

    python -m spic.training.grid --benchmark scenes --task classification --only S1/1

One process per core, each training one split point's factors in turn; a factor starts from its neighbour's weights.
Points that are done are skipped, so that an interrupted run is resumed by the same command.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from spic.benchmarks import find
from spic.bottleneck import make_bottleneck
from spic.commands import guarded, positive
from spic.coding.tables import KINDS
from spic.errors import SpicError
from spic.networks import cut
from spic.networks.split import depth
from spic.points import ROOT, SPLIT_POINTS, TASKS, load_points
from spic.training import checkpoint
from spic.training.features import FeatureSet, compute
from spic.training.fit import Options, fit, identity
from spic.training.outcome import write_outcome
from spic.training.parallel import cores
from spic.training.rate import ESTIMATORS
from spic.training.sources import SOURCES
from spic.training.tables import file_names

GRID_FILE = Path(__file__).with_name("grid.yaml")


@dataclass(frozen=True)
class Job:
    """One operating point to train. ``parent``: the factor whose weights it starts from, None for random ones."""

    task: str
    benchmark: str
    split_point: str
    factor: int
    stride: int
    channels: int
    options: Options
    parent: int | None

    @property
    def location(self) -> str:
        return self.split_point.removeprefix("U")

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.task, self.benchmark, self.split_point, self.factor

    @property
    def name(self) -> str:
        return "/".join(map(str, self.key))


def parent(factor: int, geometry: list[tuple[int, int]]) -> int | None:
    """0 starts afresh; 2 from 0, 4 from 2, and so on; an odd factor from the one before it.

    A factor whose (stride, channels) its parent does not share starts afresh, too.
    """
    candidate = factor - 1 if factor % 2 else factor - 2
    return candidate if candidate >= 0 and geometry[candidate] == geometry[factor] else None


def read_grid(benchmark: str, path: Path = GRID_FILE) -> list[Job]:
    """The jobs of a benchmark; even factors first, so that every curve has its outline early."""
    grid = OmegaConf.to_container(OmegaConf.load(path))
    if benchmark not in grid:
        raise SpicError(f"unknown benchmark {benchmark!r}; {path.name} has: {', '.join(grid)}")
    jobs = [job for task, splits in grid[benchmark].items() for split_point, row in splits.items()
            for job in jobs_of(task, benchmark, split_point, row)]
    return sorted(jobs, key=lambda job: (job.factor % 2, job.factor))


def jobs_of(task: str, benchmark: str, split_point: str, row: dict) -> Iterator[Job]:
    """The jobs of one row of the grid, one for each lambda."""
    distortion = "distill" if split_point.startswith("U") else "task"
    geometry = list(zip(_per_factor(row, "stride"), _per_factor(row, "channels")))
    for factor, weight in enumerate(row["lambdas"]):
        start = parent(factor, geometry)
        options = Options(step=float(row["step"]), weight=float(weight), distortion=distortion,
                          epochs=row["epochs"] if start is None else row["refine"], batch_size=row["batch_size"],
                          lr=row["lr"] if start is None else row["lr"] / 2, seed=factor)
        yield Job(task, benchmark, split_point, factor, *geometry[factor], options, start)


def _per_factor(row: dict, name: str) -> list[int]:
    """One number for all factors, or a list with one for each."""
    value, count = row[name], len(row["lambdas"])
    values = value if isinstance(value, list) else [value] * count
    if len(values) != count:
        raise SpicError(f"{GRID_FILE.name}: {name} lists {len(values)} numbers for {count} lambdas")
    return values


@dataclass(frozen=True)
class Bench:
    """What the jobs of a task share: the network, and per location the features to train on and to count symbols of."""

    network: nn.Module
    training: dict[str, FeatureSet]
    counting: dict[str, FeatureSet]
    runs: Path
    root: Path  # where weights, tables and dict.yaml go


_bench: list[Bench] = []  # of this worker process; set before it is forked, so that nothing is copied


def _take_place(bench: Bench) -> None:
    torch.set_num_threads(1)
    _bench[:] = [bench]


def train_point(job: Job) -> str:
    """Train one point on this process's bench and write its files; the point's name."""
    (bench,) = _bench
    training, runs = bench.training[job.location], bench.runs
    torch.manual_seed(job.options.seed)
    _, back = cut(bench.network, job.location)
    bottleneck = make_bottleneck(job.task, job.location, training.features.shape[1], job.channels, job.stride)
    if job.parent is not None:
        bottleneck.load_state_dict(load_file(_weights(replace(job, factor=job.parent), bench.root)))
    run = checkpoint.Run(runs / f"{job.name}.pt", identity(job.options, stride=job.stride, channels=job.channels))
    log = runs / f"{job.name}.jsonl"
    trainee = fit(bottleneck, back, training, job.options, run, log, quiet=True)
    write_outcome(trainee, bench.counting[job.location], job.key, KINDS, bench.root, log)
    return job.name


def _weights(job: Job, root: Path) -> Path:
    return root / file_names(*job.key)["weights"]


def _make_bench(jobs: list[Job], args: argparse.Namespace) -> Bench:
    task, benchmark = jobs[0].task, jobs[0].benchmark
    network = find(task, benchmark).build_network()
    locations = sorted({job.location for job in jobs}, key=lambda location: depth(network, location))
    source = SOURCES[benchmark, task]
    learning, counted = source.views(source.open(args.data, source.bottlenecks))
    training = compute(network, locations, learning, cores())
    counting = compute(network, locations, counted, cores(), torch.float32)
    return Bench(network, training, counting, args.runs, args.output)


def run(args: argparse.Namespace) -> None:
    """Train every point of the grid that is not done yet."""
    asked = [job for job in read_grid(args.benchmark) if job.task in args.tasks and _chosen(job, args.only)]
    train_all([_changed(job, args) for job in asked], args)


def train_all(jobs: list[Job], args: argparse.Namespace) -> None:
    """Train the jobs of one benchmark that are not done; ``args`` holds ``data runs output processes``."""
    catalogue = args.output / "dict.yaml"
    done = load_points(catalogue) if catalogue.exists() else {}
    jobs = [job for job in jobs if job.key not in done or not _weights(job, args.output).exists()]
    for task in dict.fromkeys(job.task for job in jobs):
        mine = [job for job in jobs if job.task == task]
        bench = _make_bench(mine, args)
        torch.set_num_threads(1)  # before the fork: a child cannot use the parent's threads
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(args.processes, fork, _take_place, (bench,)) as pool:
            _drive(pool, mine)


def _changed(job: Job, args: argparse.Namespace) -> Job:
    """The job with another estimator or seed: for comparisons of training methods."""
    options = replace(job.options, rate=args.rate or job.options.rate, seed=job.options.seed + 1000 * args.seed)
    return replace(job, options=options)


def _chosen(job: Job, only: list[str]) -> bool:
    return not only or job.split_point in only or f"{job.split_point}/{job.factor}" in only


def _drive(pool, jobs: list[Job]) -> None:
    """Start each job once its parent is done; ``jobs`` is in order of urgency."""
    waiting, running = list(jobs), {}
    with tqdm(total=len(jobs), unit="point", desc="grid") as bar:
        while waiting or running:
            unfinished = {job.key for job in [*waiting, *running.values()]}
            ready = [job for job in waiting if replace(job, factor=job.parent if job.parent is not None else -1).key
                     not in unfinished]
            for job in ready:
                running[pool.submit(train_point, job)] = job
                waiting.remove(job)
            future = next(as_completed(running))
            running.pop(future)
            bar.set_postfix_str(future.result())
            bar.update()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m spic.training.grid", description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--benchmark", default="scenes")
    parser.add_argument("--task", nargs="+", dest="tasks", choices=TASKS, default=list(TASKS))
    parser.add_argument("--only", nargs="+", default=[], metavar="S1[/0]", help=f"of {', '.join(SPLIT_POINTS)}")
    parser.add_argument("--data", type=Path, help="folder of the public data set; scenes are drawn")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the checkpoints and logs")
    parser.add_argument("--output", type=Path, default=ROOT, help="root to write to, instead of the project")
    parser.add_argument("--rate", choices=tuple(ESTIMATORS), help="of all points; default: the grid's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=positive, default=cores())
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
