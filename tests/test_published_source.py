"""Sources that lie about themselves: archives and servers that would hang, fill the memory, or end in a traceback."""

import gzip
import http.client
import io
import socket
import tarfile
import threading
import time
import zipfile
from contextlib import contextmanager

import pytest

from spic.errors import SpicError
from spic.published import source
from spic.published.source import read_files

WANTED = {"wanted": 10}


def read(path) -> list[tuple[str, bytes]]:
    return list(read_files(str(path), WANTED))


def tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A valid header that claims any size, by GNU's binary form where octal digits do not suffice."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.fixture
def write(tmp_path):
    def write(data: bytes, packed: bool = False):
        path = tmp_path / "archive"
        path.write_bytes(gzip.compress(data) if packed else data)
        return path
    return write


@pytest.fixture
def few_reads(monkeypatch):
    """A stream of an archive is asked for bytes a few times: not as often as a huge member claims."""
    reads, read_on = [], source._Limited.read

    def counted(stream, size):
        reads.append(size)
        return read_on(stream, size) if len(reads) < 100 else pytest.fail("reads on and on")

    monkeypatch.setattr(source._Limited, "read", counted)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE,
                                  tarfile.CONTTYPE, b"?"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("size", [1 << 60, 1 << 40, source.MAX_ARCHIVE_BYTES + 1])
def test_a_small_tar_with_a_huge_member_ends_after_few_reads(write, few_reads, kind, packed, size):
    path = write(tar_header("first", size, kind) + bytes(1024), packed)
    assert path.stat().st_size < 2000
    try:
        assert read(path) == []
    except SpicError as error:
        assert "damaged archive" in str(error)


def test_the_huge_member_of_a_regular_kind_is_refused(write):
    with pytest.raises(SpicError, match="damaged archive .it holds more than 256 MiB"):
        read(write(tar_header("first", 1 << 60) + bytes(1024)))


def test_a_size_in_an_extended_header_counts_too(write):
    record = b"30 size=1152921504606846976\n"
    record = b"%d size=1152921504606846976\n" % len(record)
    data = tar_header("x", len(record), tarfile.XHDTYPE) + record.ljust(512, b"\0") + tar_header("first", 5) + bytes(1024)
    with pytest.raises(SpicError, match="more than 256 MiB"):
        read(write(data))


def test_long_headers_and_many_members_are_refused(write, monkeypatch):
    long = tar_header("x", 1 << 25, tarfile.XHDTYPE) + bytes(1 << 25)
    with pytest.raises(SpicError, match="damaged archive .it goes on after"):
        read(write(long, packed=True))
    monkeypatch.setattr(source, "MAX_MEMBERS", 100)
    with pytest.raises(SpicError, match="more than 100 members"):
        read(write(b"".join(tar_header(f"{i}", 0) for i in range(200)) + bytes(1024)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for i in range(101):
            file.writestr(f"{i}", b"")
    with pytest.raises(SpicError, match="more than 100 members"):
        read(write(buffer.getvalue()))


def test_the_map_of_a_sparse_file_may_not_go_on_for_ever(write):
    fields = b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.name=wanted", b"GNU.sparse.realsize=5"
    records = b"".join(b"%d %s\n" % (len(f) + 4, f) for f in fields)
    entries = b"99999999\n" + b"0\n" * (1 << 22)
    data = (tar_header("x", len(records), tarfile.XHDTYPE) + records.ljust(512, b"\0") +
            tar_header("first", len(entries)) + entries)
    with pytest.raises(SpicError, match="damaged archive .it goes on after"):
        read(write(data, packed=True))


def test_a_zip_that_repeats_a_file_is_read_only_so_far(write, monkeypatch):
    monkeypatch.setattr(source, "MAX_ARCHIVE_BYTES", 4000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(20):
            file.writestr(f"{i}/wanted", bytes(1000))
    with pytest.raises(SpicError, match="damaged archive .it holds more than"):
        list(read_files(str(write(buffer.getvalue())), {"wanted": 1000}))


def test_an_archive_larger_than_any_published_one_is_not_opened(write, monkeypatch):
    monkeypatch.setattr(source, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(SpicError, match="it holds more than"):
        read(write(b"PK\x03\x04" + bytes(2000)))


@contextmanager
def server(*pieces: bytes, pause: float = 0.0):
    """Sends the pieces to everyone who asks, whatever for, and hangs up; the address."""
    def serve(listener) -> None:
        while True:
            try:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(pause)
            except OSError:
                if listener.fileno() < 0:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/archive.zip"


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("answer", [
    OK + b"Transfer-Encoding: chunked\r\n\r\n100\r\nshort",  # IncompleteRead
    OK + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    OK + b"Content-Length: 100\r\n\r\nshort",
    OK + b"Content-Length: many\r\n\r\nshort",
    OK + b"Content-Length: 99999999999999\r\n\r\nshort",
    OK + b"X: " + b"y" * 70000 + b"\r\n\r\n",  # LineTooLong
    OK + b"X: y\r\n" * 200 + b"\r\n",  # too many headers
    b"nonsense\r\n\r\n",  # BadStatusLine
    b"HTTP/9.9 x y\r\n\r\n", b"HTTP/1.1 999999 ?\r\n\r\n", b"",  # RemoteDisconnected
    b"HTTP/1.1 302 Found\r\nLocation: gopher://x/\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n",
    b"HTTP/1.1 404 No\r\n\r\n",
])
def test_an_answer_that_is_none_is_one_line(answer):
    with server(answer) as address:
        with pytest.raises(SpicError, match="could not be downloaded|not a .zip") as caught:
            read(address)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(address)


@pytest.mark.parametrize("address", ["http://", "http://[", "http://a b/c.zip", "http://x:port/", "http://127.0.0.1:99999/a",
                                     "http://\u0000/", "http://" + "a" * 300 + "/", "HTTP://127.0.0.1:1/a", "https://..", "://"])
def test_an_address_that_is_none_is_one_line(address):
    with pytest.raises(SpicError, match="could not be downloaded|only http"):
        read(address)


@pytest.mark.parametrize("pieces", [
    (OK + b"Content-Length: 1000\r\n\r\n", *[b"x"] * 1000), (OK + b"\r\n", *[b"x"] * 1000), [b"H", b"T"] * 500,
    (OK + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 500)], ids=["length", "open", "header", "chunks"])
def test_a_server_that_drips_meets_a_total_limit(pieces, monkeypatch):
    monkeypatch.setattr(source, "DOWNLOAD_S", 0.5)
    with server(*pieces, pause=0.02) as address:
        with pytest.raises(SpicError, match="could not be downloaded .not complete after 0.5 seconds"):
            read(address)


def test_any_of_the_errors_of_http_is_one_line(monkeypatch):
    for kind in (http.client.IncompleteRead, http.client.BadStatusLine, http.client.LineTooLong, http.client.InvalidURL):
        def fail(*_, **__):
            raise kind(b"x") if kind is http.client.IncompleteRead else kind("x")
        monkeypatch.setattr(source.urllib.request, "urlopen", fail)
        with pytest.raises(SpicError, match="could not be downloaded"):
            read("http://127.0.0.1/a.zip")
