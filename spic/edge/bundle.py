"""The bundle: the edge halves of operating points of one network as ONNX, their tables and a manifest; a folder or one .zip.

    bundle = Bundle.open(Path("cam.zip"))
    bundle.points                    # what each needs, and what was measured when it was exported
    bundle.read("stage0.onnx")       # bytes, of the very SHA-256 that the manifest says

docs/deploy.md describes the manifest. Every file of a bundle lies beside it under a plain name. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from spic.coding import CODERS
from spic.coding.stream import StreamHeader
from spic.coding.symbols import checked_shape
from spic.datasets.pictures import NumpyPreparation, preparation
from spic.errors import SpicError, reason
from spic.files import make_folder, write_whole

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 2 << 30
"""Most of one file; protobuf, and so ONNX, allows no more."""
MAX_POINTS = 1000
_DATE = (1980, 1, 1, 0, 0, 0)  # of the files of a .zip, so that the same files give the same archive


@dataclass(frozen=True)
class BundlePoint:
    """One operating point of a bundle.

    name, coder, digest (of its table), shape: as in its streams' header. table, encoder: files. stages: files that make up
    the front, run one after the other; points share them. decoder, back: files of the cloud half, if it was exported.
    measured: what the check of the export found (docs/deploy.md).
    """

    name: str
    step: float
    coder: str
    digest: str
    shape: tuple[int, ...]
    table: str
    stages: tuple[str, ...]
    encoder: str
    decoder: str | None = None
    back: str | None = None
    measured: Mapping = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """All that the edge reads."""
        return [self.table, *self.stages, self.encoder]


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself. versions: of the packages that made it. weights: fingerprint of the network's.

    files: name → {"sha256", "bytes"}. int8: the front computes with whole numbers.
    """

    benchmark: str
    task: str
    network: str
    weights: str
    int8: bool
    preparation: NumpyPreparation
    points: tuple[BundlePoint, ...]
    files: Mapping[str, Mapping]
    versions: Mapping[str, str]

    def to_json(self) -> dict:
        """As it is written; ``from_json`` reads it back."""
        points = [{**asdict(point), "shape": list(point.shape), "stages": list(point.stages)} for point in self.points]
        own = {name: getattr(self, name) for name in ("benchmark", "task", "network", "weights", "int8", "versions")}
        return {"format": FORMAT, **own, "preparation": self.preparation.to_json(), "points": points, "files": self.files}

    @classmethod
    def from_json(cls, data) -> Manifest:
        """SpicError where it is no manifest, or one of a later format."""
        _require(isinstance(data, dict) and _whole(data.get("format")), "not the manifest of a bundle")
        _require(data["format"] <= FORMAT,
                 f"of format {data['format']}, this program reads format {FORMAT}: update spic on the edge")
        _require(set(data) == {"format", *cls.__dataclass_fields__}, f"unexpected or missing entries: {sorted(data)}")
        for name in ("benchmark", "task", "network", "weights"):
            _require(isinstance(data[name], str), f"{name}: must be a text")
        files = data["files"]
        _require(isinstance(files, dict) and all(map(_is_file_entry, files.items())),
                 "files: must name each file's SHA-256 and bytes")
        _require(isinstance(data["versions"], dict), "versions: must name packages")
        _require(isinstance(data["points"], list) and 0 < len(data["points"]) <= MAX_POINTS,
                 "points: must be a list of some")
        points = tuple(_point(entry, files) for entry in data["points"])
        _require(len({point.name for point in points}) == len(points), "points: a name stands twice")
        own = {name: data[name] for name in ("benchmark", "task", "network", "weights", "versions")}
        return cls(**own, int8=bool(data["int8"]), preparation=preparation(data["preparation"]), points=points, files=files)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SpicError(message)


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_file_entry(item) -> bool:
    name, entry = item
    return _plain(name) and isinstance(entry, dict) and set(entry) == {"sha256", "bytes"} and _whole(entry["bytes"]) \
        and 0 <= entry["bytes"] <= MAX_FILE_BYTES and bool(re.fullmatch("[0-9a-f]{64}", str(entry["sha256"])))


