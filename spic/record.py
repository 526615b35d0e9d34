"""The result of a measurement: what val.py, the rivals, the figures and the study write and read.

A file holds one record, or {"records": [...], "missing": {what: why}}: several records, and what could not be measured.
Rates are bits per pixel of the network's input; scores are in the units of the task (spic/tasks).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from spic.errors import SpicError
from spic.files import write_json
from spic.tasks import AGREEMENT, TASKS, Task

@dataclass(frozen=True)
class Costs:
    """What the edge pays: parameters and multiply-accumulates of each part, seconds of one picture, bytes of files."""

    edge_parameters: int = 0
    edge_macs: int = 0
    edge_seconds: float = math.nan
    cloud_seconds: float = math.nan
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
        return self.baseline.get(self.of.accuracy(self.scores).key, math.nan)

    @property
    def point(self) -> tuple[str, str, str | None, int | None]:
        """Which operating point this is: task, benchmark, split point, compress factor."""
        return self.task, self.benchmark, self.split_point, self.compress_factor

    def to_json(self) -> dict:
        """Fields that say something, in their order."""
        told = {key: value for key, value in asdict(self).items() if value is not None and value != {}}
        return told | ({"costs": {k: v for k, v in told["costs"].items() if v is not None}} if self.costs else {})

    @classmethod
    def from_json(cls, content: Any, where: str) -> Record:
        """The record in a JSON object; ``where`` names its file in errors."""
        if not isinstance(content, dict) or content.get("task") not in TASKS:
            raise SpicError(f"{where}: not a record of a measurement: 'task' must be one of {', '.join(TASKS)}")
        known = {entry.name for entry in fields(cls)}
        required = ("benchmark", "images", "scores", "baseline", "bpp", "bpp_wire", "bytes_per_image")
        absent, foreign = [key for key in required if key not in content], sorted(set(content) - known)
        if absent or foreign:
            problem = f"lacks {', '.join(absent)}" if absent else f"holds the unknown entries {', '.join(foreign)}"
            raise SpicError(f"{where}: not a record of this version: it {problem}; measure again")
        record = cls(**{key: value for key, value in content.items() if key != "costs"},
                     costs=_costs(content.get("costs"), where))
        return record._checked(where)

    def _checked(self, where: str) -> Record:
        for name in ("scores", "baseline"):
            values = getattr(self, name)
            if not isinstance(values, dict) or not all(_is_number(value) for value in values.values()):
                raise SpicError(f"{where}: {name} must map the names of scores to numbers")
        known = {score.key for score in (*self.of.scores, AGREEMENT)}
        if not set(self.scores) & known or self.of.accuracy(self.scores).key not in self.scores:
            raise SpicError(f"{where}: scores holds none of {', '.join(sorted(known))}")
        wrong = [name for name in ("images", "bpp", "bpp_wire", "bytes_per_image") if not _is_number(getattr(self, name))]
        if wrong:
            raise SpicError(f"{where}: {wrong[0]} must be a number, not {getattr(self, wrong[0])!r}")
        if not (self.split_point or self.codec or self.curve):
            raise SpicError(f"{where}: names neither a split_point nor a codec nor a curve")
        return self


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _costs(content: Any, where: str) -> Costs | None:
    if content is None:
        return None
    if not isinstance(content, dict) or not set(content) <= {entry.name for entry in fields(Costs)}:
        raise SpicError(f"{where}: costs holds unknown entries; measure again")
    return Costs(**content)


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
    """The records of files and of folders; in a folder, JSON files that are no results are passed over."""
    records: list[Record] = []
    missing: dict[str, str] = {}
    sources: list[str] = []
    for path in map(Path, paths):
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            content = _read_json(file)
            if path.is_dir() and not (isinstance(content, dict) and content.keys() & {"records", "scores"}):
                continue
            found = _records(content, str(file))
            records += found
            sources += [str(file)] * len(found)
            missing |= content.get("missing", {}) if isinstance(content, dict) else {}
    return Results(tuple(records), missing, tuple(sources))


def _records(content: Any, where: str) -> list[Record]:
    entries = content.get("records", [content]) if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise SpicError(f"{where}: not a record of a measurement")
    return [Record.from_json(entry, where) for entry in entries]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise SpicError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise SpicError(f"{path}: not JSON ({error})") from None
