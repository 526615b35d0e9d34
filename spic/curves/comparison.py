"""Result files (val.py's reports, the rivals' sweeps) → curves of one data set and one network.

A file holds one record, a list of records, {"reports": [...], "missing": {codec: reason}}, or {"costs": [...]}: edge
cost and latency of operating points. Records of the same curve and setting but different seeds become one point with a
mean and a deviation.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable

from spic.errors import SpicError


@dataclass(frozen=True)
class Task:
    """How a task's accuracy is called in records and figures."""

    key: str
    label: str
    digits: int
    drop: float  # "one point" in this unit
    same_baseline: float  # largest difference between runs of one network


TASKS = {
    "classification": Task("top1", "top-1 accuracy (%)", 2, 1.0, 0.5),
    "segmentation": Task("miou", "mean IoU", 4, 0.01, 0.005),
}
CODEC_NAMES = {"jpeg": "JPEG", "webp": "WebP", "jpeg2000": "JPEG 2000", "avif": "AVIF", "hevc": "HEVC", "av1": "AV1"}
VARIANTS = ("coder", "tables", "amp")  # told in a curve's name where a set of results mixes them
COST_KEYS = ("task", "benchmark", "split_point", "compress_factor")
RATES = {"bpp": "bits per pixel, payload", "bpp_wire": "bits per pixel, all bytes sent"}


@dataclass(frozen=True)
class Point:
    """One marker: means over seeds, and deviations where there are several."""

    setting: str
    bpp: float
    accuracy: float
    bpp_wire: float = math.nan
    bpp_deviation: float = 0.0
    accuracy_deviation: float = 0.0
    seeds: int = 1
    records: tuple[dict, ...] = field(default=(), repr=False, compare=False)

    def mean(self, key: str) -> float:
        """Mean of a number that some records hold; NaN when none does."""
        found = [record[key] for record in self.records if isinstance(record.get(key), (int, float))]
        return statistics.fmean(found) if found else math.nan


@dataclass(frozen=True)
class Curve:
    name: str
    points: tuple[Point, ...]  # by rising bpp

    def drawable(self) -> list[Point]:
        """Points with a finite accuracy and a rate that a logarithmic axis can show."""
        return [p for p in self.points if math.isfinite(p.accuracy) and math.isfinite(p.bpp) and p.bpp > 0]


@dataclass(frozen=True)
class Comparison:
    """All that one figure shows."""

    task: str
    benchmark: str
    curves: tuple[Curve, ...]
    baseline: float
    images: int | None = None
    notes: tuple[str, ...] = ()
    title: str = ""
    rate: str = "bpp"

    @property
    def unit(self) -> Task:
        return TASKS[self.task]


def read(paths: Iterable[Path | str], rate: str = "bpp") -> Comparison:
    """Result files and folders of them → one comparison; SpicError when they do not belong into one figure."""
    records, missing = _load(paths)
    if not records:
        raise SpicError("no results found: name JSON files written by val.py or spic.rivals, or folders of them")
    _check_one_origin(records)
    curves = tuple(_curve(name, members, rate) for name, members in _by_curve(records).items())
    first = records[0]
    unit = TASKS[first["task"]]
    notes = [f"{name} is missing: {reason}" for name, reason in sorted(missing.items())]
    return Comparison(first["task"], first["benchmark"], curves, _baseline(records, unit), first.get("images"),
                      tuple(notes + _conditions(records) + _uncoded(records) + _left_out(curves)), rate=rate)


def _load(paths: Iterable[Path | str]) -> tuple[list[dict], dict[str, str]]:
    records: list[dict] = []
    costs: list[dict] = []
    missing: dict[str, str] = {}
    for path in map(Path, paths):
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            content = _read_json(file)
            records += _records(content, file, lenient=path.is_dir())
            if isinstance(content, dict):
                missing |= content.get("missing", {})
                costs += content.get("costs", [])
    return _with_costs(records, costs), missing


def _with_costs(records: list[dict], costs: list[dict]) -> list[dict]:
    """Operating points with what was measured apart from their reports."""
    by_point = {tuple(row.get(key) for key in COST_KEYS): row for row in costs}
    return [{**by_point.get(tuple(record.get(key) for key in COST_KEYS), {}), **record} for record in records]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise SpicError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise SpicError(f"{path}: not JSON ({error})") from None


def _records(content: Any, path: Path, lenient: bool) -> list[dict]:
    """The checked records of one file. In a folder, JSON files that hold none are passed over."""
    if isinstance(content, dict):
        content = [] if "costs" in content else content.get("reports", [content])
    if not isinstance(content, list):
        content = [content]
    if lenient and not all(isinstance(record, dict) and "task" in record for record in content):
        return []
    return [_checked(record, path) for record in content]


def _checked(record: Any, path: Path) -> dict:
    if not isinstance(record, dict) or record.get("task") not in TASKS:
        raise SpicError(f"{path}: not a result: 'task' must be one of {', '.join(TASKS)}")
    accuracy = TASKS[record["task"]].key
    absent = [key for key in ("benchmark", "bpp", accuracy, f"baseline_{accuracy}") if key not in record]
    if absent or not ({"split_point", "codec", "curve"} & set(record)):
        raise SpicError(f"{path}: not a result: it lacks {', '.join(absent or ['split_point or codec'])}")
    return {**record, "source": str(path)}


