"""A user's own network on a user's own pictures: what the points of a dict.yaml name that is no benchmark of the project."""

from __future__ import annotations

from spic.benchmarks.benchmark import Benchmark, Source, given
from spic.datasets.folder import open_folder
from spic.errors import SpicError
from spic.networks import zoo

OWN = "own"
"""How such a benchmark is called unless its user says otherwise."""


def own_benchmark(task: str, name: str, network: str) -> Benchmark:
    """``network``: a name of the zoo, which knows its input, its classes and its task."""
    entry = zoo.find(network)
    if entry.task != task:
        raise SpicError(f"{network}: answers {entry.task}, not {task}; run the command of that task")
    count = entry.num_classes
    labels = count if task == "classification" else None
    return Benchmark(
        task, name, network, count, entry.preparation,
        lambda data, limit: open_folder(given(data, name), entry.preparation, labels, limit),
        lambda: entry.class_names or [f"class {i}" for i in range(count)], official=True,
        how_to_get=f"train it with: spic train --network {network} --cut NODE --data DIR",
        source=Source(lambda data, split, limit=None: open_folder(given(data, name), entry.preparation, labels, limit, split)))
