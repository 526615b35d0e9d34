"""What has been measured so far of one benchmark and task, as curves; None where there is nothing yet."""

from __future__ import annotations

import json
import re
import statistics
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spic.benchmarks import benchmarks
from spic.bottleneck import SEPARABLE
from spic.curves.comparison import Comparison, Curve, read
from spic.curves.redraw import read_csv
from spic.curves.samples import Rows
from spic.errors import SpicError
from spic.networks.weights import parameters_of, read_state_dict
from spic.study import effort, plan
from spic.study.evaluation import curves, effort_file, records, rivals_folder
from spic.study.train import folder, logs
from spic.tasks import Score
from spic.training.tables import file_names

PUBLISHED_VARIANT, MAIN_VARIANT = "huffman-shared", "rans-shared"


@dataclass(frozen=True)
class Spread:
    """One number per seed; ``notes``: why a seed has none."""

    values: tuple[float, ...]
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def text(self, form: str, unit: str = "") -> str:
        """Mean and standard deviation over the seeds, or the reason why there is none."""
        if not self.values:
            return ", ".join(sorted(set(self.notes))) or "not measured yet"
        several = f" ± {self.deviation:{form.lstrip('+')}}" if len(self.values) > 1 else ""
        absent = f" of {len(self.values) + len(self.notes)}" if self.notes else ""
        return f"{self.mean:{form}}{several}{unit} (n={len(self.values)}{absent})"


@dataclass(frozen=True)
class Measured:
    """figures: where the CSV files of drawn figures lie, which stand in for records that are not there."""

    runs: Path
    benchmark: str
    task: str
    figures: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.benchmark}-{self.task}"

    @property
    def root(self) -> Path:
        return folder(self.runs, self.benchmark)

    @property
    def unit(self) -> Score:
        return self.comparison.unit

    def shipped(self, variant: str = MAIN_VARIANT) -> Comparison | None:
        """The shipped points, a curve per split point."""
        return _read(sorted(records(self.root, self.task, "shipped", variant).glob("*.json")))

    def drawn(self) -> Comparison | None:
        """The shipped points and the rivals on the same pictures: as measured here, else as the figure's CSV has them."""
        rivals = sorted(rivals_folder(self.root, self.task).glob("*.json"))
        if rivals and self.shipped():
            return read([records(self.root, self.task, "shipped", MAIN_VARIANT), *rivals])
        csv = self.figures / f"{self.name}.csv" if self.figures else None
        return read_csv(csv) if csv and csv.exists() else self.shipped()

    @cached_property
    def rows(self) -> Rows:
        """Of each picture, of what is measured here."""
        return Rows(folder for folder in (records(self.root, self.task, "shipped", MAIN_VARIANT),
                                          rivals_folder(self.root, self.task)) if folder.is_dir())

    def trained(self, variant: str = MAIN_VARIANT, names: str = "*", seed: int | str = "*") -> Comparison | None:
        """The study's own points; ``names``: a pattern like S1-*; all seeds, which become error bars, or one."""
        return _read(sorted(curves(self.root, self.task, variant).glob(f"{names}-{seed}.json")))

    @cached_property
    def seeds(self) -> list[int]:
        files = curves(self.root, self.task, MAIN_VARIANT).glob("*.json")
        return sorted({int(file.stem.rsplit("-", 1)[1]) for file in files})

    @cached_property
    def estimators(self) -> dict[str, list[str]]:
        """Split point -> the estimators that bottlenecks of the published form were trained with."""
        alike = {split_point: [name for name in names if plan.form_of(name) == SEPARABLE] for split_point, names in self.trainings.items()}
        return {split_point: names for split_point, names in alike.items() if names}

    @cached_property
    def trainings(self) -> dict[str, list[str]]:
        """Split point -> the names of its curves: estimators, and those of other forms."""
        found = defaultdict(set)
        for file in curves(self.root, self.task, MAIN_VARIANT).glob("*.json"):
            split_point, estimator, _ = file.stem.split("-")
            found[split_point].add(estimator)
        return {split_point: sorted(names) for split_point, names in sorted(found.items())}

    def curve(self, name: str, seed: int, variant: str = MAIN_VARIANT) -> Curve | None:
        """One seed of one curve, such as ``S1 l1``."""
        comparison = self.trained(variant, name.replace(" ", "-"), seed)
        return comparison.curves[0] if comparison else None

    @cached_property
    def comparison(self) -> Comparison:
        """Any curves there are: for what all of them share, the uncompressed accuracy and its unit."""
        return self.trained() or self.drawn()

    def last_lines(self) -> dict[tuple[str, str], list[dict]]:
        """(split point, estimator) of each measured curve of the published form -> of each of its trainings, the log's last line with
        the seconds of all its epochs. A curve that is being trained is not judged by its first points."""
        lines = defaultdict(list)
        for name, what in plan.read_notes(self.root).items():
            task, _, split_point, _ = name.split("/")
            log = logs(self.runs, self.benchmark) / f"{name}.jsonl"
            if task == self.task and what["estimator"] in self.estimators.get(split_point, ()) and log.exists():
                lines[split_point, what["estimator"]].append(_summed(log))
        return lines

    def parameters(self, name: str) -> int | None:
        """Of the bottlenecks of a trained curve, such as ``S1 table+conv``; None where none of their files is here."""
        for trial, what in plan.read_notes(self.root).items():
            task, _, split_point, _ = key = trial.split("/")
            file = self.root / file_names(*key)["weights"]
            if (task, f"{split_point} {what['estimator']}") == (self.task, name) and file.exists():
                return parameters_of(read_state_dict(file))
        return None

    def effort(self) -> effort.Effort | None:
        path = effort_file(self.root, self.task)
        return effort.read(path) if path.exists() else None


def _read(files: list[Path]) -> Comparison | None:
    return read(files) if files else None


def _summed(log: Path) -> dict:
    try:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return {**lines[-1], "seconds": sum(line.get("seconds", 0.0) for line in lines)}
    except (ValueError, IndexError, AttributeError, TypeError):
        raise SpicError(f"{log}: not a log of a training; delete it and train that point again") from None


def by_name(comparison: Comparison | None) -> dict[str, Curve]:
    return {curve.name: curve for curve in comparison.curves} if comparison else {}


def sets(runs: Path, figures: Path | None = None) -> list[Measured]:
    """Every benchmark and task that something was measured of, or drawn into a figure."""
    found = {(path.parts[-3], path.parts[-1]) for kind in ("records", "curves") for path in runs.glob(f"*/{kind}/*")
             if re.fullmatch(r"\w+", path.name)}
    if figures:
        found |= {(benchmark, task) for task, benchmark in benchmarks() if (figures / f"{benchmark}-{task}.csv").exists()}
    return [Measured(runs, benchmark, task, figures) for benchmark, task in sorted(found)]
