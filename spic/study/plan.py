"""study.yaml -> the trainings that are compared: which estimator, which seed, which lambda.

All trainings of a benchmark are operating points of one dict.yaml, so that one pool trains and one pass measures them.
The compress factor is only a number there; trials.json beside it says what each one is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import OmegaConf

from spic.bottleneck import FORMS, SEPARABLE
from spic.errors import SpicError
from spic.files import write_json
from spic.training.grid import curve_of
from spic.training.jobs import Job
from spic.training.distortion import matched
from spic.training.rate import ESTIMATORS

STUDY_FILE = Path(__file__).with_name("study.yaml")
TRIALS = "trials.json"
MOST_SEEDS, MOST_LAMBDAS, MOST_ESTIMATORS = 10, 100, 100


@dataclass(frozen=True)
class Trial:
    """One training. estimator: its name in the row, with distortion or form where they are not the usual ones (``parts_of``).
    place: of its lambda in the row; trials of equal place make one point with error bars."""

    job: Job
    estimator: str
    seed: int
    place: int


def trials(benchmark: str, only: Iterable[str] = (), seeds: Iterable[int] | None = None) -> list[Trial]:
    """The trainings of a benchmark, in order of urgency; ``only``: some split points, or pairs like S1/l1."""
    study = OmegaConf.to_container(OmegaConf.load(STUDY_FILE))
    if benchmark not in study:
        raise SpicError(f"unknown benchmark {benchmark!r}; {STUDY_FILE.name} has: {', '.join(study)}")
    found = [trial for task, part in study[benchmark].items() for split_point, row in part["rows"].items()
             for seed in (part["seeds"] if seeds is None else dict.fromkeys(seeds))
             for trial in _curves(task, benchmark, split_point, row, seed)]
    _check_names(only, found)
    chosen = [trial for trial in found if not only or _names(trial) & set(only)]
    return sorted(chosen, key=lambda trial: (trial.place % 2, trial.place, trial.seed))


def _names(trial: Trial) -> set[str]:
    return {trial.job.split_point, f"{trial.job.split_point}/{trial.estimator}"}


def _check_names(only: Iterable[str], found: list[Trial]) -> None:
    known = sorted(set().union(*map(_names, found)))
    for name in only:
        if name not in known:
            raise SpicError(f"unknown curve {name!r}; the study has: {', '.join(known)}")


def _curves(task: str, benchmark: str, split_point: str, row: dict, seed: int) -> Iterable[Trial]:
    """One seed of a row: a curve for each of its estimators."""
    row = dict(row)
    multipliers = row.pop("estimators")
    if "form" in row:
        raise SpicError(f"{STUDY_FILE.name}: {split_point}: a form is part of a curve's name, as in table+conv2")
    if not 0 <= seed < MOST_SEEDS or len(row["lambdas"]) > MOST_LAMBDAS:
        raise SpicError(f"{STUDY_FILE.name}: at most {MOST_LAMBDAS} lambdas, and seeds from 0 to {MOST_SEEDS - 1}")
    for place, (name, multiplier) in enumerate(multipliers.items()):
        rate, distortion, form = parts_of(name)
        number = list(ESTIMATORS).index(rate) if name == rate else MOST_ESTIMATORS + place
        first = (number * MOST_SEEDS + seed) * MOST_LAMBDAS
        curve = curve_of(task, benchmark, split_point, {**row, "lambdas": [multiplier * x for x in row["lambdas"]], "rate": rate,
                                                        "distortion": distortion, "seed": seed, "first": first, "form": form or SEPARABLE})
        for job in curve.jobs():
            yield Trial(job, name, seed, job.factor - first)


def parts_of(name: str) -> tuple[str, str | None, str | None]:
    """A curve's name -> estimator, distortion, form; the latter None where it says nothing of them: table, table+mae, table+conv2."""
    rate, *more = name.split("+")
    if rate not in ESTIMATORS:
        raise SpicError(f"{STUDY_FILE.name}: unknown estimator {rate!r}; there are: {', '.join(ESTIMATORS)}")
    forms, distortions = [part for part in more if part in FORMS], [part for part in more if part not in FORMS]
    if len(forms) > 1 or len(distortions) > 1:
        raise SpicError(f"{STUDY_FILE.name}: {name} names two forms or two distortions; a curve has one of each")
    for distortion in distortions:
        matched(distortion)  # refuses one that there is not
    return rate, next(iter(distortions), None), next(iter(forms), None)


def form_of(name: str) -> str:
    """Of the bottlenecks of a curve with this name: the published one where it names none."""
    return parts_of(name)[2] or SEPARABLE


def note(root: Path, planned: Iterable[Trial]) -> None:
    """Add the trials to the root's trials.json; a number that stands there for another training is a SpicError."""
    known = read_notes(root)
    for trial in planned:
        mine = _described(trial)
        theirs = known.setdefault(trial.job.name, mine)
        differing = [f"{key} {theirs.get(key)} there, {mine[key]} now" for key in mine if theirs.get(key) != mine[key]]
        if differing:
            raise SpicError(f"{root / TRIALS}: {trial.job.name} was trained otherwise ({'; '.join(differing)}); "
                            "choose another --runs folder, or delete this one")
    write_json(root / TRIALS, known)


def read_notes(root: Path) -> dict[str, dict]:
    """Name of an operating point -> what it is; empty before the first training."""
    path = root / TRIALS
    if not path.exists():
        return {}
    try:
        notes = dict(json.loads(path.read_text()))
        if not all({"estimator", "seed", "place"} <= what.keys() and len(name.split("/")) == 4 for name, what in notes.items()):
            raise ValueError
        return notes
    except (OSError, ValueError, TypeError, AttributeError):
        raise SpicError(f"{path}: not readable; restore it, or delete the folder and train again") from None


def _described(trial: Trial) -> dict:
    job = trial.job
    return {"estimator": trial.estimator, "seed": trial.seed, "place": trial.place, "stride": job.stride,
            "channels": job.channels, "parent": job.parent, "options": asdict(job.options)}
