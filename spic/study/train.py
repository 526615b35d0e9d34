"""Trains what study.yaml lists: all trainings of a task in one pool, each on one core; what is done is skipped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from spic.study import plan
from spic.training.curve import Pictures, Places, train_all


def folder(runs: Path, benchmark: str) -> Path:
    """The root of a benchmark's trainings: dict.yaml, Weights/, Freq_tab/, trials.json, logs/."""
    return runs / benchmark


def logs(runs: Path, benchmark: str) -> Path:
    return folder(runs, benchmark) / "logs"


def train(runs: Path, benchmark: str, data: Path | None = None, *, only: Iterable[str] = (),
          seeds: Iterable[int] | None = None, processes: int = 1) -> None:
    """Train what is not trained yet. only: split points, or curves such as S1/l1. seeds: instead of study.yaml's.

    The front's features are computed once for all trainings, and kept for the next command.
    """
    trials = plan.trials(benchmark, only, seeds)
    root = folder(runs, benchmark)
    plan.note(root, trials)
    places = Places(output=root, runs=logs(runs, benchmark))
    train_all([trial.job for trial in trials], places, Pictures(data), processes=processes)
