"""Operating points: what dict.yaml says, checked.

    task -> benchmark -> split point -> compress factor -> step, stride, channels, weights, table
                                                           [network, cut, activation, form, default_tables]

Those in brackets are optional and may stand at any level below the task; the innermost counts. Any name may be a split
point; S1, S2, S3 (supervised) and US1, US2, US3 (without labels) are those of the papers, CS1, CS2, CS3 the closed form at the same places, which no training made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from spic.bottleneck import ACTIVATIONS, FORMS, LINEAR, MAX_CHANNELS, RECTIFIED, SEPARABLE
from spic.coding.counting import KINDS
from spic.errors import SpicError, reason
from spic.files import write_whole
from spic.tasks import TASKS

_CHECKOUT = Path(__file__).resolve().parents[1]
_INSTALLED = Path(__file__).with_name("root")  # where a wheel keeps dict.yaml, Weights/ and Freq_tab/
ROOT = Path(os.environ.get("SPIC_ROOT") or (_CHECKOUT if (_CHECKOUT / "dict.yaml").exists() else _INSTALLED))
DICT_FILE = ROOT / "dict.yaml"
SHARED = "shared"  # the kind of frequency table that every point has, as published
MAX_FILE_BYTES = 4 << 20
MAX_NODES = 50_000  # of a dict.yaml once its aliases are written out
MAX_DEPTH = 20
MAX_NAME = 120
MAX_STEP = 1e6
MAX_FACTOR = 2**31 - 1  # as on the command line: a factor is part of file names

Key = tuple[str, str, str, int]
"""Task, benchmark, split point, compress factor."""


@dataclass(frozen=True)
class OperatingPoint:
    """One point of a rate-distortion curve: which bottleneck, at which split point, with which table.

    root: the folder of its dict.yaml, which holds Weights/ and Freq_tab/. tables: the kind of ``table``. default_tables: the kind
    that codes where nobody asks for another. network: a name of the zoo, None for the benchmark's. cut: the node or module after
    which the network is cut, None for where the benchmark puts the split point. activation: the decoder's last one. form: of the bottleneck (spic.bottleneck.FORMS).
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
    network: str | None = None
    cut: str | None = None
    activation: str = "relu"
    form: str = SEPARABLE
    default_tables: str = SHARED

    def with_tables(self, tables: str | None) -> OperatingPoint:
        """This point with its table of another kind, which lies beside the shared one; None: its default."""
        kind = tables or self.default_tables
        shared = self.table if self.tables == SHARED else self.table.with_name("".join(self.table.name.rsplit(f".{self.tables}", 1)))
        return replace(self, table=beside(shared, kind), tables=kind)

    @property
    def key(self) -> Key:
        return self.task, self.benchmark, self.split_point, self.compress_factor

    @property
    def name(self) -> str:
        """The words a stream header carries, e.g. ``classification/scenes/S1/1``."""
        return "/".join(map(str, self.key))

    def file_name(self, suffix: str) -> str:
        """How files of measurements are called: ``S1_1.json``, ``S1_1.position.json``."""
        return str(beside(Path(f"{self.split_point}_{self.compress_factor}{suffix}"), self.tables))

    @property
    def settings(self) -> dict[str, str]:
        """What dict.yaml says of it beyond numbers and files."""
        return {name: value for name in _SETTINGS if (value := getattr(self, name)) != getattr(OperatingPoint, name)}

    @property
    def location(self) -> str:
        """S1 for S1, US1 and CS1: where the network is cut, apart from how the bottleneck was made."""
        return location(self.split_point)


def location(split_point: str) -> str:
    """S1 for S1, US1 and CS1; another name stays as it is."""
    return split_point[1:] if re.fullmatch(r"[UC]S\d+", split_point) else split_point


def supervised(split_point: str) -> bool:
    """Whether the name says that the bottleneck was trained with labels: S1, S2, S3."""
    return re.fullmatch(r"S\d+", split_point) is not None


def beside(path: Path, tables: str) -> Path:
    """Where what belongs to another kind of table lies: x.channel.json and x.position.json beside the shared x.json."""
    return path if tables == SHARED else path.with_suffix(f".{tables}{path.suffix}")


_SUITED = {LINEAR: ("position", "channel"), RECTIFIED: ()}
"""Kinds of tables, the best first: each number that a linear bottleneck gives has its own distribution; the logits of a rectified
one are all alike, and one that no counted picture raised gets its share, too."""


def best_tables(form: str, kinds: Iterable[str]) -> str:
    """Of these kinds of tables the one that suits a bottleneck; for others than those above what was decoded before."""
    return next((kind for kind in _SUITED.get(form, ("context", "position", "channel")) if kind in kinds), SHARED)


def check_root(root: Path = ROOT) -> None:
    """Before work whose results belong beside a dict.yaml: an installed package may lie where its user cannot write."""
    if not os.access(root, os.W_OK):
        raise SpicError(f"{root}: you cannot write here, where weights and tables belong; copy it to a folder of your own "
                        f"(cp -r {root} DIR) and set SPIC_ROOT=DIR")


