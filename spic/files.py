"""Files the project makes or checks: written whole or not at all, one writer at a time, with checksums.

Nothing here needs torch, so that the coders can use it on an edge that has none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spic.errors import SpicError

CHECKSUMS = "checksums.json"


def cache_root() -> Path:
    """$SPIC_CACHE, else ~/.cache/spic; not created here."""
    return Path(os.environ.get("SPIC_CACHE") or Path.home() / ".cache" / "spic")


def make_folder(folder: Path) -> Path:
    """``folder``, created with its parents where it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpicError(f"{folder}: this folder cannot be made ({error.strerror}); choose another place, for the cache by "
                        "SPIC_CACHE set to a writable folder") from None
    return folder


def write_whole(path: Path, data: bytes) -> Path:
    """Write under a temporary name beside ``path``, then rename: a reader sees all of it or nothing."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise SpicError(f"{path}: cannot be written ({error.strerror}); free some space or choose another place") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_json(path: Path, content) -> Path:
    """Write ``content`` as JSON, whole."""
    return write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


def check_writable(path: Path | None) -> None:
    """Fail now, not after an hour, if ``path`` cannot be written later."""
    if path is None:
        return
    if path.is_dir():
        raise SpicError(f"{path}: is a folder, not a file; choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.parent / f".{path.name[:200]}.{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SpicError(f"{path}: cannot be written ({error.strerror}); choose another file") from None


def check_disk_space(folder: Path, need_bytes: int, purpose: str) -> None:
    """Fail before the work, not in the middle of it, where a disk is too full."""
    free = shutil.disk_usage(folder).free
    if free < need_bytes:
        raise SpicError(f"{purpose} needs {need_bytes / 1e6:.0f} MB in {folder}, but only {free / 1e6:.0f} MB are "
                        "free; free some space or set SPIC_CACHE to another disk")


def existing(path: Path) -> Path:
    """``path``, which must be a file."""
    if not path.is_file():
        raise SpicError(f"{path}: no such file")
    return path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; a second process waits here, and a killed one lets go.

    A record lock (lockf), because worker processes must not inherit it: they could outlive a killed parent.
    """
    make_folder(path.parent)
    try:
        file = open(path, "w")
    except OSError as error:
        raise SpicError(f"{path}: cannot be written ({error.strerror}); set SPIC_CACHE to a writable folder") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"note: waiting for another process that holds {path}", file=sys.stderr)
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def catalogue():
    """Held while dict.yaml or a list of checksums is changed: several trainings record theirs at the same time."""
    return exclusive(cache_root() / "catalogue.lock")


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise SpicError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def stamp(paths: Iterable[Path | str]) -> str:
    """Changes when one of the files becomes another one: SHA-256 over each resolved path, size and time of change."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise SpicError(f"{path}: cannot be read ({error.strerror})") from None
        digest.update(f"{os.path.realpath(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


# ---- checksums: Weights/<benchmark>/checksums.json lists the SHA-256 of the weights and tables of a benchmark ----


def record_checksums(benchmark: str, files: Iterable[Path], root: Path) -> None:
    """Put the SHA-256 of weights and tables into the benchmark's list; a file that is gone loses its."""
    path = root / "Weights" / benchmark / CHECKSUMS
    digests = {_name_in(root, file): sha256(file) if file.exists() else None for file in map(Path, files)}
    with catalogue():
        known = (_read_checksums(path, "delete it and record again") if path.exists() else {}) | digests
        write_json(path, {name: digest for name, digest in sorted(known.items()) if digest})


def verify_file(path: Path, benchmark: str, how_to_get: str, root: Path) -> Path:
    """``path`` if it exists and is the file whose checksum is recorded for the benchmark, else a SpicError."""
    if not path.is_file():
        raise SpicError(f"{path}: no such file; {how_to_get}")
    record = root / "Weights" / benchmark / CHECKSUMS
    expected = _read_checksums(record, how_to_get).get(_name_in(root, path))
    if expected is None:
        raise SpicError(f"{path}: has no checksum in {record}; {how_to_get}")
    if sha256(path) != expected:
        raise SpicError(f"{path}: truncated or altered (its SHA-256 differs from the one in {record}); {how_to_get}")
    return path


def _read_checksums(path: Path, how_to_get: str) -> dict[str, str]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise SpicError(f"{path}: missing or not a list of checksums, so no file beside it can be checked; {how_to_get}")
    return content


def _name_in(root: Path, file: Path) -> str:
    """The file's name under the root as it is written; links are not followed, so that Weights/ may be one."""
    return str(Path(os.path.abspath(file)).relative_to(os.path.abspath(root)))
