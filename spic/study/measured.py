"""What has been measured so far of one benchmark and task, as curves; None where there is nothing yet."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from spic.benchmarks import benchmarks
from spic.bottleneck import SEPARABLE
from spic.curves.bootstrap import Bootstrap
from spic.curves.comparison import Comparison, Curve, compare, read
from spic.curves.samples import Rows
from spic.record import Record, Results
from spic.study import effort, plan, trainings
from spic.study.evaluation import effort_file, records, rivals_folder
from spic.study.train import folder, logs
from spic.tasks import Score

PUBLISHED_VARIANT, MAIN_VARIANT = "huffman-shared", "rans-shared"


@dataclass(frozen=True)
class Spread:
    """One number per seed; ``notes``: why a seed has none."""

    values: tuple[float, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def known(cls, values: Iterable[float], note: str) -> Spread:
        """Of those that are numbers; ``note`` stands for each that is none."""
        every = tuple(values)
        found = tuple(filter(math.isfinite, every))
        return cls(found, (note,) * (len(every) - len(found)))

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
    """figures: where the report keeps what is known of trainings (``kept``), beside its figures. known: the trainings, where they
    are not to be read."""

    runs: Path
    benchmark: str
    task: str
    figures: Path | None = None
    known: tuple[Record, ...] | None = None

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

    @cached_property
    def compared(self) -> Comparison | None:
        """The shipped points, and the rivals on the same pictures where those were measured."""
        shipped = sorted(self._folders[0].glob("*.json"))
        return _read(shipped and shipped + sorted(self._folders[1].glob("*.json")))

    @cached_property
    def bootstrap(self) -> Bootstrap | None:
        """Over the pictures of what is compared; None where no rows were kept of them."""
        found = Bootstrap(self.compared, Rows(filter(Path.is_dir, self._folders)))
        return found if found.names else None

    @property
    def _folders(self) -> tuple[Path, Path]:
        """Of what is compared, shipped points and rivals: records, and rows per picture."""
        return records(self.root, self.task, "shipped", MAIN_VARIANT), rivals_folder(self.root, self.task)

    @property
    def kept(self) -> Path | None:
        """What the report keeps of trainings."""
        return self.figures / f"study-{self.name}.json" if self.figures else None

    def at(self, split_point: str) -> Measured:
        """The trainings of one split point."""
        return replace(self, known=tuple(record for record in self.trainings if record.split_point == split_point))

    @cached_property
    def trainings(self) -> Sequence[Record]:
        """Of each training and variant, as ``trainings.of_runs`` tells: measured here, else kept."""
        if self.known is not None:
            return self.known
        return trainings.merged(trainings.kept(self.kept) if self.kept else (),
                                trainings.of_runs(self.root, logs(self.runs, self.benchmark), self.task))

    def trained(self, variant: str = MAIN_VARIANT, names: str = "*", seed: int | None = None) -> Comparison | None:
        """The study's own points; ``names``: of curves, a pattern like ``S1 *``; all seeds, which become error bars, or one."""
        found = [record for record in self.trainings if record.more["variant"] == variant and fnmatchcase(record.curve, names)
                 and seed in (None, record.seed)]
        return compare(Results(tuple(found))) if found else None

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({record.seed for record in self._alike})

    @property
    def _alike(self) -> list[Record]:
        """Of each training the one that all trainings have."""
        return [record for record in self.trainings if record.more["variant"] == MAIN_VARIANT]

    @cached_property
    def estimators(self) -> dict[str, list[str]]:
        """Split point -> the estimators that bottlenecks of the published form were trained with."""
        alike = {split_point: [name for name in names if plan.form_of(name) == SEPARABLE] for split_point, names in self.curves.items()}
        return {split_point: names for split_point, names in alike.items() if names}

    @cached_property
    def curves(self) -> dict[str, list[str]]:
        """Split point -> the names of its trained curves: estimators, and those of other forms."""
        found = defaultdict(set)
        for record in self._alike:
            split_point, name = record.curve.split()
            found[split_point].add(name)
        return {split_point: sorted(names) for split_point, names in sorted(found.items())}

    def curve(self, name: str, seed: int, variant: str = MAIN_VARIANT) -> Curve | None:
        """One seed of one curve, such as ``S1 l1``."""
        comparison = self.trained(variant, name, seed)
        return comparison.curves[0] if comparison else None

    @cached_property
    def comparison(self) -> Comparison:
        """Any curves there are: for what all of them share, the uncompressed accuracy and its unit."""
        return self.trained() or self.compared

    def logged(self) -> dict[tuple[str, str], list[dict]]:
        """(split point, estimator) of each measured curve of the published form -> of each of its trainings, what its log says: the
        bits predicted and coded in the end, the seconds of all."""
        found = defaultdict(list)
        for record in self._alike:
            split_point, name = record.curve.split()
            if name in self.estimators.get(split_point, ()) and "seconds" in record.more:
                found[split_point, name].append(record.more)
        return found

    def parameters(self, name: str) -> int | None:
        """Of the bottlenecks of a trained curve, such as ``S1 table+conv``; None where none of their files was seen."""
        return next((record.more["parameters"] for record in self._alike if record.curve == name and "parameters" in record.more), None)

    def effort(self) -> effort.Effort | None:
        path = effort_file(self.root, self.task)
        return effort.read(path) if path.exists() else None


def _read(files: list[Path]) -> Comparison | None:
    return read(files) if files else None


def by_name(comparison: Comparison | None) -> dict[str, Curve]:
    return {curve.name: curve for curve in comparison.curves} if comparison else {}


def sets(runs: Path, figures: Path | None = None) -> list[Measured]:
    """Every benchmark and task that something was measured of, here or in what the report kept."""
    found = {(path.parts[-3], path.parts[-1]) for kind in ("records", "curves") for path in runs.glob(f"*/{kind}/*")
             if re.fullmatch(r"\w+", path.name)}
    if figures:
        found |= {(benchmark, task) for task, benchmark in benchmarks() if Measured(runs, benchmark, task, figures).kept.exists()}
    return [Measured(runs, benchmark, task, figures) for benchmark, task in sorted(found)]