_FILE_FIELDS = ("weights", "table")
_POINT_FIELDS = ("step", "stride", "channels", *_FILE_FIELDS)
_SETTINGS = ("network", "cut", "activation", "form", "default_tables")


def load_points(path: Path = DICT_FILE) -> dict[Key, OperatingPoint]:
    """All operating points of a dict.yaml, in file order; anything that is not as described above is a SpicError."""
    tree = read_tree(path)
    points = {}
    for keys, entry in _entries(path, tree):
        points[keys] = _point(path, keys, entry)
    return points


def read_tree(path: Path) -> dict:
    """The YAML mapping in a file; references are resolved, keys that stand twice are refused."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SpicError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB; a list of operating points is not")
        text = path.read_text("utf-8")
        _check_nodes(path, yaml.compose(text, _ShallowLoader))
        tree = OmegaConf.to_container(OmegaConf.create(text), resolve=True) if text.strip() else {}
    except FileNotFoundError:
        raise SpicError(f"{path}: no such file; it lists the operating points and belongs to the project") from None
    except SpicError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise SpicError(f"{path}: cannot be read ({reason(error)})") from None
    except Exception as error:
        raise SpicError(f"{path}: not readable as YAML ({_where(error)}{reason(error)})") from None
    if not isinstance(tree, dict):
        raise SpicError(f"{path}: the file must map task to entries, not be a {type(tree).__name__}")
    return tree


class _ShallowLoader(yaml.SafeLoader):
    """Gives up early on nested brackets: each level costs seconds, and none beyond a point's means anything."""

    depth = 0

    def compose_node(self, parent, index):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', '')}; " if mark else ""


def _check_nodes(path: Path, root) -> None:
    """No key twice in a mapping, and no more nodes than a list of points needs, aliases counted as often as they stand."""
    waiting, seen = [root] if root else [], 0
    while waiting:
        node, seen = waiting.pop(), seen + 1
        if seen > MAX_NODES:
            raise SpicError(f"{path}: more than {MAX_NODES} entries; a list of operating points is smaller")
        if isinstance(node, yaml.MappingNode):
            keys: dict = {}
            for key, value in node.value:
                first = keys.setdefault((key.tag, str(key.value)), key)
                if first is not key:
                    raise SpicError(f"{path}: line {key.start_mark.line + 1}: {key.value} stands twice here, first in line "
                                    f"{first.start_mark.line + 1}; keep one of them")
                waiting.append(value)
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


_LEVELS = ("task", "benchmark", "split point", "compress factor")


def _entries(path: Path, tree, settings: Mapping = {}, keys: tuple = ()) -> Iterable[tuple[Key, dict]]:
    """(keys, entry) of each point, with the settings of the levels above it."""
    where = _dotted(keys) or "the file"
    if not isinstance(tree, dict):
        what = f"{_LEVELS[len(keys)]}s" if len(keys) < len(_LEVELS) else "names"
        raise SpicError(f"{path}: {where} must map {what} to entries, not be a {type(tree).__name__}")
    if len(keys) == len(_LEVELS):
        yield keys, {**settings, **tree}
        return
    own = {name: tree[name] for name in _SETTINGS if keys and name in tree}
    for key, branch in tree.items():
        if key not in own:
            yield from _entries(path, branch, {**settings, **own}, (*keys, key))


def _point(path: Path, keys: Key, entry: dict) -> OperatingPoint:
    where = f"{path}: {_dotted(keys)}"
    task, benchmark, split_point, factor = keys
    _require(task in TASKS, where, f"the task must be one of {', '.join(TASKS)}")
    for what, name in (("benchmark", benchmark), ("split point", split_point)):
        _require(is_name(name), where, f"the {what} must be a name of letters, digits, '.', '-' and '_', up to {MAX_NAME}")
    _require(_whole(factor) and 0 <= factor <= MAX_FACTOR, where, "the compress factor must be a whole number from 0 to "
             f"{MAX_FACTOR}")
    missing, foreign = set(_POINT_FIELDS) - set(entry), set(entry) - {*_POINT_FIELDS, *_SETTINGS}
    _require(not missing and not foreign, where, f"the keys must be exactly {', '.join(_POINT_FIELDS)} (and, if wanted, "
             f"{', '.join(_SETTINGS)})")
    _require(_number(entry["step"]) and 0 < entry["step"] < MAX_STEP, where, "step must be a number > 0")
    for key, most in (("stride", 64), ("channels", MAX_CHANNELS)):
        _require(_whole(entry[key]) and 0 < entry[key] <= most, where, f"{key} must be a whole number > 0, at most {most}")
    for key in (*_FILE_FIELDS, *(set(entry) & set(_SETTINGS))):
        _require(isinstance(entry[key], str) and 0 < len(entry[key]) <= 4096, where, f"{key} must be a "
                 f"{'file ' if key in _FILE_FIELDS else ''}name")
    for key in _FILE_FIELDS:
        _require(max(map(len, Path(entry[key]).parts)) <= 255, where, f"{key}: a file name of over 255 characters")
    _require(entry.get("activation", "relu") in ACTIVATIONS, where, f"activation must be one of {', '.join(ACTIVATIONS)}")
    _require(entry.get("form", SEPARABLE) in FORMS, where, f"form must be one of {', '.join(FORMS)}")
    _require(entry.get("default_tables", SHARED) in KINDS, where, f"default_tables must be one of {', '.join(KINDS)}")
    files = {key: path.parent / entry[key] for key in _FILE_FIELDS}
    return OperatingPoint(*keys, **{**entry, "step": float(entry["step"]), **files}, root=path.parent)


