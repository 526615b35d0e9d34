"""Operating points: what dict.yaml says, checked, with the files it names.

dict.yaml: task -> benchmark -> split point -> compress factor -> step, stride, channels, weights, table.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf

from spic.errors import SpicError, reason

ROOT = Path(os.environ.get("SPIC_ROOT", Path(__file__).resolve().parents[1]))
DICT_FILE = ROOT / "dict.yaml"
TASKS = ("classification", "segmentation")
SPLIT_POINTS = ("S1", "S2", "S3", "US1", "US2")
SHARED = "shared"  # the kind of frequency table that every point has, as published


@dataclass(frozen=True)
class OperatingPoint:
    """One point of a rate-distortion curve: which bottleneck, at which split point, with which table.

    ``root``: the folder of its dict.yaml, which holds Weights/ and Freq_tab/. ``tables``: the kind of ``table``.
    """

    task: str
    benchmark: str
    split_point: str
    compress_factor: int
    step: float
    stride: int
    channels: int
    weights: Path
    table: Path
    root: Path = ROOT
    tables: str = SHARED

    def with_tables(self, tables: str) -> OperatingPoint:
        """This point, which has a shared table, with the table of another kind that lies beside that one."""
        return replace(self, table=beside(self.table, tables), tables=tables)

    @property
    def name(self) -> str:
        """The words a stream header carries, e.g. ``classification/scenes/S1/1``."""
        return f"{self.task}/{self.benchmark}/{self.split_point}/{self.compress_factor}"

    def file_name(self, suffix: str) -> str:
        """How files of measurements are called: ``S1_1.json``, ``S1_1.position.json``."""
        return str(beside(Path(f"{self.split_point}_{self.compress_factor}{suffix}"), self.tables))

    @property
    def location(self) -> str:
        """S1 for S1 and US1: where the network is cut, apart from how the bottleneck was trained."""
        return self.split_point.removeprefix("U")


def beside(path: Path, tables: str) -> Path:
    """Where what belongs to another kind of table lies: x.channel.json and x.position.json beside the shared x.json."""
    return path if tables == SHARED else path.with_suffix(f".{tables}{path.suffix}")


_FILE_FIELDS = ("weights", "table")
_POINT_FIELDS = ("step", "stride", "channels", *_FILE_FIELDS)


def load_points(path: Path = DICT_FILE) -> dict[tuple[str, str, str, int], OperatingPoint]:
    """All operating points of a dict.yaml, in file order, keyed (task, benchmark, split point, compress factor)."""
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError:
        raise SpicError(f"{path}: no such file; it lists the operating points and belongs to the project") from None
    except Exception as error:
        raise SpicError(f"{path}: not readable as YAML ({reason(error)})") from None
    points = {}
    for keys, entry in _leaves(path, tree, ("task", "benchmark", "split point", "compress factor")):
        point = _point(path, keys, entry)
        points[keys] = point
    return points


def _leaves(path: Path, tree, levels: tuple[str, ...], keys: tuple = ()):
    if not isinstance(tree, dict):
        raise SpicError(f"{path}: {'.'.join(map(str, keys)) or 'the file'} must map {levels[0] if levels else 'names'}"
                        f" to entries, not be a {type(tree).__name__}")
    if not levels:
        yield keys, tree
        return
    for key, branch in tree.items():
        yield from _leaves(path, branch, levels[1:], keys + (key,))


def _point(path: Path, keys: tuple, entry: dict) -> OperatingPoint:
    where = f"{path}: {'.'.join(map(str, keys))}"
    task, _, split_point, factor = keys
    _require(task in TASKS, where, f"the task must be one of {', '.join(TASKS)}")
    _require(split_point in SPLIT_POINTS, where, f"the split point must be one of {', '.join(SPLIT_POINTS)}")
    _require(isinstance(factor, int) and factor >= 0, where, "the compress factor must be a whole number")
    _require(set(entry) == set(_POINT_FIELDS), where, f"the keys must be exactly {', '.join(_POINT_FIELDS)}")
    _require(isinstance(entry["step"], (int, float)) and 0 < entry["step"] < 1e6, where, "step must be a number > 0")
    for key in ("stride", "channels"):
        _require(isinstance(entry[key], int) and entry[key] > 0, where, f"{key} must be a whole number > 0")
    for key in _FILE_FIELDS:
        _require(isinstance(entry[key], str), where, f"{key} must be a file name")
    files = {key: path.parent / entry[key] for key in _FILE_FIELDS}
    return OperatingPoint(*keys, **{**entry, "step": float(entry["step"]), **files}, root=path.parent)


def _require(condition: bool, where: str, message: str) -> None:
    if not condition:
        raise SpicError(f"{where}: {message}")


def select(points: dict, task: str, benchmark: str, split_points, compress_factors) -> list[OperatingPoint]:
    """The points asked for; ``all`` stands for every split point or every factor of it."""
    benchmarks = list(dict.fromkeys(key[1] for key in points if key[0] == task))
    _one_of("benchmark", benchmark, benchmarks, f"for {task}")
    valid = list(dict.fromkeys(key[2] for key in points if key[:2] == (task, benchmark)))
    chosen = valid if "all" in split_points else list(dict.fromkeys(split_points))
    return [point for split_point in chosen
            for point in _factors(points, task, benchmark, _one_of("split point", split_point, valid, f"in {benchmark}"),
                                  compress_factors)]


def _factors(points, task, benchmark, split_point, wanted) -> list[OperatingPoint]:
    valid = {str(key[3]): point for key, point in points.items() if key[:3] == (task, benchmark, split_point)}
    chosen = valid if "all" in wanted else dict.fromkeys(map(str, wanted))
    return [valid[_one_of("compress factor", factor, valid, f"of {split_point} in {benchmark}")] for factor in chosen]


def _one_of(what: str, value: str, valid, where: str) -> str:
    if value not in valid:
        raise SpicError(f"unknown {what} {value!r}; {where} there are: {', '.join(valid)}")
    return value
