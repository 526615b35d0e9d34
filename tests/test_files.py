"""spic/files.py: files are whole or not there, one writer at a time, checksums tell what was altered."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spic import files
from spic.errors import SpicError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def blocked(tmp_path) -> Path:
    """A path below a file, where not even root can write."""
    (tmp_path / "file").write_text("x")
    return tmp_path / "file" / "below"


def test_the_cache_is_where_the_environment_says_else_at_home(cache, monkeypatch):
    assert files.cache_root() == cache and not cache.exists()
    for value in (None, ""):
        monkeypatch.delenv("SPIC_CACHE", raising=False) if value is None else monkeypatch.setenv("SPIC_CACHE", value)
        assert files.cache_root() == Path.home() / ".cache" / "spic"


def test_a_folder_is_made_with_its_parents_once_and_again(tmp_path):
    assert files.make_folder(tmp_path / "a" / "b") == files.make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    with pytest.raises(SpicError, match="below: this folder cannot be made .Not a directory.; choose another place"):
        files.make_folder(blocked(tmp_path))


def test_a_file_is_written_whole_and_nothing_stays_beside_it(tmp_path):
    path = tmp_path / "new" / "a.bin"
    assert files.write_whole(path, b"one") == path and files.write_whole(path, b"two") == path
    assert path.read_bytes() == b"two" and os.listdir(path.parent) == ["a.bin"]


def test_a_reader_never_sees_half_a_file(tmp_path, monkeypatch):
    path, seen = files.write_whole(tmp_path / "a", b"old"), []

    def replace(one, other):
        seen.append((Path(one).read_bytes(), Path(other).read_bytes()))
        Path(one).rename(other)
    monkeypatch.setattr(files.os, "replace", replace)
    files.write_whole(path, b"new")
    assert seen == [(b"new", b"old")]


def test_a_write_that_fails_is_one_line_and_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = files.write_whole(tmp_path / "a", b"old")
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(SpicError, match="a: cannot be written .No space left on device.; free some space"):
        files.write_whole(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("length", [200, 250])
def test_names_as_long_as_the_system_allows_can_be_written(tmp_path, length):
    path = tmp_path / ("n" * length)
    files.check_writable(path)
    assert files.write_whole(path, b"x").read_bytes() == b"x"


def test_json_is_indented_and_ends_in_a_line_break(tmp_path):
    assert files.write_json(tmp_path / "a.json", {"a": [1]}).read_text() == '{\n "a": [\n  1\n ]\n}\n'


def test_what_can_be_written_leaves_no_trace_of_the_trial(tmp_path):
    files.check_writable(None)
    files.check_writable(tmp_path / "new" / "deep" / "a")
    files.check_writable(tmp_path / "new" / "deep" / "a")
    assert os.listdir(tmp_path / "new" / "deep") == []


def test_what_cannot_be_written_is_said_before(tmp_path):
    with pytest.raises(SpicError, match="is a folder, not a file; choose another name"):
        files.check_writable(tmp_path)
    with pytest.raises(SpicError, match="cannot be written .Not a directory.; choose another file"):
        files.check_writable(blocked(tmp_path) / "a")


def test_a_disk_that_is_too_full_is_said_in_megabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 5_000_000}))
    for enough in (0, 4_000_000, 5_000_000):
        files.check_disk_space(tmp_path, enough, "drawing")
    with pytest.raises(SpicError, match="drawing needs 7 MB in .*, but only 5 MB are free"):
        files.check_disk_space(tmp_path, 7_000_000, "drawing")
    with pytest.raises(SpicError):
        files.check_disk_space(tmp_path, 5_000_001, "drawing")


def test_files_that_must_be_there(tmp_path):
    there = files.write_whole(tmp_path / "a", b"")
    assert files.existing(there) == there
    for missing in (tmp_path / "b", tmp_path):
        with pytest.raises(SpicError, match="no such file$"):
            files.existing(missing)


HOLD = """import sys, time
from pathlib import Path
from spic.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_waits_and_a_killed_one_lets_go(tmp_path, capfd):
    path = tmp_path / "new" / "lock"
    with files.exclusive(path):
        pass
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE,
                              env={**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])})
    assert holder.stdout.readline() == b"held\n"
    waiting = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])})
    assert waiting.stderr.readline() == f"note: waiting for another process that holds {path}\n".encode()
    os.set_blocking(waiting.stdout.fileno(), False)
    assert not waiting.stdout.read()
    os.set_blocking(waiting.stdout.fileno(), True)
    holder.kill()
    assert waiting.stdout.readline() == b"held\n"
    waiting.kill()
    for process in (holder, waiting):
        process.communicate()


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path, cache):
    with pytest.raises(SpicError, match="cannot be written .Is a directory.; set SPIC_CACHE"):
        with files.exclusive(tmp_path):
            pass
    with files.catalogue():
        assert (cache / "catalogue.lock").exists()


