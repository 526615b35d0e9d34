"""The result of a measurement: what val.py, the rivals, the figures and the study write and read.

A file holds one record, or {"records": [...], "missing": {what: why}}: several records, and what could not be measured.
Rates are bits per pixel of the network's input; scores are in the units of the task (spic/tasks).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from spic.errors import SpicError, reason
from spic.files import write_json
from spic.tasks import AGREEMENT, TASKS, Task

@dataclass(frozen=True)
class Costs:
    """What a point costs: parameters and multiply-accumulates of each part, seconds of one picture on ``threads`` threads
    of the CPU, bytes of the weights' files. The edge runs front and encoder. None: not measured.
    """

    edge_parameters: int | None = None
    edge_macs: int | None = None
    edge_seconds: float | None = None
    cloud_seconds: float | None = None
    front_parameters: int | None = None
    front_macs: int | None = None
    encoder_parameters: int | None = None
    encoder_macs: int | None = None
    decoder_parameters: int | None = None
    decoder_macs: int | None = None
    bottleneck_bytes: int | None = None
    backbone_bytes: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Record:
    """One measured point: an operating point, or a rival at one quality.

    scores, baseline: score key → value, of the compressed and of the uncompressed network on the same pictures.
    bpp: payload bits per input pixel. bpp_wire: every byte sent. bpp_table: the frequency table's cross-entropy on the
    symbols sent, what an ideal coder for that table would need. split_point, compress_factor, coder, tables: of operating
    points. codec, quality, settings, chroma: of rivals. curve, seed: of a study, whose curves mix operating points.
    inputs: what else the numbers depend on (data, limit, hashes). seconds: per stage. rates besides bpp that rivals
    report (header and container bytes) are in ``more``.
    """

    task: str
    benchmark: str
    images: int
    scores: dict[str, float]
    baseline: dict[str, float]
    bpp: float
    bpp_wire: float
    bytes_per_image: float
    device: str = "cpu"
    bpp_table: float | None = None
    escapes: int = 0
    uncoded_values_per_image: int = 0
    split_point: str | None = None
    compress_factor: int | None = None
    coder: str | None = None
    tables: str | None = None
    amp: bool = False
    codec: str | None = None
    quality: int | None = None
    quality_name: str | None = None
    chroma: str | None = None
    settings: str | None = None
    curve: str | None = None
    seed: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    costs: Costs | None = None

    @property
    def of(self) -> Task:
        """The task."""
        return TASKS[self.task]

    @property
    def accuracy(self) -> float:
        """The task's first score, or the agreement where the pictures have no labels."""
        return self.scores[self.of.accuracy(self.scores).key]

    @property
    def baseline_accuracy(self) -> float:
        """The same of the uncompressed network, which agrees with itself; NaN where it was not measured."""
        score = self.of.accuracy(self.scores)
        return self.baseline.get(score.key, 100.0 if score is AGREEMENT else math.nan)

    @property
    def point(self) -> tuple[str, str, str | None, int | None]:
        """Which operating point this is: task, benchmark, split point, compress factor."""
        return self.task, self.benchmark, self.split_point, self.compress_factor

    def to_json(self) -> dict:
        """Fields that say something, in their order."""
        content = {key: value for key, value in asdict(self).items() if key in REQUIRED or value not in (None, {})}
        return content | ({"costs": {k: v for k, v in content["costs"].items() if v is not None}} if self.costs else {})

    @classmethod
    def from_json(cls, content: Any, where: str) -> Record:
        """The record in a JSON object; ``where`` names its file in errors.

        A SpicError for anything else: a record of an earlier version, wrong types, a rate that is no number.
        """
        task = content.get("task") if isinstance(content, dict) else None
        if not isinstance(task, str) or task not in TASKS:
            raise SpicError(f"{where}: not a record of a measurement: 'task' must be one of {', '.join(TASKS)}")
        absent = [key for key in REQUIRED if key not in content]
        foreign = sorted(set(content) - set(CHECKS))
        if absent or foreign:
            problem = f"lacks {', '.join(absent)}" if absent else f"holds the unknown entries {', '.join(map(repr, foreign))}"
            raise SpicError(f"{where}: not a record of this version: it {problem[:160]}; measure again")
        _check_fields(content, CHECKS, where)
        costs = content.get("costs")
        if costs is not None:
            _check_fields(costs, COST_CHECKS, f"{where}: costs")
        return cls(**content | {"costs": None if costs is None else Costs(**costs)})._checked(where)

    def _checked(self, where: str) -> Record:
        known = [score.key for score in (*self.of.scores, AGREEMENT)]
        if self.of.accuracy(self.scores).key not in self.scores:
            raise SpicError(f"{where}: scores holds neither {known[0]} nor {AGREEMENT.key}, by which {self.task} is compared")
        if not (self.split_point or self.codec or self.curve):
            raise SpicError(f"{where}: names neither a split_point nor a codec nor a curve")
        return self


# ---- what each field may hold: (test, words) -------------------------------------------------------------------------

