"""All that one figure needs, measured: every operating point of a benchmark, and every rival, on the same pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from spic import val
from spic.benchmarks import Benchmark
from spic.commands import pick_device
from spic.costs import costs_of_points, ready, sample
from spic.errors import SpicError
from spic.points import OperatingPoint
from spic.record import Costs, Record, Results, read_results
from spic.rivals import answer
from spic.rivals import command as rivals
from spic.rivals.codecs import find_codecs
from spic.rivals.learned import command as learned


@dataclass(frozen=True)
class Pictures:
    """What points and rivals are measured on alike: the data, the network behind it, the machine."""

    valdir: Path | None = None
    limit: int | None = None
    backbone_weights: Path | None = None
    gpu: bool = False
    workers: int = 2

    def options(self) -> dict:
        """Keyword arguments of val.measure_points, measure_rivals and measure_learned."""
        return dict(vars(self))


def measure(benchmark: Benchmark, points: Sequence[OperatingPoint], pictures: Pictures, folder: Path, *,
            coder: str = "rans", codecs: Iterable[str] | None = None, features: Sequence[str] = ()) -> Results:
    """Measure what is not done yet, points first; each step's results are a file in ``folder`` as soon as it ends, beside a
    file per point with one row per image.

    codecs: names of rivals, all where None. features: split points whose untrained features are compressed, too.
    """
    check_names(benchmark, pictures, codecs, features)
    records = val.measure_points(points, coder=coder, output=folder / "points", per_image=folder / "points",
                                  **pictures.options())
    with_costs = add_costs(benchmark, points, records, pictures, coder, folder / "costs.json")
    more = {**pictures.options(), "per_image": folder / "rivals"}
    steps = [Results(tuple(with_costs)),
             _kept(folder / "rivals.json", *rivals.measure_rivals(benchmark, codecs=codecs, **more)),
             _kept(folder / "answers.json", *answer.measure_answers(benchmark, **more)),
             _kept(folder / "learned.json", *learned.measure_learned(benchmark, **more))]
    for name in dict.fromkeys(features):
        found = rivals.measure_rivals(benchmark, features=name, **more)
        steps.append(_kept(folder / f"features-{name}.json", *found))
    return Results(sum((step.records for step in steps), ()), {k: v for step in steps for k, v in step.missing.items()})


def check_names(benchmark: Benchmark, pictures: Pictures, codecs: Iterable[str] | None, features: Iterable[str]) -> None:
    """What later steps would refuse is refused before the long first one."""
    find_codecs(codecs)
    network = benchmark.build_network(pictures.backbone_weights) if features else None
    for split_point in features:
        rivals.cut_at(benchmark, network, split_point, torch.zeros(1, 3, *benchmark.image_size))


def _kept(path: Path, records: list[Record], missing: Mapping[str, str]) -> Results:
    results = Results(tuple(records), missing)
    results.write(path)
    return results


def add_costs(benchmark: Benchmark, points: Sequence[OperatingPoint], records: Sequence[Record], pictures: Pictures,
              coder: str, path: Path) -> list[Record]:
    """The records with what each point costs its edge: measured once per set of records, then kept in ``path``."""
    if (known := _known_costs(path, records)) is None:
        known = _measure_costs(benchmark, points, pictures, coder)
    completed = [dataclasses.replace(record, costs=costs) for record, costs in zip(records, known)]
    Results(tuple(completed)).write(path)
    return completed


def _known_costs(path: Path, records: Sequence[Record]) -> list[Costs] | None:
    """Of the records in ``path``, if they are these very ones."""
    try:
        kept = read_results([path]).records
    except SpicError:
        return None
    same = [dataclasses.replace(record, costs=None, seconds={}) for record in kept]
    fresh = [dataclasses.replace(record, costs=None, seconds={}) for record in records]
    return [record.costs for record in kept] if repr(same) == repr(fresh) and all(r.costs for r in kept) else None


def _measure_costs(benchmark: Benchmark, points: Sequence[OperatingPoint], pictures: Pictures, coder: str) -> list[Costs]:
    device = pick_device(pictures.gpu)
    dataset = benchmark.open_data(pictures.valdir, pictures.limit)
    network = ready(benchmark, dataset.image_size, device, pictures.backbone_weights)
    return costs_of_points(benchmark, network, points, sample(benchmark, dataset, device), coder)
