"""The benchmarks, one file each: network, weights, where S1 … US2 cut, data, training source, recipe, how to get it.

To add one: a file here with BENCHMARKS, and its operating points in dict.yaml.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from spic.benchmarks.benchmark import Benchmark, Cropping, Recipe, Source, Whole
from spic.errors import SpicError
from spic.points import OperatingPoint

__all__ = ["EMBEDDED", "PUBLISHED", "Benchmark", "Cropping", "Recipe", "Source", "Whole", "benchmarks", "default_name",
           "every_name", "find", "of_points"]

PUBLISHED = {"classification": "imagenet", "segmentation": "coco"}
EMBEDDED = "scenes"


def default_name(task: str, data) -> str:
    """The benchmark that is meant where none is named: the published one where there is data, else the embedded one."""
    return PUBLISHED.get(task, EMBEDDED) if data else EMBEDDED


@cache
def benchmarks() -> dict[tuple[str, str], Benchmark]:
    """(task, name) -> benchmark, of every file in this folder."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {(entry.task, entry.name): entry for module in modules for entry in getattr(module, "BENCHMARKS", ())}


def names(task: str) -> list[str]:
    """The benchmarks of a task."""
    return [name for kind, name in benchmarks() if kind == task]


def every_name() -> str:
    """All benchmarks of all tasks, for a help text."""
    return ", ".join(dict.fromkeys(name for _, name in benchmarks()))


def find(task: str, name: str) -> Benchmark:
    """The benchmark of that name for the task, or an error that lists the valid ones."""
    if (task, name) not in benchmarks():
        raise SpicError(f"unknown benchmark {name!r}; for {task} there are: {', '.join(names(task))}")
    return benchmarks()[task, name]


def of_points(points: list[OperatingPoint]) -> Benchmark:
    """The one benchmark that points belong to: one of this folder, or a user's own network on a user's own pictures."""
    first = points[0]
    networks = list(dict.fromkeys(point.network for point in points))
    if len(networks) > 1:
        raise SpicError(f"{first.benchmark}: its points belong to several networks ({', '.join(map(str, networks))}); "
                        "choose split points of one of them")
    if (first.task, first.benchmark) in benchmarks():
        return find(first.task, first.benchmark).of_network(first.network)
    if first.network is None:
        raise SpicError(f"{first.name}: {first.benchmark} is no benchmark of the project ({', '.join(names(first.task))}), "
                        "so its points must name their `network:`")
    from spic.benchmarks.own import own_benchmark

    return own_benchmark(first.task, first.benchmark, first.network)
