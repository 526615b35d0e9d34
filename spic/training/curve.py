"""Trains jobs: what `spic train`, `spic grid` and the study have in common.

The network is run once over the pictures, to the cuts that are asked for; all jobs learn from the features it gave. One job
after another by this process (or these, under torchrun), or several at a time, one core each. A job starts from its
neighbour's weights. What is finished is not trained again, what was interrupted goes on at its last checkpoint.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import fx, nn
from tqdm import tqdm

from spic import parallel
from spic.benchmarks import Benchmark, Whole, of_points
from spic.bottleneck import CLOSED, Bottleneck, last_activation, make_bottleneck
from spic.coding.counting import KINDS
from spic.datasets.apart import require_apart
from spic.datasets.folder import Unlabelled
from spic.errors import SpicError
from spic.files import check_writable
from spic.machine import cores, end_with_parent
from spic.networks import cut_many, trace
from spic.networks.weights import fingerprint, load_strictly, read_state_dict
from spic.points import ROOT, load_points
from spic.tasks import TASKS
from spic.training.checkpoint import Run
from spic.training.closed import Directions, closed_form, find_directions
from spic.training.distortion import TASK
from spic.training.features import Cut, FeatureSet, Views, compute
from spic.training.fit import CPU, Tick, fit, identity
from spic.training.jobs import Job, default_channels, default_stride
from spic.training.outcome import Outcome, write_outcome
from spic.training.tables import file_names


@dataclass(frozen=True)
class Pictures:
    """What bottlenecks learn from. data: a folder, None where the benchmark draws its own. unlabelled: it is any folder of
    pictures, nested or flat. limit: only so many, evenly spread. apart_from: folders of pictures that are tested on; one of
    theirs among them is refused."""

    data: Path | None = None
    unlabelled: bool = False
    limit: int | None = None
    apart_from: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where trainings write. output: the root that gets Weights/, Freq_tab/ and dict.yaml. runs: checkpoints and logs."""

    output: Path = ROOT
    runs: Path = Path("runs")

    def run(self, job: Job) -> Path:
        return self.runs / f"{job.name}.pt"

    def log(self, job: Job) -> Path:
        return self.runs / f"{job.name}.jsonl"

    def weights(self, job: Job) -> Path:
        return self.output / file_names(*job.weights_key)["weights"]


@dataclass(frozen=True)
class Bench:
    """What the jobs of one network share: halves and features per cut, float32 ones of whole pictures to count symbols of.

    backs, activations: cut -> the part behind it, the last activation that its features ask for. directions: (cut, form,
    stride as the job says it) -> the closed form, of the jobs that begin with one. network, pictures: change when
    the network's weights, or the pictures that are learned from, do.
    """

    benchmark: Benchmark
    backs: dict[Cut, fx.GraphModule]
    training: dict[Cut, FeatureSet]
    counting: dict[Cut, FeatureSet]
    activations: dict[Cut, str]
    directions: dict[tuple[Cut, str, int | None], Directions]
    network: str
    pictures: str
    places: Places
    kinds: Sequence[str]
    device: torch.device = field(default=CPU)


def train_all(jobs: Sequence[Job], places: Places, pictures: Pictures = Pictures(), *, weights: Path | str | None = None,
              processes: int = 1, kinds: Sequence[str] = KINDS, device: torch.device = CPU) -> list[Outcome]:
    """Train jobs that are in order of urgency; one outcome for each, in their order, of those finished before, too.

    weights: the network's, a file or "random"; None: the benchmark's own. processes: jobs at a time, on one core each; 1
    trains them one by one with all the threads that torch has. kinds: of frequency tables to count.
    """
    for job in jobs:
        check_writable(places.run(job))
        check_writable(places.weights(job))
    outcomes: dict[Job, Outcome] = {}
    for group in _groups(jobs):
        outcomes |= _train_group(group, places, pictures, weights, processes, kinds, device)
    return [outcomes[job] for job in jobs]


