"""Files the project makes for itself: where they lie, one writer at a time, never half written."""
from __future__ import annotations

import fcntl
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

from spic.errors import SpicError


def cache_root() -> Path:
    """$SPIC_CACHE, else ~/.cache/spic; not created here."""
    return Path(os.environ.get("SPIC_CACHE") or Path.home() / ".cache" / "spic")


def make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpicError(f"cannot create the folder {folder} ({error.strerror}); set SPIC_CACHE to a writable folder") \
            from error
    return folder


@contextmanager
def exclusive(path: Path):
    """Hold the lock file `path`; a second process waits here, and a killed one lets go.

    A record lock (lockf), because worker processes must not inherit it: they could outlive a killed parent.
    """
    make_folder(path.parent)
    try:
        file = open(path, "w")
    except OSError as error:
        raise SpicError(f"cannot write {path} ({error.strerror}); set SPIC_CACHE to a writable folder") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"note: waiting for another process that holds {path}", file=sys.stderr)
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def write_whole(path: Path, data: bytes) -> None:
    """Write to a name of this process, then rename: a reader sees all of it or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SpicError(f"cannot write {path} ({error.strerror})") from error


def check_disk_space(folder: Path, need_bytes: int, purpose: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < need_bytes:
        raise SpicError(f"{purpose} needs {need_bytes / 1e6:.0f} MB in {folder}, but only {free / 1e6:.0f} MB are "
                        "free; free some space or set SPIC_CACHE to another disk")
