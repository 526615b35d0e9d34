"""Which published file belongs to which operating point, and what its content must be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from spic.benchmarks import PUBLISHED, find
from spic.bottleneck import Geometry
from spic.errors import SpicError
from spic.points import DICT_FILE, OperatingPoint, load_points

MANIFEST_FILE = Path(__file__).parents[1] / "data" / "published_manifest.json"
_NAMING = {"weights": ("weights", "model", "pth.tar"), "table": ("freq_tab", "freq", "pickle")}


@dataclass(frozen=True)
class Artefact:
    """One published file: ``kind`` is ``weights`` or ``table``; ``target`` is where its import is written."""

    point: OperatingPoint
    kind: str

    @property
    def name(self) -> str:
        """Path in the published repository, whose files are numbered from 1."""
        folder, stem, suffix = _NAMING[self.kind]
        training = "unsupervised" if self.point.split_point.startswith("U") else "supervised"
        number = self.point.compress_factor + 1
        return f"{self.point.task.title()}/{folder}/{training}/{self.point.location}/{stem}{number}.{suffix}"

    @property
    def target(self) -> Path:
        return getattr(self.point, self.kind)

    @property
    def content(self) -> str:
        """SHA-256 of what the file says, as its import says it too: see ``Checkpoint.content`` and ``table_content``."""
        return _manifest()[self.name]["content"]

    @property
    def size(self) -> int:
        """Bytes of the published file."""
        return _manifest()[self.name]["bytes"]

    def check(self, data: bytes) -> bytes:
        """``data`` if it is the published file, else a SpicError."""
        if len(data) != self.size or hashlib.sha256(data).hexdigest() != _manifest()[self.name]["sha256"]:
            raise SpicError(f"{self.name}: not the published file (its size or SHA-256 differs from the manifest)")
        return data


def published_points(dict_file: Path = DICT_FILE) -> list[OperatingPoint]:
    """The published operating points among those of dict.yaml, in file order: all 61 of them."""
    return [point for point in load_points(dict_file).values() if PUBLISHED.get(point.task) == point.benchmark]


def geometry(point: OperatingPoint) -> Geometry:
    """Of a published point's bottleneck."""
    return find(point.task, PUBLISHED[point.task]).geometry[point.location]


def artefacts(points: list[OperatingPoint]) -> list[Artefact]:
    """Two files per point."""
    known = [Artefact(point, kind) for point in points for kind in ("table", "weights")]
    for artefact in known:
        if artefact.name not in _manifest():
            raise SpicError(f"dict.yaml: {artefact.point.name} is not a published point; give your own points "
                            f"another benchmark name than {artefact.point.benchmark}")
    return known


@lru_cache
def _manifest() -> dict[str, dict]:
    return json.loads(MANIFEST_FILE.read_text())