def _groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs of one task, benchmark and network each."""
    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.task, job.benchmark, job.network), []).append(job)
    return list(groups.values())


def _train_group(jobs, places: Places, pictures: Pictures, weights, processes: int, kinds, device) -> dict[Job, Outcome]:
    catalogue = places.output / "dict.yaml"
    points = load_points(catalogue) if catalogue.exists() else {}
    there = [job for job in jobs if job.key in points and places.weights(job).exists()]
    if len(there) == len(jobs) and not any(places.run(job).exists() for job in there):
        return {job: Outcome(job) for job in jobs}  # nothing to compare with: no need to build the network
    with parallel.first_alone():
        bench = make_bench(jobs, places, pictures, weights, kinds, device)
    done = {job: Outcome(job) for job in there if _is_done(job, bench)}
    todo = [job for job in jobs if job not in done]
    return done | {outcome.job: outcome for outcome in _train(todo, bench, processes)}


def _train(jobs: list[Job], bench: Bench, processes: int) -> Iterator[Outcome]:
    if not jobs:
        return
    with tqdm(total=sum(job.options.steps for job in jobs), unit="step", desc="training", mininterval=1,
              disable=parallel.rank() > 0) as bar:
        if processes == 1 or len(jobs) == 1:
            for job in jobs:
                yield train_point(job, bench, partial(_show, bar, job))
        else:
            yield from _train_together(jobs, bench, min(processes, len(jobs)), bar)


def _show(bar: tqdm, job: Job, steps: int, terms: torch.Tensor | None) -> None:
    if terms is not None:
        distortion, bpp, _ = terms.tolist()
        bar.set_postfix({"point": job.factor, "distortion": f"{distortion:.4f}", "bpp": f"{bpp:.5f}"}, refresh=False)
    bar.update(steps)


def _train_together(jobs: list[Job], bench: Bench, processes: int, bar: tqdm) -> Iterator[Outcome]:
    torch.set_num_threads(1)  # before the fork: a child cannot use the parent's threads
    fork = multiprocessing.get_context("fork")
    steps = fork.Value("q", 0)
    pool = ProcessPoolExecutor(processes, fork, _take_place, (bench, steps))
    try:
        yield from _drive(pool, jobs, steps, bar)
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in multiprocessing.active_children():
            worker.terminate()
        if isinstance(error, BrokenExecutor):
            raise SpicError("a process that trains ended early (out of memory?); the same command goes on at the last "
                            "checkpoints, --processes 1 takes less memory") from None
        raise
    pool.shutdown()


# ---- the bench ---------------------------------------------------------------------------------------------------


def make_bench(jobs: Sequence[Job], places: Places, pictures: Pictures = Pictures(), weights: Path | str | None = None,
               kinds: Sequence[str] = KINDS, device: torch.device = CPU) -> Bench:
    """The bench of jobs of one network: its features are computed, or read from the cache."""
    benchmark = of_points(list(jobs))
    cuts = list(dict.fromkeys(_cut_of(job, benchmark) for job in jobs))
    dataset = open_pictures(benchmark, pictures, labelled=any(job.options.distortion == TASK for job in jobs))
    network = benchmark.build_network(weights)
    mark = fingerprint(network)
    traced = trace(network, torch.zeros(1, 3, *dataset.image_size))
    source, threads = benchmark.training, cores()
    views = Views(dataset, *source.crops, window=source.window)
    counted = Views(dataset, limit=source.counted)
    counting = compute(traced, cuts, counted, threads, torch.float32, weights=mark)
    trains = any(job.options.steps for job in jobs) and (views.identity != counted.identity or views.window)
    training = compute(traced, cuts, views, threads, weights=mark) if trains else counting
    activations = {cut: last_activation(training[cut].features) for cut in cuts}
    backs = _backs(traced, cuts, training[cuts[0]].image_size)
    return Bench(benchmark, backs, training, counting, activations, _directions(jobs, benchmark, counting, backs), mark,
                 hashlib.sha256(views.identity.encode()).hexdigest(), places, kinds, device)


def _directions(jobs: Sequence[Job], benchmark: Benchmark, counting: dict[Cut, FeatureSet], backs
                ) -> dict[tuple[Cut, str, int | None], Directions]:
    """Of the jobs that begin with them."""
    wanted = dict.fromkeys((_cut_of(job, benchmark), job.form, job.stride) for job in jobs if job.form in CLOSED)
    return {(cut, form, stride): find_directions(counting[cut], backs[cut], form, stride) for cut, form, stride in wanted}


def _backs(traced: nn.Module, cuts: list[Cut], image_size: tuple[int, int]) -> dict[Cut, fx.GraphModule]:
    _, backs, frontiers = cut_many(traced, cuts, torch.zeros(1, 3, *image_size))
    return {frontier.after: back for frontier, back in zip(frontiers, backs)}


def _cut_of(job: Job, benchmark: Benchmark) -> Cut:
    if benchmark.adapter(job) is not Whole:
        raise SpicError(f"{job.name}: as published, this is no split: most of the feature would bypass the coder; say where to "
                        "cut by --cut, or choose another split point")
    return benchmark.cut_after(job)


def open_pictures(benchmark: Benchmark, pictures: Pictures, labelled: bool):
    """The data set that bottlenecks of the benchmark learn from, checked against what the network answers."""
    dataset = _open(benchmark, pictures, labelled)
    require_apart(dataset.paths if pictures.apart_from else (), pictures.apart_from)
    return dataset


def _open(benchmark: Benchmark, pictures: Pictures, labelled: bool):
    if pictures.unlabelled:
        return Unlabelled(_training_part(pictures.data), benchmark.preparation, pictures.limit, benchmark.training.left_out)
    dataset = benchmark.training.open(pictures.data, benchmark.training.bottlenecks, pictures.limit)
    if labelled and not getattr(dataset, "labelled", True):
        raise SpicError(f"{pictures.data}: no labels for {benchmark.network} there (a sub-folder for each of its "
                        f"{benchmark.num_classes} classes); --distortion distill needs none")
    classes = getattr(dataset, "num_classes", None)
    if labelled and classes != benchmark.num_classes:
        raise SpicError(f"{pictures.data}: has {classes} classes, the network {benchmark.num_classes}")
    return dataset


def _training_part(data: Path | None) -> Path:
    """The folder itself, or its train/ where it keeps pictures for evaluation apart."""
    if data is None:
        raise SpicError("--data DIR is missing: a folder of pictures, nested or flat; no labels are needed")
    parts = all((data / part).is_dir() for part in ("train", "val"))
    return data / "train" if parts else data


# ---- one job -----------------------------------------------------------------------------------------------------


def settled(job: Job, bench: Bench) -> Job:
    """The job with what it left to the feature."""
    cut = bench.benchmark.cut_after(job)
    shape = bench.training[cut].shape
    if job.form not in CLOSED:
        bare = make_bottleneck(shape, 1, 1, None, image_size=bench.training[cut].image_size)
        return replace(job, stride=job.stride or default_stride(shape),
                       channels=job.channels or default_channels(bare.encoder.planes.plane[0]),
                       activation=job.activation or bench.activations[cut])
    directions = bench.directions[cut, job.form, job.stride]
    most = len(directions.encoder)
    if (job.channels or 0) > most:
        raise SpicError(f"{job.name}: {job.channels} channels, but there are {most} directions; choose at most so many")
    return replace(job, stride=directions.stride, channels=job.channels or default_channels(most, job.form),
                   activation=job.activation or "none")


def new_bottleneck(job: Job, bench: Bench, image_size: tuple[int, int], shape: tuple[int, ...]) -> Bottleneck:
    """The untrained bottleneck of a settled job: its closed form, or random weights under its seed where it has none."""
    if job.form in CLOSED:
        return closed_form(next(found for (cut, form, _), found in bench.directions.items()
                                if (cut, form, found.stride) == (bench.benchmark.cut_after(job), job.form, job.stride)),
                           job.channels, job.activation)
    torch.manual_seed(job.options.seed)
    return make_bottleneck(shape, job.channels, job.stride, bench.benchmark.geometry_of(job), job.activation, image_size,
                           job.form)


def train_point(job: Job, bench: Bench, tick: Tick | None = None) -> Outcome:
    """Train one point and write its files; its outcome."""
    cut, settled_job = bench.benchmark.cut_after(job), settled(job, bench)
    training, counting = bench.training[cut], bench.counting[cut]
    bottleneck = new_bottleneck(settled_job, bench, counting.image_size, counting.shape)
    if job.parent is not None:
        _start_from(bottleneck, bench.places.weights(replace(job, factor=job.parent)))
    run = Run(bench.places.run(job), identity_of(settled_job, bench))
    if job.options.steps:
        trained = fit(bottleneck, bench.backs[cut], training, job.options, TASKS[job.task].loss, run, bench.places.log(job),
                      bench.device, tick)
    else:
        trained = bottleneck
        run.save(0)
    about = {"network": bench.network, "image_size": "x".join(map(str, counting.image_size))} if job.network else None
    outcome = Outcome(job)
    with parallel.first_alone():  # the others may start from these weights next
        if parallel.rank() == 0:
            outcome = write_outcome(trained.cpu(), counting, settled_job, bench.kinds, bench.places.output,
                                    bench.places.log(job), about)
    return replace(outcome, job=job)


def _start_from(bottleneck: Bottleneck, path: Path) -> None:
    state = bottleneck.state_dict()
    stored = read_state_dict(path)
    load_strictly(bottleneck, {name: value.to(state[name].dtype) if name in state else value
                               for name, value in stored.items()}, path)


def identity_of(job: Job, bench: Bench) -> dict:
    """What makes a settled job's training another one."""
    training = bench.training[bench.benchmark.cut_after(job)]
    return identity(job.options, bench.device, job=job.name, cut=job.cut, stride=job.stride, channels=job.channels,
                    parent=job.parent, form=job.form, activation=job.activation, network=bench.network,
                    pictures=bench.pictures, feature=list(training.shape))


