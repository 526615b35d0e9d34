"""Trains what study.yaml lists: all trainings of a task in one pool, each on one core; what is done is skipped."""

from __future__ import annotations

import argparse
from pathlib import Path

from spic.study import plan
from spic.training.curve import Pictures, Places, train_all


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
    train_all([trial.job for trial in trials], Places(root, logs(args.runs, args.benchmark)), Pictures(args.data),
              processes=args.processes)
