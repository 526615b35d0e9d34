"""What was measured on each image of a point: its bytes, and what its score is summed from.

val.py and the rivals write it alike, a CSV file per point with a row per image (spic.report.write_csv); a record names its
file by the file's SHA-256, so that files may move, and one that was changed is not taken for another.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from spic.errors import SpicError, reason
from spic.evaluate import PLAIN
from spic.files import sha256
from spic.record import Record

MOST_ROWS = 10**6


@dataclass(frozen=True)
class Samples:
    """Of one point, N images: names; payload and wire bytes, float [N]; summands of the score (spic.tasks), float [N, K],
    of the compressed and of the uncompressed network."""

    names: tuple[str, ...]
    payload: np.ndarray
    wire: np.ndarray
    own: np.ndarray
    plain: np.ndarray


class Rows:
    """The files of rows that lie in some folders, or beside some files of results."""

    def __init__(self, places: Iterable[Path | str]):
        self.folders = [path if path.is_dir() else path.parent for path in map(Path, places)]
        self._read: dict[str, Samples] = {}

    @cached_property
    def _files(self) -> dict[str, Path]:
        return {sha256(file): file for folder in self.folders for file in sorted(folder.rglob("*.csv"))}

    def of(self, record: Record) -> Samples | None:
        """What the record's rows hold; None where no file of them is known, or its images have no labels."""
        mark = record.more.get("per_image")
        if not isinstance(mark, str) or mark not in self._files:
            return None
        if mark not in self._read:
            self._read[mark] = read(self._files[mark], record)
        return self._read[mark] if self._read[mark].own.size else None


def read(path: Path, record: Record) -> Samples:
    """The rows in a file, of the record's task; SpicError for a file that holds other ones."""
    try:
        rows = list(csv.DictReader(path.read_text().splitlines(), strict=True))
        if not 0 < len(rows) <= MOST_ROWS or len(rows) != record.images:
            raise ValueError(f"{len(rows)} rows for {record.images} images")
        payload, wire = (np.array([float(row[name]) for row in rows]) for name in ("payload_bytes", "frame_bytes"))
        own, plain = (_summands(rows, [f"{start}{name}" for name in record.of.summed]) for start in ("", PLAIN))
    except (OSError, csv.Error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpicError(f"{path}: not a row per image as this version writes it ({reason(error)}); measure again") from None
    # what a stream sends once is shared out among its images
    once = record.bpp_wire / record.bpp * payload.mean() - wire.mean() if record.bpp else 0.0
    return Samples(tuple(row["image"] for row in rows), payload, wire + once, own, plain)


def _summands(rows: Sequence[dict], names: Sequence[str]) -> np.ndarray:
    """[N, K]; K is 0 where the images have no labels."""
    known = [name for name in names if name in rows[0]]
    table = np.array([[float(cell) for name in known for cell in row[name].split()] for row in rows])
    if not np.isfinite(table).all():
        raise ValueError("a number that is none")
    return table.reshape(len(rows), -1)
