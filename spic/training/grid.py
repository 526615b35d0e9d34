"""Trains all bottlenecks that a benchmark ships, as grid.yaml lists them, and puts them into place.

    spic grid --benchmark scenes --task classification --only S1/1

One process per core, each training one point at a time. Points that are done are skipped, so that an interrupted run is
resumed by the same command.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spic.commands import Parser, guarded, natural, positive
from spic.errors import SpicError
from spic.machine import cores
from spic.points import ROOT, read_tree
from spic.tasks import TASKS
from spic.training.curve import Pictures, Places, train_all
from spic.training.jobs import Curve, Job, by_urgency
from spic.training.outcome import verdict
from spic.training.rate import ESTIMATORS

GRID_FILE = Path(__file__).with_name("grid.yaml")


def read_grid(benchmark: str) -> list[Job]:
    """The jobs of a benchmark in order of urgency."""
    grid = read_tree(GRID_FILE)
    if benchmark not in grid:
        raise SpicError(f"unknown benchmark {benchmark!r}; {GRID_FILE.name} has: {', '.join(grid)}")
    return by_urgency([job for task, rows in grid[benchmark].items() for split_point, row in rows.items()
                       for job in curve_of(task, benchmark, split_point, row).jobs()])


def curve_of(task: str, benchmark: str, split_point: str, row: dict) -> Curve:
    """The curve that one row of grid.yaml, or of the study's, describes: its keys are fields of a Curve."""
    try:
        return Curve(task, benchmark, split_point, **{**row, "lambdas": tuple(row.get("lambdas", ()))})
    except (TypeError, KeyError) as error:
        raise SpicError(f"{task} {benchmark} {split_point}: not a row of a grid ({error})") from None


def chosen(jobs: Sequence[Job], tasks: Sequence[str], only: Sequence[str]) -> list[Job]:
    """The jobs of some tasks, and of them some split points (S1) or points (S1/0); a name that none has is refused."""
    mine = [job for job in jobs if job.task in tasks]
    if not mine:
        raise SpicError(f"the grid has nothing for {' or '.join(tasks)}; it has: {', '.join(dict.fromkeys(job.task for job in jobs))}")
    known = list(dict.fromkeys(name for job in mine for name in _names(job)))
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SpicError(f"--only {unknown[0]}: no such point in the grid; it has: "
                        f"{', '.join(name for name in known if '/' not in name)} and their factors, as in {known[1]}")
    return [job for job in mine if not only or set(only) & set(_names(job))]


def _names(job: Job) -> tuple[str, str]:
    return job.split_point, f"{job.split_point}/{job.factor}"


def _changed(job: Job, rate: str | None, seed: int) -> Job:
    """The job with another estimator or seed: for comparisons of training methods."""
    return replace(job, options=replace(job.options, rate=rate or job.options.rate, seed=job.options.seed + 1000 * seed))


def _parser() -> argparse.ArgumentParser:
    parser = Parser("spic grid", description="Train all bottlenecks that a benchmark ships, and put them into place.")
    add = parser.add_argument
    add("--benchmark", default="scenes")
    add("--task", nargs="+", dest="tasks", choices=TASKS, default=list(TASKS))
    add("--only", nargs="+", default=[], metavar="S1[/0]", help="some split points, or points")
    add("--data", type=Path, help="folder of the public data set; scenes are drawn")
    add("--limit", type=positive, help="learn from so many pictures only, evenly spread")
    add("--apart_from", type=Path, nargs="+", default=[], metavar="DIR", help="folders of pictures to be tested on: one of them "
        "among --data, by its content, is refused")
    add("--runs", type=Path, default=Path("runs"), help="folder of the checkpoints and logs")
    add("--output", type=Path, default=ROOT, help="root to write to, instead of the project")
    add("--rate", choices=tuple(ESTIMATORS), help="of all points; default: the grid's")
    add("--seed", type=natural, default=0)
    add("--processes", type=positive, default=cores(), help="points at a time, one core each")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = _parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    jobs = [_changed(job, args.rate, args.seed) for job in chosen(read_grid(args.benchmark), args.tasks, args.only)]
    pictures = Pictures(args.data, limit=args.limit, apart_from=tuple(args.apart_from))
    outcomes = train_all(jobs, Places(args.output, args.runs), pictures, processes=args.processes)
    print(*(outcome.line() for outcome in outcomes), verdict(outcomes), sep="\n")


if __name__ == "__main__":
    raise SystemExit(main())