@pytest.mark.parametrize("size", [0, 5, (1 << 20) - 1, 1 << 20, (1 << 21) + 1])
def test_the_sha256_is_of_the_whole_file(tmp_path, size):
    data = os.urandom(size)
    assert files.sha256(files.write_whole(tmp_path / "a", data)) == hashlib.sha256(data).hexdigest()


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    for read in (files.sha256, lambda path: files.stamp([path])):
        with pytest.raises(SpicError, match="none: cannot be read .No such file or directory"):
            read(tmp_path / "none")


def test_a_stamp_changes_with_the_path_the_size_and_the_time(tmp_path, monkeypatch):
    path, other = (files.write_whole(tmp_path / name, b"data") for name in "ab")
    for file in (path, other):
        os.utime(file, ns=(1, 10**18))
    first = files.stamp([path])
    monkeypatch.chdir(tmp_path)
    assert files.stamp(["a"]) == first == files.stamp([path]) and len(first) == 64
    assert first != files.stamp([other]) and files.stamp([path, other]) != files.stamp([other, path])
    os.utime(path, ns=(1, 10**18 + 1))
    assert files.stamp([path]) != first
    path.write_bytes(b"data longer")
    os.utime(path, ns=(1, 10**18))
    assert files.stamp([path]) != first


@pytest.fixture
def root(tmp_path):
    files.write_whole(tmp_path / "Weights" / "own" / "a.bin", b"a")
    files.write_whole(tmp_path / "Freq_tab" / "own" / "a.json", b"b")
    return tmp_path


def listed(root) -> dict:
    return json.loads((root / "Weights" / "own" / "checksums.json").read_text())


def test_checksums_are_recorded_kept_and_forgotten_with_their_files(root):
    a, b = root / "Weights" / "own" / "a.bin", root / "Freq_tab" / "own" / "a.json"
    files.record_checksums("own", [a], root)
    files.record_checksums("own", [b], root)
    assert listed(root) == {"Freq_tab/own/a.json": hashlib.sha256(b"b").hexdigest(),
                            "Weights/own/a.bin": hashlib.sha256(b"a").hexdigest()}
    assert list(listed(root)) == sorted(listed(root))
    a.unlink()
    files.record_checksums("own", [a], root)
    assert list(listed(root)) == ["Freq_tab/own/a.json"]


def test_only_the_file_that_was_recorded_is_taken(root):
    a = root / "Weights" / "own" / "a.bin"
    with pytest.raises(SpicError, match="checksums.json: missing or not a list of checksums.*; get it$"):
        files.verify_file(a, "own", "get it", root)
    files.record_checksums("own", [a], root)
    assert files.verify_file(a, "own", "get it", root) == a
    with pytest.raises(SpicError, match="a.json: has no checksum in .*; get it$"):
        files.verify_file(root / "Freq_tab" / "own" / "a.json", "own", "get it", root)
    a.write_bytes(b"c")
    with pytest.raises(SpicError, match="a.bin: truncated or altered .*; get it$"):
        files.verify_file(a, "own", "get it", root)
    a.unlink()
    with pytest.raises(SpicError, match="a.bin: no such file; get it$"):
        files.verify_file(a, "own", "get it", root)


@pytest.mark.parametrize("content", ["[]", "null", "5", "{", "[" * 5000, '"x"'])
def test_a_list_of_checksums_that_is_none_is_one_line(root, content):
    (root / "Weights" / "own" / "checksums.json").write_text(content)
    with pytest.raises(SpicError, match="missing or not a list of checksums.*delete it and record again"):
        files.record_checksums("own", [root / "Weights" / "own" / "a.bin"], root)


def test_weights_may_be_a_link(root, tmp_path_factory):
    place = tmp_path_factory.mktemp("elsewhere")
    (root / "Weights").rename(place / "Weights")
    (root / "Weights").symlink_to(place / "Weights")
    a = root / "Weights" / "own" / "a.bin"
    files.record_checksums("own", [a], root)
    assert files.verify_file(a, "own", "get it", root) == a and list(listed(root)) == ["Weights/own/a.bin"]
