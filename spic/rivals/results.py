"""Finished points on disk, keyed by all that decides their outcome: data, network, device, codec, its version, quality,
and the code that handles them."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spic.errors import SpicError
from spic.files import write_whole

SAMPLED_IMAGES = 16
PACKAGE = Path(__file__).parents[1]
DECISIVE = ("metrics.py", *(f"rivals/{name}.py" for name in ("anatomy", "codecs", "evaluate", "features", "inputs", "video",
                                                               "learned/codec", "learned/networks")))


def _digest(*chunks: bytes) -> str:
    state = hashlib.blake2b(digest_size=12)
    for chunk in chunks:
        state.update(chunk)
    return state.hexdigest()


@cache
def code_id() -> str:
    """The sources that turn pictures into bytes and scores: a result of other code is no result of this one."""
    return _digest(*((PACKAGE / name).read_bytes() for name in DECISIVE))


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise SpicError(f"{path}: cannot be read ({error.strerror})") from None


def dataset_id(dataset: Any) -> str:
    """Length, size and time of every file where there are files, pixels and labels of some images spread over the set."""
    files = [_stat(path) for path in getattr(dataset, "paths", [])]
    stamps = repr([(file.st_size, file.st_mtime_ns) for file in files])
    chosen = sorted({round(i) for i in np.linspace(0, len(dataset) - 1, SAMPLED_IMAGES)})
    samples = [np.asarray(array) for index in chosen for array in (dataset.pixels(index), dataset.label(index))]
    return _digest(f"{len(dataset)} {stamps}".encode(), *(np.ascontiguousarray(array).tobytes() for array in samples))


class ResultCache:
    """One JSON file per point in a folder; a file that does not read is computed again. `folder` None keeps nothing."""

    def __init__(self, folder: Path | str | None):
        self.folder = None if folder is None else Path(folder)

    def _path(self, name: str, key: tuple) -> Path:
        return self.folder / f"{name.replace(' ', '-')}-{_digest(repr(key).encode())}.json"

    def read(self, name: str, key: tuple) -> dict[str, Any] | None:
        if self.folder is None:
            return None
        try:
            return json.loads(self._path(name, key).read_text())
        except (OSError, ValueError):
            return None

    def write(self, name: str, key: tuple, record: dict[str, Any]) -> None:
        if self.folder is None:
            return
        path = self._path(name, key)
        try:
            write_whole(path, json.dumps(record).encode())
        except OSError as error:
            raise SpicError(f"cannot write {path} ({error.strerror}); choose another folder for results") from None