def is_name(name) -> bool:
    """Whether it may be the name of a benchmark or a split point: it becomes part of file names and stream headers."""
    return isinstance(name, str) and re.fullmatch(rf"\w[\w.-]{{0,{MAX_NAME - 1}}}", name) is not None \
        and name not in (*_SETTINGS, "all")


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value) -> bool:
    return _whole(value) or isinstance(value, float)


def _dotted(keys: Iterable) -> str:
    """Keys in a message, whatever their length."""
    return ".".join(str(key)[:MAX_NAME] for key in keys)


def _require(condition: bool, where: str, message: str) -> None:
    if not condition:
        raise SpicError(f"{where}: {message}")


def select(points: Mapping[Key, OperatingPoint], task: str, benchmark: str, split_points: Sequence[str],
           compress_factors: Sequence[str], tables: str | None = SHARED) -> list[OperatingPoint]:
    """The points asked for, ``with_tables``; ``all`` stands for every split point, or every factor of each. Unknown names are SpicErrors."""
    benchmarks = list(dict.fromkeys(key[1] for key in points if key[0] == task))
    _one_of("benchmark", benchmark, benchmarks, f"for {task}")
    valid = list(dict.fromkeys(key[2] for key in points if key[:2] == (task, benchmark)))
    chosen = _chosen("split point", split_points, valid, f"in {benchmark}")
    return [point.with_tables(tables) for split_point in chosen
            for point in _factors(points, (task, benchmark, split_point), compress_factors)]


def _factors(points, beginning: tuple[str, str, str], wanted: Sequence[str]) -> list[OperatingPoint]:
    valid = {str(key[3]): point for key, point in points.items() if key[:3] == beginning}
    return [valid[factor] for factor in _chosen("compress factor", wanted, list(valid), f"of {beginning[2]} in {beginning[1]}")]


def _chosen(what: str, wanted: Sequence[str], valid: list[str], where: str) -> list[str]:
    """Every name asked for is checked, whatever stands beside it."""
    names = list(dict.fromkeys(map(str, wanted)))
    for name in names:
        if name != "all":
            _one_of(what, name, valid, where)
    return valid if "all" in names else names


def _one_of(what: str, value: str, valid: Sequence[str], where: str) -> None:
    if value not in valid:
        raise SpicError(f"unknown {what} {value!r}; {where} there are: {', '.join(valid)}")


def record_point(path: Path, key: Key, entry: Mapping) -> None:
    """Put one operating point into a dict.yaml, sorted into place; comments at the head of the file stay.

    entry: the fields of the point, files relative to the dict.yaml. Settings of outer levels are kept as they are.
    """
    tree = read_tree(path) if path.exists() else {}
    task, benchmark, split_point, factor = key
    tree.setdefault(task, {}).setdefault(benchmark, {}).setdefault(split_point, {})[factor] = dict(entry)
    head = [line for line in path.read_text().splitlines() if line.startswith("#")] if path.exists() else []
    write_whole(path, ("\n".join([*head, *_lines(tree)]) + "\n").encode())


def _lines(tree: Mapping) -> Iterable[str]:
    for task in sorted(tree, key=list(TASKS).index):
        yield f"{task}:"
        for benchmark, splits in tree[task].items():
            yield f"  {benchmark}:"
            for split_point in sorted(splits, key=lambda name: (name not in _SETTINGS, name)):
                yield from _branch(split_point, splits[split_point])


def _branch(name: str, factors) -> Iterable[str]:
    if name in _SETTINGS:
        yield f"    {name}: {_scalar(factors)}"
        return
    yield f"    {name}:"
    for factor, entry in sorted(factors.items(), key=lambda item: (isinstance(item[0], int), item[0])):
        told = _scalar(entry) if factor in _SETTINGS else f"{{{', '.join(f'{k}: {_scalar(v)}' for k, v in entry.items())}}}"
        yield f"      {factor}: {told}"


def _scalar(value) -> str:
    """A number or a text as YAML reads it back."""
    text = str(value)
    return text if not isinstance(value, str) or re.fullmatch(r"[A-Za-z_][\w./-]*", text) and text not in _WORDS else \
        f'"{text}"' if '"' not in text and "\\" not in text else yaml.safe_dump(text).strip()


_WORDS = ("none", "null", "true", "false", "yes", "no", "on", "off", "Null", "True", "False", "Yes", "No", "On", "Off")
