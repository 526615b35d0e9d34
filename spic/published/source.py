"""Where the published files come from: a folder, a .zip or .tar(.gz) archive, or the URL of one.

An archive is never unpacked: the wanted files are read out of it by name, each up to its published size.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from spic.errors import SpicError

MAX_ARCHIVE_BYTES = 1 << 28
"""Largest download, and the most that is decompressed from a tar archive; the published repository has 70 MB."""
_BLOCK = 1 << 16
_TIMEOUT_S = 60
_DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, NotImplementedError, RuntimeError)

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
    reader = _reader(path)
    if reader is None:
        raise SpicError(f"{where}: not a .zip, .tar or .tar.gz archive; for a GitHub repository, "
                        "https://github.com/OWNER/NAME/archive/HEAD.zip is one")
    try:
        yield from reader(path, sizes)
    except _DAMAGED as error:
        raise SpicError(f"{where}: damaged archive ({error})") from None


def _reader(path: Path) -> Callable | None:
    """By the first bytes: a tar of published weights also ends like a zip, as those weights are zips."""
    with open(path, "rb") as file:
        start = file.read(2)
    known = {b"PK": _from_zip, b"\x1f\x8b": _from_gzip}
    return known.get(start) or (_from_plain_tar if tarfile.is_tarfile(path) else None)


def _from_zip(path: Path, sizes: dict[str, int]) -> Files:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = _wanted(entry.filename, sizes)
            if name:
                with archive.open(entry) as file:
                    yield name, file.read(sizes[name] + 1)


def _from_gzip(path: Path, sizes: dict[str, int]) -> Files:
    with gzip.open(path) as stream:
        yield from _from_tar(stream, sizes)


def _from_plain_tar(path: Path, sizes: dict[str, int]) -> Files:
    with open(path, "rb") as stream:
        yield from _from_tar(stream, sizes)


def _from_tar(stream: io.BufferedIOBase, sizes: dict[str, int]) -> Files:
    with tarfile.open(fileobj=_Limited(stream), mode="r|") as archive:
        for member in archive:
            name = member.isreg() and _wanted(member.name, sizes)
            if name:
                yield name, archive.extractfile(member).read(sizes[name] + 1)


class _Limited:
    """A stream to read from that ends in an error where an archive would decompress without end."""

    def __init__(self, stream: io.BufferedIOBase):
        self.stream, self.left = stream, MAX_ARCHIVE_BYTES

    def read(self, size: int) -> bytes:
        data = self.stream.read(min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise OSError(f"it holds more than {MAX_ARCHIVE_BYTES >> 20} MiB")
        return data


def _wanted(path: str, sizes: dict[str, int]) -> str | None:
    """``path`` as a wanted name: itself, or without its first folder."""
    return next((name for name in (path, path.partition("/")[2]) if name in sizes), None)


def _from_url(url: str, sizes: dict[str, int]) -> Files:
    if not url.startswith(("http://", "https://")):
        raise SpicError(f"{url}: only http:// and https:// addresses of archives can be read")
    with tempfile.TemporaryDirectory(prefix="spic-") as folder:
        path = Path(folder) / "archive"
        try:
            _download(url, path)
        except (OSError, ValueError) as error:
            raise SpicError(f"{url}: could not be downloaded ({error})") from None
        yield from _from_archive(path, sizes, url)


def _download(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer, open(path, "wb") as file:
        expected = int(answer.headers.get("Content-Length") or 0)
        if expected > MAX_ARCHIVE_BYTES:
            raise ValueError(f"larger than {MAX_ARCHIVE_BYTES >> 20} MiB")
        with tqdm.wrapattr(_Limited(answer), "read", total=expected or None, desc="download", unit="B") as body:
            shutil.copyfileobj(body, file, _BLOCK)
    if expected and path.stat().st_size != expected:
        raise ValueError("the connection ended early; run the command again")
