"""Trains what study.yaml lists: all trainings of a task in one pool, each on one core; what is done is skipped."""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from spic.points import load_points
from spic.study import plan
from spic.training import grid


def folder(runs: Path, benchmark: str) -> Path:
    """The root of a benchmark's trainings: dict.yaml, Weights/, Freq_tab/, trials.json, logs/."""
    return runs / benchmark


def logs(runs: Path, benchmark: str) -> Path:
    return folder(runs, benchmark) / "logs"


def train(args: argparse.Namespace) -> None:
    """The front's features are computed once for all trainings, and kept for the next command."""
    trials = plan.trials(args.benchmark, args.only, args.seeds)
    root = folder(args.runs, args.benchmark)
    plan.note(root, trials)
    _train_all([trial.job for trial in trials], args, root)


def _train_all(jobs: list[grid.Job], args: argparse.Namespace, root: Path) -> None:
    """A bench and a pool for each task."""
    catalogue = root / "dict.yaml"
    done = load_points(catalogue) if catalogue.exists() else {}
    todo = [job for job in jobs if job.key not in done]
    places = argparse.Namespace(data=args.data, runs=logs(args.runs, args.benchmark), output=root)
    for task in dict.fromkeys(job.task for job in todo):
        mine = [job for job in todo if job.task == task]
        bench = grid.make_bench(args.benchmark, task, mine, places)
        torch.set_num_threads(1)  # before the fork: a child cannot use the parent's threads
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(args.processes, fork, grid.take_place, (bench,)) as pool:
            grid.drive(pool, mine)
