"""Sets of scenes on disk: drawn once, by all cores, resumed after a kill, and mended where a file was lost or altered."""
from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from spic.datasets.imagenet import pictures
from spic.datasets.loading import check_workers
from spic.datasets.scenes.kinds import KINDS, Kind
from spic.datasets.scenes.manifest import Entry, Manifest, look_at
from spic.errors import SpicError
from spic.files import cache_root, check_disk_space, exclusive, make_folder, write_json, write_whole
from spic.machine import cores, end_with_parent

MARKER = "complete.json"


@dataclass(frozen=True)
class SceneSet:
    """Which pictures: each depends on (seed, task, split, index) alone."""

    task: str
    split: str
    count: int
    seed: int

    @property
    def kind(self) -> Kind:
        return KINDS[self.task]

    @property
    def folder_name(self) -> str:
        return f"scenes-v{self.kind.version}-seed{self.seed}-{self.task}-{self.split}-{self.count}"

    @property
    def pictures(self) -> dict[str, int]:
        """Path in the folder → index, in order."""
        return {self.kind.name(self.split, index): index for index in range(self.count)}

    @property
    def files(self) -> list[str]:
        """Paths of the pictures, and of what lies beside them."""
        return [*self.pictures, *self.kind.extras(self.split)]

    def content(self, name: str, index: int | None) -> bytes:
        """The bytes of one file of the set: of picture ``index``, or of a file beside the pictures."""
        if index is not None:
            return self.kind.jpeg(self.seed, self.split, index)
        return self.kind.extras(self.split)[name](self.split, self.count, self.seed)


def ensure_scenes(task: str, split: str = "val", count: int | None = None, seed: int = 0,
                  root: Path | str | None = None, workers: int | None = None) -> Path:
    """The folder of the asked set, drawn first if it is not there yet (`count`: 1000 and 200 pictures if not given).

    Two processes asking for the same set: one draws, the other waits. An interrupted run is resumed; files that were lost
    or altered are drawn again, the others left alone.
    """
    if task not in KINDS:
        raise SpicError(f"unknown scenes task {task!r}; choose from {', '.join(KINDS)}")
    count = KINDS[task].validation_count if count is None else count
    if count < 1:
        raise SpicError(f"a scenes set needs at least one picture, not {count}")
    wanted = SceneSet(task, split, count, seed)
    workers = check_workers(workers or cores())
    folder = (Path(root) if root else cache_root()) / wanted.folder_name
    if not _is_complete(folder, wanted):
        with exclusive(folder.with_name(f"{folder.name}.lock")):
            if not _is_complete(folder, wanted):
                _complete(folder, wanted, workers)
    return folder


# ---- checking --------------------------------------------------------------------------------------------------


def _is_complete(folder: Path, wanted: SceneSet) -> bool:
    """Whether the marker and all files are there, and are what was drawn, and no foreign picture lies among them."""
    marker = _read_marker(folder)
    if marker is None:
        return False
    manifest = Manifest(folder)
    return not (manifest.damaged(wanted.files) or _foreign(folder, wanted) or marker != _marker(wanted, manifest))


def _read_marker(folder: Path) -> dict | None:
    try:
        marker = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return marker if isinstance(marker, dict) else None


def _marker(wanted: SceneSet, manifest: Manifest) -> dict:
    """What a complete set says of itself; the SHA-256 is over those of the pictures."""
    names = list(wanted.pictures)
    return {"version": wanted.kind.version, "task": wanted.task, "split": wanted.split, "seed": wanted.seed,
            "count": wanted.count, "bytes": sum(manifest.sizes(names)),
            "sha256": _joint_digest(manifest.entries[name] for name in names)}


def _joint_digest(entries) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(entry.sha256) for entry in entries)).hexdigest()


def _foreign(folder: Path, wanted: SceneSet) -> list[Path]:
    """Picture files that do not belong to the set: a reader of class folders would take them for items."""
    own = {f"{folder}/{name}" for name in wanted.pictures}
    return [Path(path) for path in pictures(folder) if path not in own]


def _adopt(manifest: Manifest, wanted: SceneSet) -> None:
    """Note the files of a complete folder whose list is lost (or was drawn before there were lists), if they are whole."""
    marker, paths = _read_marker(manifest.folder), {name: manifest.folder / name for name in wanted.pictures}
    if manifest.entries or marker is None or not all(path.is_file() for path in paths.values()):
        return
    found = {name: look_at(path) for name, path in paths.items()}
    if _joint_digest(found.values()) == marker.get("sha256"):
        manifest.add(found.items())


# ---- drawing ---------------------------------------------------------------------------------------------------


def _complete(folder: Path, wanted: SceneSet, workers: int) -> None:
    """Draw what is missing: of an old set in place, of a new one in its unfinished twin, which then gets the final name."""
    mending = folder.is_dir()
    place = make_folder(folder if mending else folder.with_name(folder.name + ".unfinished"))
    manifest = Manifest(place)
    _adopt(manifest, wanted)
    for path in _foreign(place, wanted):
        path.unlink()
    missing = manifest.damaged(wanted.files)
    if mending and missing:
        print(f"note: {folder}: {len(missing)} files are lost or altered and are drawn again", file=sys.stderr)
    check_disk_space(place, len(missing) * wanted.kind.bytes_per_picture, f"drawing {len(missing)} scenes")
    manifest.add(_drawn(place, wanted, missing, min(workers, len(missing))))
    write_json(place / MARKER, _marker(wanted, manifest))
    if not mending:
        os.replace(place, folder)


def _drawn(place: Path, wanted: SceneSet, names: list[str], workers: int) -> Iterator[tuple[str, Entry]]:
    """The files as they are written, by several processes, behind a progress bar."""
    if not names:
        return
    write, places = partial(_write, place, wanted), wanted.pictures
    bar = tqdm(names, f"drawing scenes ({wanted.task}, {wanted.split})", len(wanted.files), unit="picture",
               initial=len(wanted.files) - len(names))
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _start_worker) as pool:
            yield from zip(bar, pool.map(write, names, map(places.get, names), chunksize=4))
    except BrokenProcessPool as error:
        raise SpicError(f"drawing scenes into {place} was cut off (out of memory?); run it again to resume") from error


def _write(place: Path, wanted: SceneSet, name: str, index: int | None) -> Entry:
    path = place / name
    make_folder(path.parent)
    return look_at(write_whole(path, wanted.content(name, index)))


def _start_worker() -> None:
    """Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
