"""Finished points on disk, keyed by all that decides their outcome: data, network, device, codec, its version, quality,
and the code that handles them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spic.files import stamp, write_json

SAMPLED_IMAGES = 16
PACKAGE = Path(__file__).parents[1]
DECISIVE = ("costs.py", *(f"rivals/{name}.py" for name in ("anatomy", "answer", "codecs", "evaluate", "features", "inputs", "reduced", "video",
                                                               "learned/codec", "learned/networks")))


def _digest(*chunks: bytes) -> str:
    state = hashlib.blake2b(digest_size=12)
    for chunk in chunks:
        state.update(chunk)
    return state.hexdigest()


@cache
def code_id() -> str:
    """The sources that turn pictures into bytes and scores: a result of other code is no result of this one."""
    tasks = sorted((PACKAGE / "tasks").glob("*.py"))
    return _digest(*(path.read_bytes() for path in [*(PACKAGE / name for name in DECISIVE), *tasks]))


def dataset_id(dataset: Any) -> str:
    """Changes with the data set: its length, its files where it has any, pixels and labels of some images all over it."""
    files = stamp(getattr(dataset, "paths", []))
    chosen = sorted({round(i) for i in np.linspace(0, len(dataset) - 1, SAMPLED_IMAGES)})
    samples = [np.asarray(array) for index in chosen for array in (dataset.pixels(index), dataset.label(index))]
    return _digest(f"{len(dataset)} {files}".encode(), *(np.ascontiguousarray(array).tobytes() for array in samples))


class ResultCache:
    """One JSON file per point in a folder; a file that does not read is computed again. `folder` None keeps nothing."""

    def __init__(self, folder: Path | str | None):
        self.folder = None if folder is None else Path(folder)

    def _path(self, name: str, key: tuple) -> Path:
        return self.folder / f"{name.replace(' ', '-')}-{_digest(repr(key).encode())}.json"

    def read(self, name: str, key: tuple, entries: Iterable[str]) -> dict[str, Any] | None:
        """The point's content, a dict with exactly these entries; None where there is none that reads."""
        if self.folder is None:
            return None
        try:
            content = json.loads(self._path(name, key).read_text())
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) and set(content) == set(entries) else None

    def write(self, name: str, key: tuple, content: dict[str, Any]) -> None:
        if self.folder is not None:
            write_json(self._path(name, key), content)