def _is_done(job: Job, bench: Bench) -> bool:
    """Whether the point that lies there is what this training would give; a run of another one is an error."""
    run = Run(bench.places.run(job), identity_of(settled(job, bench), bench))
    return not run.path.exists() or run.done() == job.options.steps


# ---- several at a time ---------------------------------------------------------------------------------------------

_place: list = []  # of this worker process: the bench and the count of steps; set as it is forked, so that nothing is copied


def _take_place(bench: Bench, steps) -> None:
    torch.set_num_threads(1)
    _place[:] = [bench, steps]
    end_with_parent()


def _train_there(job: Job) -> Outcome:
    bench, steps = _place
    try:
        return train_point(job, bench, partial(_count, steps))
    except KeyboardInterrupt:  # the terminal interrupts all processes; the parent tells of it
        os._exit(130)


def _count(steps, more: int, terms: torch.Tensor | None) -> None:
    with steps.get_lock():
        steps.value += more


def _drive(pool: ProcessPoolExecutor, jobs: Sequence[Job], steps, bar: tqdm) -> Iterator[Outcome]:
    """Start each job once its parent is done."""
    waiting, running = list(jobs), {}
    while waiting or running:
        unfinished = {job.key for job in [*waiting, *running.values()]}
        for job in [job for job in waiting if (*job.key[:3], job.parent) not in unfinished]:
            running[pool.submit(_train_there, job)] = job
            waiting.remove(job)
        for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
            bar.set_postfix_str(f"{running.pop(future).name} done")
            yield future.result()
        bar.update(steps.value - bar.n)