def _check_one_origin(records: list[dict]) -> None:
    """One figure, one data set: same task, benchmark and number of images."""
    for keys, what in ((("task", "benchmark"), "data sets"), (("images",), "numbers of images")):
        origins = {}
        for record in records:
            origins.setdefault(" ".join(str(record.get(key)) for key in keys), record["source"])
        if len(origins) > 1:
            told = "; ".join(f"{origin} in {source}" for origin, source in list(origins.items())[:3])
            raise SpicError(f"different {what} do not belong into one figure: {told}")


def _baseline(records: list[dict], unit: Task) -> float:
    """Accuracy of the uncompressed network, one for all."""
    values = [record[f"baseline_{unit.key}"] for record in records]
    values = [value for value in values if value is not None and math.isfinite(value)]
    if not values:
        return math.nan
    if max(values) - min(values) > unit.same_baseline:
        raise SpicError(f"the results come from different networks: uncompressed {unit.label} "
                        f"from {min(values):.4g} to {max(values):.4g}")
    return statistics.median(values)


def _name(record: dict) -> str:
    if "curve" in record:
        return record["curve"]
    if "codec" in record:
        codec = CODEC_NAMES.get(record["codec"], record["codec"])
        return f"{record['split_point']} {codec}" if record.get("split_point") else codec
    return record["split_point"]


def _by_curve(records: list[dict]) -> dict[str, list[dict]]:
    """Records by curve; what varies inside a name (Huffman and rANS, say) is added to the name."""
    groups: dict[str, list[dict]] = defaultdict(list)
    for record in records:
        groups[_name(record)].append(record)
    curves: dict[str, list[dict]] = defaultdict(list)
    for name, members in groups.items():
        varying = [key for key in VARIANTS if len({str(member.get(key)) for member in members}) > 1]
        for member in members:
            curves[" ".join([name, *(str(member.get(key)) for key in varying)])].append(member)
    return dict(sorted(curves.items(), key=lambda item: _place(item[0], item[1][0])))


def _place(name: str, record: dict) -> tuple[int, str]:
    """Split points come first, then picture codecs in their usual order, then all else."""
    if "codec" not in record and "curve" not in record:
        return 0, name
    order = list(CODEC_NAMES.values())
    return (1 + order.index(name), name) if name in order else (len(order) + 1, name)


def _curve(name: str, records: list[dict], rate: str) -> Curve:
    settings: dict[str, list[dict]] = defaultdict(list)
    for record in records:
        settings[str(record.get("compress_factor", record.get("quality")))].append(record)
    points = [_point(name, setting, members, rate) for setting, members in settings.items()]
    return Curve(name, tuple(sorted(points, key=lambda point: (math.isnan(point.bpp), point.bpp))))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _point(name: str, setting: str, records: list[dict], rate: str) -> Point:
    key = TASKS[records[0]["task"]].key
    by_seed: dict[Any, dict] = {}
    for record in records:
        twin = by_seed.setdefault(record.get("seed"), record)
        if any(twin.get(k) != record.get(k) for k in ("bpp", key) if twin.get(k) == twin.get(k)):
            raise SpicError(f"{name} {setting}: {twin['source']} and {record['source']} differ but name the same seed")
    rates = [_number(record.get(rate)) for record in by_seed.values()]
    accuracies = [_number(record[key]) for record in by_seed.values()]
    several = len(by_seed) > 1
    return Point(
        setting, statistics.fmean(rates), statistics.fmean(accuracies),
        statistics.fmean(_number(record.get("bpp_wire")) for record in by_seed.values()),
        statistics.stdev(rates) if several else 0.0, statistics.stdev(accuracies) if several else 0.0,
        len(by_seed), tuple(by_seed.values()),
    )


def _conditions(records: list[dict]) -> list[str]:
    """Each codec's chroma format, settings and version, once."""
    told = {_name(record): f"{_name(record)}: chroma {record['chroma']}, {record['settings']}; "
            + ", ".join(record.get("versions", {}).values()) for record in records if "codec" in record}
    return [told[name] for name in sorted(told)]


def _uncoded(records: list[dict]) -> list[str]:
    """Published points whose bits are not all that crosses."""
    most: dict[str, int] = {}
    for record in records:
        if record.get("uncoded_values_per_image"):
            most[_name(record)] = max(most.get(_name(record), 0), record["uncoded_values_per_image"])
    return [f"{name}: up to {values:,} values per image reach the cloud uncoded and are not in its bits: as published, it is "
            "no split of the network" for name, values in most.items()]


def _left_out(curves: Iterable[Curve]) -> list[str]:
    return [f"{curve.name} {point.setting} is not drawn: bpp {point.bpp}, accuracy {point.accuracy}"
            for curve in curves for point in curve.points if point not in curve.drawable()]
