"""What waits for the server: streams in the order in which they were made, in SQLite, on disk or in memory; bounded.

A stream is removed once its answer has been told. So whatever kills this process or the server, each stream is sent again
until it is answered, under the same id, and the server counts it once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spic.errors import SpicError

VERSION = 1
_APPLICATION = 0x53504943  # "SPIC"
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
MEMORY = ":memory:"
BYTES_PER_FILE = 1000
"""One file that was taken is remembered for so many bytes of the spool: a twentieth of it, at most."""


class SpoolFull(SpicError):
    """No room: neither up to the bound that was set, nor perhaps on the disk."""


@dataclass(frozen=True)
class Parcel:
    """One stream on its way. id: its idempotency key. body: the stream. pictures, payload_bytes, milliseconds (of the
    edge's stages): one for each picture in it. made: seconds since the epoch. number: its place in the spool."""

    id: str
    body: bytes
    point: str
    pictures: tuple[str, ...]
    payload_bytes: tuple[int, ...]
    milliseconds: tuple[dict, ...]
    made: float
    number: int = 0

    def about(self) -> str:
        """All but id and body, as JSON."""
        return json.dumps([self.point, self.pictures, self.payload_bytes, self.milliseconds, self.made])


class Spool:
    """path: a file that outlives the process, or None for memory. most_bytes: what it may grow to (and some for SQLite's
    log). SpicError: no spool of ours, of a later version, or in use. To be used by one thread at a time."""

    def __init__(self, path: Path | None, most_bytes: int):
        self.path, self._most_bytes, self._remembered = path, most_bytes, most_bytes // BYTES_PER_FILE
        self._begin()

    def _begin(self) -> None:
        path, self._passed = self.path, 0
        try:
            self._database = sqlite3.connect(path or MEMORY, timeout=1, check_same_thread=False, isolation_level=None)
            self._open(self._most_bytes)
        except sqlite3.Error as error:
            in_use = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY
            why = "another process uses it" if in_use else str(error)
            raise SpicError(f"{path}: cannot be used as a spool ({why}); name another file with --spool") from None

    def _open(self, most_bytes: int) -> None:
        run = self._database.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA journal_size_limit = 4194304")
        (version,), (application,), (tables,) = (run(question).fetchone() for question in (
            "PRAGMA user_version", "PRAGMA application_id", "SELECT count(*) FROM sqlite_master"))
        if tables and application != _APPLICATION:
            raise SpicError(f"{self.path}: a database, but no spool; name another file with --spool")
        if version > VERSION:
            raise SpicError(f"{self.path}: a spool of version {version}, this program reads version {VERSION}: update spic")
        run("BEGIN IMMEDIATE")
        run(f"PRAGMA application_id = {_APPLICATION}")
        run(f"PRAGMA user_version = {VERSION}")
        run("CREATE TABLE IF NOT EXISTS parcels (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, "
            "body BLOB NOT NULL, about TEXT NOT NULL)")
        run("CREATE TABLE IF NOT EXISTS taken (number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE)")
        run("COMMIT")
        (page,) = run("PRAGMA page_size").fetchone()
        run(f"PRAGMA max_page_count = {max(16, most_bytes // page)}")

    def put(self, parcel: Parcel, keys: Sequence[str] = ()) -> None:
        """Append, and note that the files of these keys are taken; SpoolFull where there is no room, and then nothing has
        changed."""
        try:
            self._put(parcel, keys)
        except SpoolFull:
            if not self.path or self.parcels():
                raise
            self._renew()
            self._put(parcel, keys)

    def _renew(self) -> None:
        """Nothing waits, and yet there is no room: a full disk lets nothing be removed, not even from SQLite's log. So the
        files are begun anew; of the old ones only the keys of files that were taken are kept."""
        keys = self._database.execute("SELECT key FROM taken ORDER BY number").fetchall()
        self._database.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self._begin()
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR IGNORE INTO taken (key) VALUES (?)", keys)

    def _put(self, parcel: Parcel, keys: Sequence[str]) -> None:
        run = self._database.execute
        try:
            with self._database:  # both, or neither
                run("BEGIN IMMEDIATE")
                run("INSERT INTO parcels (id, body, about) VALUES (?, ?, ?)", (parcel.id, parcel.body, parcel.about()))
                self._database.executemany("INSERT OR IGNORE INTO taken (key) VALUES (?)", ((_short(key),) for key in keys))
                run("DELETE FROM taken WHERE number <= (SELECT max(number) FROM taken) - ?", (self._remembered,))
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _FULL:
                raise SpicError(f"{self.path}: cannot be written ({error})") from None
            raise SpoolFull(f"the spool is full ({self.path or 'in memory'}: {error})") from None

    def took(self, key: str) -> bool:
        """Whether the file of this key was taken before, perhaps by an earlier run; of very many the oldest are forgotten."""
        return self._database.execute("SELECT 1 FROM taken WHERE key = ?", (_short(key),)).fetchone() is not None

    def oldest(self) -> Parcel | None:
        """What is to be sent next; it stays until ``remove``."""
        row = self._database.execute("SELECT number, id, body, about FROM parcels WHERE number > ? ORDER BY number LIMIT 1",
                                     (self._passed,)).fetchone()
        return row and _parcel(*row)

    def remove(self, parcel: Parcel) -> None:
        """Forget it, and what was before it. Where a full disk does not allow even that, it is forgotten with the next one;
        in this process it is not given again."""
        self._passed = parcel.number
        try:
            self._database.execute("DELETE FROM parcels WHERE number <= ?", (parcel.number,))
        except sqlite3.Error:
            pass

    def parcels(self) -> int:
        """How many streams wait."""
        return self._database.execute("SELECT count(*) FROM parcels WHERE number > ?", (self._passed,)).fetchone()[0]

    def waiting(self) -> tuple[int, int]:
        """(pictures, bytes) that wait."""
        rows = self._database.execute("SELECT length(body), about FROM parcels WHERE number > ?",
                                      (self._passed,)).fetchall()
        return sum(len(json.loads(about)[1]) for _, about in rows), sum(size for size, _ in rows)

    def close(self) -> None:
        self._database.close()


def _short(key: str) -> bytes:
    """Of a path of any length."""
    return hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=16).digest()


def _parcel(number: int, key: str, body: bytes, about: str) -> Parcel:
    point, pictures, sizes, times, made = json.loads(about)
    return Parcel(key, bytes(body), point, tuple(pictures), tuple(sizes), tuple(times), made, number)
