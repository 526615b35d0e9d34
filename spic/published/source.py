"""Where the published files come from: a folder, a .zip or .tar(.gz) archive, or the URL of one.

An archive is never unpacked: the wanted files are read out of it by name, each up to its published size. Whatever a
source claims about itself (sizes, counts, lengths), only so many bytes and members are read, and only so long.
"""

from __future__ import annotations

import gzip
import http.client
import shutil
import tarfile
import tempfile
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from spic.errors import SpicError, reason

MAX_ARCHIVE_BYTES = 1 << 28
"""Largest archive, and the most that is read out of one; the published repository has 70 MB."""
MAX_MEMBERS = 20_000
"""Most members of an archive; the published repository has 200, a git clone of it some 500."""
MAX_HEADER_BYTES = 1 << 18
"""Most that lies between the data of two members of a tar archive: long names, comments, maps of sparse files."""
DOWNLOAD_S = 1800
"""Longest download as a whole, as a server that sends a byte now and then never lets the time limit of one read pass."""
_SILENCE_S = 60
_BLOCK = 1 << 16

Files = Iterator[tuple[str, bytes]]


def read_files(source: str, sizes: dict[str, int]) -> Files:
    """(name, content) of those files named in ``sizes`` {name: bytes} that the source holds, in the source's order.

    At most ``bytes + 1`` bytes of a file are read, enough to see that it is too long. The layout may begin at the top
    of the source or in a folder of it, as in archives made by GitHub.
    """
    if "://" in source:
        yield from _from_url(source, sizes)
    elif Path(source).is_dir():
        yield from _from_folder(Path(source), sizes)
    elif Path(source).is_file():
        yield from _from_archive(Path(source), sizes, source)
    else:
        raise SpicError(f"{source}: no such folder or archive")


def _from_folder(folder: Path, sizes: dict[str, int]) -> Files:
    try:
        bases = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
        for name, size in sizes.items():
            path = next((base / name for base in bases if (base / name).is_file()), None)
            if path:
                with open(path, "rb") as file:
                    yield name, file.read(size + 1)
    except OSError as error:
        raise SpicError(f"{folder}: cannot be read ({error})") from None


def _from_archive(path: Path, sizes: dict[str, int], where: str) -> Files:
    reader = _reader(path, where)
    if reader is None:
        raise SpicError(f"{where}: not a .zip, .tar or .tar.gz archive; for a GitHub repository, "
                        "https://github.com/OWNER/NAME/archive/HEAD.zip is one")
    try:
        if path.stat().st_size > MAX_ARCHIVE_BYTES:
            raise _too_large()
        yield from reader(path, sizes)
    except Exception as error:  # whatever zipfile, tarfile and the decompressors meet in a foreign file
        raise SpicError(f"{where}: damaged archive ({reason(error)})") from None


def _reader(path: Path, where: str) -> Callable | None:
    """By the first bytes: a tar of published weights also ends like a zip, as those weights are zips."""
    try:
        with open(path, "rb") as file:
            start = file.read(tarfile.BLOCKSIZE)
    except OSError as error:
        raise SpicError(f"{where}: cannot be read ({error.strerror})") from None
    known = {b"PK": _from_zip, b"\x1f\x8b": _from_gzip}
    return known.get(start[:2]) or (_from_plain_tar if _is_tar_header(start) else None)


def _is_tar_header(block: bytes) -> bool:
    try:
        return bool(tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape"))
    except (tarfile.TarError, ValueError):
        return False


def _too_large() -> OSError:
    return OSError(f"it holds more than {MAX_ARCHIVE_BYTES >> 20} MiB")


# ---- zip ----


def _from_zip(path: Path, sizes: dict[str, int]) -> Files:
    if _count_zip_entries(path) > MAX_MEMBERS:  # before zipfile makes an object of each
        raise OSError(f"it holds more than {MAX_MEMBERS} members")
    left = MAX_ARCHIVE_BYTES
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = _wanted(entry.filename, sizes)
            if name:
                with archive.open(entry) as file:
                    data = file.read(sizes[name] + 1)
                if (left := left - len(data)) < 0:
                    raise _too_large()
                yield name, data


def _count_zip_entries(path: Path) -> int:
    """At least as many as its directory has: how often the mark of a directory entry occurs."""
    mark, count, tail = b"PK\x01\x02", 0, b""
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            count += (tail + block).count(mark)
            tail = block[-len(mark) + 1:]
    return count


# ---- tar ----


def _from_gzip(path: Path, sizes: dict[str, int]) -> Files:
    with gzip.open(path) as stream:
        yield from _from_tar(stream, sizes)


def _from_plain_tar(path: Path, sizes: dict[str, int]) -> Files:
    with open(path, "rb") as stream:
        yield from _from_tar(stream, sizes)


def _from_tar(stream: BinaryIO, sizes: dict[str, int]) -> Files:
    limited = _Limited(stream, MAX_HEADER_BYTES)
    with tarfile.open(fileobj=limited, mode="r|") as archive:
        for number, member in enumerate(archive):
            if archive.offset > MAX_ARCHIVE_BYTES:  # where the next member should begin; tarfile would read on to there
                raise _too_large()
            if number >= MAX_MEMBERS:
                raise OSError(f"it holds more than {MAX_MEMBERS} members")
            limited.end = archive.offset + MAX_HEADER_BYTES
            name = member.isreg() and _wanted(member.name, sizes)
            if name:
                yield name, archive.extractfile(member).read(sizes[name] + 1)


class _Limited:
    """A stream to read from, that may not go on beyond byte ``end``: an archive decompresses, or a server sends, without
    end if it likes."""

    def __init__(self, stream: BinaryIO, end: int):
        self.stream, self.end, self.position = stream, end, 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(min(size, self.end - self.position + 1))
        self.position += len(data)
        if self.position > self.end:
            raise OSError(f"it goes on after {self.end:,} bytes")
        return data


def _wanted(path: str, sizes: dict[str, int]) -> str | None:
    """``path`` as a wanted name: itself, or without its first folder."""
    return next((name for name in (path, path.partition("/")[2]) if name in sizes), None)


# ---- the web ----


def _from_url(url: str, sizes: dict[str, int]) -> Files:
    if not url.startswith(("http://", "https://")):
        raise SpicError(f"{url}: only http:// and https:// addresses of archives can be read")
    with tempfile.TemporaryDirectory(prefix="spic-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "archive"
        try:
            _within(DOWNLOAD_S, lambda: _download(url, path))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise SpicError(f"{url}: could not be downloaded ({reason(error)}); get it by other means and give the "
                            "file or folder") from None
        yield from _from_archive(path, sizes, url)


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do the work, or raise a TimeoutError; a thread left behind, blocked in a read, does not keep the program alive."""
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not complete after {seconds:g} seconds")
    if failures:
        raise failures[0]


def _download(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=_SILENCE_S) as answer, open(path, "wb") as file:
        expected = int(answer.headers.get("Content-Length") or 0)
        if expected > MAX_ARCHIVE_BYTES:
            raise ValueError(f"larger than {MAX_ARCHIVE_BYTES >> 20} MiB")
        with tqdm.wrapattr(_Limited(answer, MAX_ARCHIVE_BYTES), "read", total=expected or None, desc="download", unit="B") as body:
            shutil.copyfileobj(body, file, _BLOCK)
    if expected and path.stat().st_size != expected:
        raise ValueError("the connection ended early; run the command again")