Check = tuple[Callable[[Any], bool], str]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_amount(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= MOST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_amount(value)


def _maps_to(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


MOST = 1e18  # more than any byte count or number of operations; a float above it is damage
NAME: Check = (lambda value: isinstance(value, str) and len(value) < 1000, "a short text")
FLAG: Check = (lambda value: isinstance(value, bool), "true or false")
COUNT: Check = (_is_count, "a whole number, 0 or more")
WHOLE: Check = (lambda value: isinstance(value, int) and _is_number(value) and abs(value) <= MOST, "a whole number")
AMOUNT: Check = (_is_amount, "a number, 0 or more")
NUMBERS: Check = (_maps_to(lambda value: _is_number(value) and abs(value) <= MOST or value != value), "names with a number each")
AMOUNTS: Check = (_maps_to(_is_amount), "names with a number, 0 or more, each")
NAMES: Check = (_maps_to(lambda value: isinstance(value, str)), "names with a text each")
ANYTHING: Check = (lambda value: isinstance(value, dict), "a JSON object")

REQUIRED = ("task", "benchmark", "images", "scores", "baseline", "bpp", "bpp_wire", "bytes_per_image")
OPTIONAL = {  # these may also be null
    "bpp_table": AMOUNT, "split_point": NAME, "compress_factor": COUNT, "coder": NAME, "tables": NAME, "codec": NAME,
    "quality": WHOLE, "quality_name": NAME, "chroma": NAME, "settings": NAME, "curve": NAME, "seed": COUNT, "costs": ANYTHING}
CHECKS: dict[str, Check] = {
    "task": NAME, "benchmark": NAME, "images": (lambda value: _is_count(value) and value > 0, "a whole number above 0"),
    "scores": NUMBERS, "baseline": NUMBERS, "bpp": AMOUNT, "bpp_wire": AMOUNT, "bytes_per_image": AMOUNT, "device": NAME,
    "escapes": COUNT, "uncoded_values_per_image": COUNT, "amp": FLAG, "seconds": AMOUNTS, "versions": NAMES,
    "inputs": ANYTHING, "more": ANYTHING, **OPTIONAL}
COST_CHECKS: dict[str, Check] = {entry.name: AMOUNT if entry.name.endswith("seconds") else COUNT for entry in fields(Costs)}


def _check_fields(content: dict, checks: dict[str, Check], where: str) -> None:
    for key, value in content.items():
        if key not in checks:
            raise SpicError(f"{where}: unknown entry {key[:80]!r}; measure again")
        may_be_null = key in OPTIONAL or checks is COST_CHECKS
        test, words = checks[key]
        if not (may_be_null and value is None or test(value)):
            raise SpicError(f"{where}: {key} must be {words}, not {json.dumps(value)[:80]}")


@dataclass(frozen=True)
class Results:
    """What files of results hold together. missing: what could not be measured → why."""

    records: tuple[Record, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Write all into one file, whole."""
        write_json(path, {"records": [record.to_json() for record in self.records], "missing": dict(self.missing)})


def write_record(path: Path, record: Record) -> None:
    """Write one record; the file appears complete or not at all."""
    write_json(path, record.to_json())


def read_results(paths: Iterable[Path | str]) -> Results:
    """The records of files and of folders; in a folder, JSON files that are no results are passed over.

    SpicError for a file that is missing, no JSON, or a result of an earlier version.
    """
    records: list[Record] = []
    missing: dict[str, str] = {}
    sources: list[str] = []
    for path in map(Path, paths):
        for file in _files(path):
            content = _read_json(file)
            if path.is_dir() and not _is_result(content):
                continue
            found = _records(content, str(file))
            records += found
            sources += [str(file)] * len(found)
            missing |= _missing(content, str(file))
    return Results(tuple(records), missing, tuple(sources))


def _files(path: Path) -> list[Path]:
    """The file, or those of a folder that end in .json; a folder inside may be called so, too."""
    return [file for file in sorted(path.rglob("*.json")) if file.is_file()] if path.is_dir() else [path]


def _is_result(content: Any) -> bool:
    """Of this version, or of an earlier one, whose records were flat or called reports."""
    return isinstance(content, dict) and bool({"records", "reports", "scores"} & set(content) or {"task", "bpp"} <= set(content))


def _records(content: Any, where: str) -> list[Record]:
    entries = content.get("records", [content]) if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise SpicError(f"{where}: not a record of a measurement")
    if isinstance(content, dict) and "reports" in content:
        raise SpicError(f"{where}: results of an earlier version; measure again")
    return [Record.from_json(entry, where) for entry in entries]


def _missing(content: Any, where: str) -> dict[str, str]:
    missing = content.get("missing", {}) if isinstance(content, dict) else {}
    if not NAMES[0](missing):
        raise SpicError(f"{where}: missing must be {NAMES[1]}")
    return missing


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise SpicError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise SpicError(f"{path}: not JSON ({reason(error)})") from None
