"""Measures the shipped points and the study's own: accuracy and coded bytes, and what each part costs.

    runs/study/<benchmark>/records/<task>/shipped/<coder>-<tables>/S1_0.json      a record of each point, and
                                                                                  beside it .csv, a row per image
    runs/study/<benchmark>/records/<task>/trained/<coder>-<tables>/S1_4200.json
    runs/study/<benchmark>/curves/<task>/<coder>-<tables>/S1-l1-0.json            the same, sorted: curve and seed
    runs/study/<benchmark>/rivals/<task>/pictures.json                                likewise of codecs and learned rivals
    runs/study/<benchmark>/effort/<task>.json
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spic import val
from spic.benchmarks import Benchmark, of_points
from spic.errors import SpicError
from spic.points import DICT_FILE, SHARED, OperatingPoint, load_points, select
from spic.record import Record, Results
from spic.rivals.answer import measure_answers
from spic.rivals.command import measure_rivals
from spic.rivals.learned.command import measure_learned
from spic.study import effort, plan
from spic.study.train import folder
from spic.tasks import TASKS
from spic.training import recount

CHOSEN = "rans-context-rdo0.1"
VARIANTS = ("rans-shared", "huffman-shared", "rans-channel", "rans-position", "rans-context", CHOSEN)
"""Coder, kind of table, and the strength with which the edge chooses its symbols where it does: it was found on scenes (docs/results.md)."""


def coding_of(variant: str) -> tuple[str, str, float]:
    """(coder, kind of table, strength of rdo)."""
    coder, tables, *rdo = variant.split("-")
    return coder, tables, float(rdo[0].removeprefix("rdo")) if rdo else 0.0


def records(root: Path, task: str, whose: str, variant: str) -> Path:
    """Folder of the points' records; ``whose``: shipped or trained."""
    return root / "records" / task / whose / variant


def curves(root: Path, task: str, variant: str) -> Path:
    """Folder of the trained points' records, a file per curve and seed."""
    return root / "curves" / task / variant


def rivals_folder(root: Path, task: str) -> Path:
    """Folder of the rivals' records, with their rows."""
    return root / "rivals" / task


def effort_file(root: Path, task: str) -> Path:
    return root / "effort" / f"{task}.json"


@dataclass(frozen=True)
class Group:
    """The points of one task in one dict.yaml. whose: shipped, or trained by this study."""

    whose: str
    task: str
    points: list[OperatingPoint]


def measure(runs: Path, benchmark: str, data: Path | None = None, *, tasks: Iterable[str] = tuple(TASKS), only: Iterable[str] = (),
            variants: Sequence[str] = VARIANTS, limit: int | None = None, workers: int = 2, rivals: bool = False) -> None:
    """Everything there are points for; records that exist already are kept.

    runs: folder of the study. data: of the public data set; scenes are drawn. only: split points, or trained curves such as S1/l1.
    variants: ``<coder>-<tables>`` each. rivals: measure the rivals of the shipped points, too, on the same pictures.
    """
    root, only = folder(runs, benchmark), set(only)
    groups = [group for whose, catalogue in (("trained", root / "dict.yaml"), ("shipped", DICT_FILE))
              for group in _groups(whose, catalogue, benchmark, tasks)]
    if not groups:
        raise SpicError(f"no points of {benchmark} for {' or '.join(tasks)}: train some, or choose another --benchmark")
    notes = _notes(root, groups)
    wanted = _chosen(groups, only, notes) if only else groups
    for group in wanted:
        _count_tables(group, data, variants)
        for variant in variants:
            coder, tables, rdo = coding_of(variant)
            target = records(root, group.task, group.whose, variant)
            measured = val.measure_points(
                [point.with_tables(tables) for point in group.points], valdir=data, coder=coder, limit=limit,
                workers=workers, output=target, per_image=target, quiet=True, rdo=rdo)
            if group.whose == "trained":
                sort_by_curve(measured, curves(root, group.task, variant), notes)
    shown = {group.task for group in wanted if group.whose == "shipped"}  # with all their points, whichever were asked for
    for group in groups:
        if group.whose == "shipped" and group.task in shown:
            shipped = of_points(group.points)
            if shipped.recipe and not effort_file(root, group.task).exists():  # else there is no training to compare with
                effort.write(effort_file(root, group.task), effort.measure(shipped, group.points, data))
            if rivals:
                _measure_rivals(shipped, rivals_folder(root, group.task), valdir=data, limit=limit, workers=max(1, workers))


def _notes(root: Path, groups: Iterable[Group]) -> dict[str, dict]:
    """What each trained point is; one of which nothing is noted is refused before it is measured."""
    notes = plan.read_notes(root)
    for point in (point for group in groups if group.whose == "trained" for point in group.points):
        if point.name not in notes:
            raise SpicError(f"{root / plan.TRIALS}: says nothing of {point.name}; restore it, or choose another --runs folder")
    return notes


def _chosen(groups: Iterable[Group], only: set[str], notes: Mapping[str, dict]) -> list[Group]:
    """Of each group the points whose split point or curve is named; a name that none has is refused."""
    trained = {point: f"{point.split_point}/{notes[point.name]['estimator']}" for group in groups for point in group.points
               if group.whose == "trained"}
    names = {point: {point.split_point, trained.get(point, point.split_point)} for group in groups for point in group.points}
    known = set().union(*names.values())
    if unknown := sorted(only - known):
        raise SpicError(f"--only {unknown[0]}: nothing of that name is trained or shipped; there are: {', '.join(sorted(known))}")
    kept = [dataclasses.replace(group, points=[point for point in group.points if names[point] & only]) for group in groups]
    return [group for group in kept if group.points]


def _measure_rivals(benchmark: Benchmark, folder: Path, **options) -> None:
    for name, measure_them in (("pictures", measure_rivals), ("answers", measure_answers), ("learned", measure_learned)):
        found, missing = measure_them(benchmark, per_image=folder, **options)
        Results(tuple(found), missing).write(folder / f"{name}.json")


def _groups(whose: str, catalogue: Path, benchmark: str, tasks: Iterable[str]) -> list[Group]:
    points = load_points(catalogue) if catalogue.exists() else {}
    found = sorted({task for task, name, *_ in points if name == benchmark} & set(tasks))
    return [Group(whose, task, select(points, task, benchmark, ["all"], ["all"])) for task in found]


def _count_tables(group: Group, data: Path | None, variants: Iterable[str]) -> None:
    """Those that a variant asks for and the training did not leave."""
    kinds = sorted({coding_of(variant)[1] for variant in variants} - {SHARED})
    if kinds and group.whose == "trained":
        recount.recount(group.points, kinds, data=data)


def sort_by_curve(measured: Iterable[Record], target: Path, notes: Mapping[str, dict]) -> None:
    """Records of trained points -> a file per curve and seed, their factors counted from 0 in each curve."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in measured:
        what = notes["/".join(map(str, record.point))]
        name = f"{record.split_point}-{what['estimator']}-{what['seed']}"
        groups[name].append(dataclasses.replace(record, curve=f"{record.split_point} {what['estimator']}",
                                                seed=what["seed"], compress_factor=what["place"]))
    for name, members in groups.items():
        Results(tuple(members)).write(target / f"{name}.json")
