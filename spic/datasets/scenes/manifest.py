"""What was written into a folder, so that a file that is lost, cut short or altered is noticed, and cheaply."""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from spic.errors import SpicError
from spic.files import sha256

FILE = "files.txt"


class Entry(NamedTuple):
    """One file: its content, and the size and times of change that it had when its content was last seen."""

    sha256: str
    stamp: str


def _stamp(path: Path | str) -> str | None:
    """Size, and times of change of content and of status: whoever sets the former back changes the latter. None: no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def look_at(path: Path) -> Entry:
    """The entry of a file as it is now."""
    return Entry(sha256(path), _stamp(path))


class Manifest:
    """The entries of a folder's files, by their paths in it; kept in FILE, a line each: SHA-256, size, times, path.

    Lines are only ever added, the last one of a path counts, and one that makes no sense is passed over: a process killed
    while it writes leaves at most one file unknown.
    """

    def __init__(self, folder: Path):
        self.folder, self.entries = folder, dict[str, Entry]()
        with contextlib.suppress(OSError):
            for line in (folder / FILE).read_text(errors="replace").split("\n"):
                self._read(line)

    def _read(self, line: str) -> None:
        digest, *stamp, name = line.split(" ", 4) if line.count(" ") >= 4 else ("", "")
        if len(digest) == 64:
            self.entries[name] = Entry(digest, " ".join(stamp))

    def add(self, entries: Iterable[tuple[str, Entry]]) -> None:
        """Take note of files as they come; each is on disk before the next."""
        try:
            with open(self.folder / FILE, "a") as file:
                for name, entry in entries:
                    file.write(f"\n{entry.sha256} {entry.stamp} {name}")  # a line cut short before it stays one of its own
                    file.flush()
                    self.entries[name] = entry
        except OSError as error:
            raise SpicError(f"{self.folder / FILE}: cannot be written ({error.strerror}); free some space") from None

    def damaged(self, names: Iterable[str]) -> list[str]:
        """Those of the files that are not there, not known or not what they were.

        A file of the same size and times is believed; of any other the content is looked at, and the new times noted.
        """
        bad, moved = [], {}
        for name in names:
            known, stamp = self.entries.get(name), _stamp(f"{self.folder}/{name}")
            if known is None or stamp is None:
                bad.append(name)
            elif stamp != known.stamp:
                moved[name] = look_at(self.folder / name)
        altered = [name for name, found in moved.items() if found.sha256 != self.entries[name].sha256]
        self._note({name: found for name, found in moved.items() if name not in altered})
        return bad + altered

    def _note(self, moved: dict[str, Entry]) -> None:
        with contextlib.suppress(SpicError):  # a folder that is only read is looked at anew each time
            if moved:
                self.add(moved.items())

    def sizes(self, names: Iterable[str]) -> Iterator[int]:
        """Bytes of each file when it was noted."""
        return (int(self.entries[name].stamp.split()[0]) for name in names)