def _plain(name: str) -> bool:
    """A name in the bundle's own folder: no path leads out of it."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,150}", name) is not None and name != MANIFEST


def _point(entry, files: Mapping) -> BundlePoint:
    _require(isinstance(entry, dict) and set(entry) == set(BundlePoint.__dataclass_fields__),
             "points: unexpected or missing entries")
    name = entry["name"]
    _require(isinstance(name, str) and 0 < len(name) < 500, "points: each must have a name")
    _require(isinstance(entry["step"], (int, float)) and math.isfinite(entry["step"]) and entry["step"] > 0,
             f"{name}: step must be a number > 0")
    _require(entry["coder"] in CODERS, f"{name}: unknown coder {entry['coder']!r}, there are {', '.join(CODERS)}")
    _require(isinstance(entry["shape"], list), f"{name}: shape must be a list")
    _require(bool(re.fullmatch("[0-9a-f]{64}", str(entry["digest"]))), f"{name}: digest must be a SHA-256")
    _require(isinstance(entry["stages"], list) and bool(entry["stages"]), f"{name}: stages must be a list of files")
    _require(isinstance(entry["measured"], dict), f"{name}: measured must be an object")
    cloud = [entry[part] for part in ("decoder", "back") if entry[part] is not None]
    for file in (entry["table"], entry["encoder"], *entry["stages"], *cloud):
        _require(isinstance(file, str) and file in files, f"{name}: {file!r} is not among the files")
    return BundlePoint(**entry | {"shape": checked_shape(entry["shape"]), "stages": tuple(entry["stages"])})


class Bundle:
    """An opened bundle: its manifest is read, each other file when it is asked for."""

    def __init__(self, path: Path, place, manifest: Manifest):
        self.path, self._place, self.manifest = path, place, manifest

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """A folder or .zip that ``spic export`` wrote; anything else is a SpicError of one line."""
        place = _place(path)
        try:
            manifest = Manifest.from_json(json.loads(_read(path, place, MANIFEST, MAX_MANIFEST_BYTES),
                                                     parse_constant=_no_number))
        except (ValueError, RecursionError) as error:
            raise SpicError(f"{path}: {MANIFEST}: not valid JSON ({reason(error)}); export it again") from None
        except SpicError as error:
            raise SpicError(str(error) if str(path) in str(error) else f"{path}: {MANIFEST}: {error}") from None
        return cls(path, place, manifest)

    @property
    def points(self) -> tuple[BundlePoint, ...]:
        return self.manifest.points

    def header(self, point: BundlePoint) -> StreamHeader:
        """What the streams of a point begin with."""
        return StreamHeader(point.name, point.coder, point.digest, point.shape, self.manifest.preparation.image_size)

    def read(self, name: str) -> bytes:
        """A file of the bundle; SpicError where it is missing, or is not the one that the manifest means."""
        expected = self.manifest.files[name]
        data = _read(self.path, self._place, name, expected["bytes"])
        if len(data) != expected["bytes"] or hashlib.sha256(data).hexdigest() != expected["sha256"]:
            raise SpicError(f"{self.path}: {name} is truncated or altered (its SHA-256 differs from the manifest's); copy "
                            "the bundle again, or export it again")
        return data


def _no_number(text: str):
    raise ValueError(f"{text} is no number")


def _place(path: Path):
    """The folder, or what an archive holds: both are asked in the same way."""
    if path.is_dir():
        return path
    if not path.exists():
        raise SpicError(f"{path}: no such bundle; `spic export` writes one")
    try:
        return zipfile.Path(zipfile.ZipFile(path))
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise SpicError(f"{path}: neither a folder nor a readable .zip ({reason(error)}); `spic export` writes "
                        "bundles") from None


def _read(path: Path, place, name: str, limit: int) -> bytes:
    """At most ``limit`` + 1 bytes of the file, however large it claims to be."""
    try:
        with (place / name).open("rb") as file:
            return file.read(limit + 1)[:limit + 1]
    except (FileNotFoundError, KeyError):
        raise SpicError(f"{path}: holds no {name}, so it is no bundle, or not all of one; `spic export` writes "
                        "bundles") from None
    except Exception as error:  # zipfile and zlib meet damaged archives with many kinds of exceptions
        raise SpicError(f"{path}: {name} cannot be read ({reason(error)}); copy the bundle again") from None


def entry_of(data: bytes) -> dict:
    """What a manifest says of a file."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def check_output(path: Path) -> None:
    """Before the work: where a bundle cannot be written."""
    if path.suffix == ".zip":
        if path.is_dir():
            raise SpicError(f"{path}: is a folder; choose another name")
    elif path.suffix[1:].isalpha():
        raise SpicError(f"{path}: a bundle is a folder or a .zip")
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SpicError(f"{path}: is there already; choose another name, or remove it")
    make_folder(path.parent)
    if not os.access(path.parent, os.W_OK):
        raise SpicError(f"{path.parent}: cannot be written; choose another place")


def write(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """The bundle, whole or not at all: under a temporary name, then renamed."""
    everything = {MANIFEST: (json.dumps(manifest.to_json(), indent=1) + "\n").encode(), **files}
    if path.suffix == ".zip":
        write_whole(path, _zipped(everything))
        return
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        for name, data in everything.items():
            write_whole(temporary / name, data)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
