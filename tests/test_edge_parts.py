"""The parts of the edge by themselves: what waits, what the link allows, where pictures come from."""

from __future__ import annotations

import itertools
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edge_cases import draw
from hypothesis import given, settings
from hypothesis import strategies as st

from spic.coding import FrequencyTable
from spic.coding.stream import StreamHeader
from spic.edge import sources
from spic.edge.rate import REQUEST_BYTES, Link, WithinBudget, WithinTime
from spic.edge.report import Report, told
from spic.edge.runtime import EdgePoint
from spic.edge.spool import Parcel, Spool, SpoolFull
from spic.errors import SpicError


def parcel(key, size=100, pictures=1):
    return Parcel(key, bytes(size), "a/b/c/0", tuple(f"{key}-{i}" for i in range(pictures)), (size,) * pictures,
                  ({"code": 1.5},) * pictures, 12.5)


# ---- spool --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [None, "spool.sqlite"])
def test_what_went_in_first_comes_out_first_and_whole(where, tmp_path):
    spool = Spool(where and tmp_path / where, 1 << 20)
    sent = [parcel(f"key {i}", 10 * i, 1 + i % 3) for i in range(20)]
    for one in sent:
        spool.put(one)
    assert spool.waiting() == (sum(len(one.pictures) for one in sent),
                               sum(len(one.body) for one in sent)) and spool.parcels() == 20
    for one in sent:
        found = spool.oldest()
        assert (found.id, found.body, found.about()) == (one.id, one.body, one.about())
        assert spool.oldest().id == one.id, "it stays until it is removed"
        spool.remove(found)
    assert spool.oldest() is None and spool.waiting() == (0, 0)


def test_what_waits_outlives_the_process(tmp_path):
    path = tmp_path / "spool.sqlite"
    code = ("import os\nfrom pathlib import Path\nfrom spic.edge.spool import Parcel, Spool\n"
            f"spool = Spool(Path({str(path)!r}), 1 << 20)\n"
            "for i in range(3): spool.put(Parcel(str(i), b'body', 'a/b/c/0', ('p',), (4,), ({},), 1.0))\n"
            "spool.remove(spool.oldest())\nos._exit(9)")
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 9
    spool = Spool(path, 1 << 20)
    assert [spool.oldest().id, spool.parcels()] == ["1", 2]


def test_a_spool_is_bounded_and_goes_on_after_it_was_full(tmp_path):
    spool = Spool(tmp_path / "spool.sqlite", 256 << 10)
    kept = 0
    with pytest.raises(SpoolFull, match="full"):
        for number in itertools.count():
            spool.put(parcel(str(number), 10_000))
            kept += 1
    assert 15 <= kept <= 25 and spool.parcels() == kept
    assert (tmp_path / "spool.sqlite").stat().st_size <= 256 << 10
    for _ in range(3):
        spool.remove(spool.oldest())
    spool.put(parcel("late", 10_000))
    assert spool.oldest().id == "3" and spool.parcels() == kept - 2


FULL_DISK = """
import resource, sys
from pathlib import Path
from spic.edge.spool import Parcel, Spool, SpoolFull
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as a disk that is full: no file may grow any more
spool, delivered, full = Spool(path, 1 << 20), [], 0
for number in range(100):
    parcel = Parcel(str(number), bytes(500), "a/b/c/0", ("p",), (4,), ({},), 1.0)
    try:
        spool.put(parcel, [f"key {number}"])
    except SpoolFull:
        full += 1
        while (one := spool.oldest()):
            delivered.append(int(one.id))
            spool.remove(one)
        spool.put(parcel, [f"key {number}"])
while (one := spool.oldest()):
    delivered.append(int(one.id))
    spool.remove(one)
assert full > 2 and delivered == list(range(100)), (full, delivered)
assert all(spool.took(f"key {number}") for number in range(100)) and not spool.took("key 100")
"""


def test_after_a_full_disk_the_spool_goes_on_and_nothing_is_lost_or_comes_twice(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path / "spool"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_same_id_is_never_kept_twice(tmp_path):
    spool = Spool(None, 1 << 20)
    spool.put(parcel("one"))
    with pytest.raises(SpicError, match="cannot be written"):
        spool.put(parcel("one"))


def test_what_is_no_spool_is_refused(tmp_path):
    (tmp_path / "text").write_text("no database" * 100)
    sqlite3.connect(tmp_path / "other").execute("CREATE TABLE mine (x)").connection.close()
    with Connection(tmp_path / "late") as late:
        late.execute("PRAGMA application_id = 0x53504943")
        late.execute("PRAGMA user_version = 2")
        late.execute("CREATE TABLE parcels (x)")
    for name, message in (("text", "not a database"), ("other", "no spool"),
                          ("late", "a spool of version 2.*update spic"), ("", "unable to open")):
        with pytest.raises(SpicError, match=message) as error:
            Spool(tmp_path / name, 1 << 20)
        assert "\n" not in str(error.value)


class Connection(sqlite3.Connection):
    def __exit__(self, *words):
        super().__exit__(*words)
        self.close()


def test_two_edges_cannot_share_a_spool(tmp_path):
    first = Spool(tmp_path / "spool", 1 << 20)
    first.put(parcel("one"))
    with pytest.raises(SpicError, match="another process uses it"):
        Spool(tmp_path / "spool", 1 << 20)
    first.close()
    assert Spool(tmp_path / "spool", 1 << 20).parcels() == 1


# ---- rate ---------------------------------------------------------------------------------------------------------


def edge_points(*entries):
    """(quality, bytes) → points."""
    table = FrequencyTable({0: 1}, 1.0)
    headers = (StreamHeader(f"a/b/c/{i}", "rans", table.digest, (1, 1, 1), (8, 8)) for i in range(len(entries)))
    return [EdgePoint(header, table, *entry) for header, entry in zip(headers, entries)]


POINTS = edge_points((99.0, 8000.0), (95.0, 1000.0), (80.0, 100.0))


class Wire:
    """A link of so many bytes a second and so long a trip, by which time passes."""

    def __init__(self, bytes_per_s, trip):
        self.bytes_per_s, self.trip = bytes_per_s, trip

    def seconds(self, size):
        return self.trip + (size + REQUEST_BYTES) / self.bytes_per_s


def drive(choice, link, wire, pictures, rng=random):
    """Points taken for so many pictures, the link told of each."""
    taken = []
    for _ in range(pictures):
        number = choice.choose(0)
        size = round(POINTS[number].payload_bytes * rng.uniform(0.9, 1.1))
        link.add(size, wire.seconds(size) + 0.005, 5.0)
        choice.used(number, size, 10.0)
        taken.append(number)
    return taken


@pytest.mark.parametrize("wire,best", [(Wire(10e6, 0.005), 0), (Wire(20e3, 0.005), 1), (Wire(5e3, 0.02), 2),
                                       (Wire(10e6, 0.15), 0)])
def test_the_point_follows_the_link(wire, best):
    """200 ms: at 10 MB/s the best point, at 20 kB/s the middle one, at 5 kB/s the smallest; a long trip alone changes none."""
    link = Link()
    link.ping(wire.trip, 0.0)
    taken = drive(WithinTime(POINTS, [10.0] * 3, link, 200.0), link, wire, 40, random.Random(0))
    assert set(taken[-20:]) == {best}


def test_the_point_follows_a_link_that_changes():
    link, rng = Link(), random.Random(0)
    choice = WithinTime(POINTS, [10.0] * 3, link, 200.0)
    link.ping(0.005, 0.0)
    assert drive(choice, link, Wire(10e6, 0.005), 20, rng)[-1] == 0
    assert drive(choice, link, Wire(5e3, 0.005), 20, rng)[-1] == 2
    assert drive(choice, link, Wire(10e6, 0.005), 30, rng)[-1] == 0


def test_what_waits_counts_before_the_picture():
    link = Link()
    link.ping(0.005, 0.0)
    choice = WithinTime(POINTS, [10.0] * 3, link, 300.0)
    drive(choice, link, Wire(100e3, 0.005), 20, random.Random(0))
    assert choice.choose(0) == 0 and choice.choose(22_000) == 1 and choice.choose(1 << 20) == 2


@settings(deadline=None, max_examples=40)
@given(st.floats(5, 500), st.lists(st.floats(0, 2), min_size=5, max_size=80), st.randoms(use_true_random=False))
def test_a_bit_rate_is_never_exceeded_for_long(kbps, pauses, rng):
    """Over any stretch: at most the rate times its length, one second's burst, and the picture that was just allowed."""
    now = [0.0]
    choice = WithinBudget(POINTS, [10.0] * 3, kbps, clock=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    sent = []
    for pause in pauses:
        now[0] += pause
        number = choice.choose(0)
        size = round(POINTS[number].payload_bytes)
        choice.used(number, size, 1.0)
        sent.append((now[0], size + REQUEST_BYTES))
    for i, (start, _) in enumerate(sent):
        for j in range(i, len(sent)):
            total = sum(size for _, size in sent[i:j + 1])
            assert total <= kbps * 125 * (sent[j][0] - start + 1) + 8000 + REQUEST_BYTES + 1


def test_a_generous_rate_takes_the_best_point_and_a_small_one_the_smallest():
    now = [0.0]
    for kbps, expected in ((1000, 0), (16, 1), (4, 2)):
        choice = WithinBudget(POINTS, [10.0] * 3, kbps, clock=lambda: now[0],
                              sleep=lambda s: now.__setitem__(0, now[0] + s))
        taken = []
        for _ in range(30):
            now[0] += 1.0
            number = choice.choose(0)
            choice.used(number, round(POINTS[number].payload_bytes), 1.0)
            taken.append(number)
        assert max(set(taken[10:]), key=taken.count) == expected


def test_points_that_nobody_measured_cannot_be_chosen_among():
    with pytest.raises(SpicError, match="need points that were measured"):
        WithinTime(edge_points((0.0, 0.0)), [1.0], Link(), 100.0)


# ---- sources ------------------------------------------------------------------------------------------------------


def names(found):
    return [picture.name for picture in found if picture]


def test_files_and_folders_in_order_and_a_bad_picture_fails_alone(tmp_path):
    draw(tmp_path / "b/deep", 2)
    draw(tmp_path / "a", 1)
    (tmp_path / "a/bad.png").write_bytes(b"no picture")
    (tmp_path / "a/notes.txt").touch()
    found = list(sources.sources([str(tmp_path / "b"), str(tmp_path / "a")], False, 1, None))
    assert names(found) == [str(tmp_path / name) for name in ("b/deep/000.jpg", "b/deep/001.jpg", "a/000.jpg", "a/bad.png")]
    assert sources.count([str(tmp_path)], False) == 4
    assert found[0].load().mode == "RGB"
    with pytest.raises(SpicError, match="bad.png"):
        found[-1].load()


def test_a_watched_folder_gives_each_new_picture_once_and_only_when_it_is_whole(tmp_path):
    draw(tmp_path, 2)
    steps = iter([
        lambda: (tmp_path / "new.jpg").write_bytes(b"half"), lambda: (tmp_path / "new.jpg").write_bytes(b"all of it"),
        lambda: None, lambda: None, lambda: (tmp_path / "000.jpg").unlink(), lambda: draw(tmp_path, 1), lambda: None,
                  lambda: None])
    watched, given = sources.watch([tmp_path], pause=lambda seconds: next(steps)()), []
    with pytest.raises(RuntimeError):  # the steps are through
        for picture in watched:
            given.append(picture and Path(picture.name).name)
    assert [name for name in given if name] == ["000.jpg", "001.jpg", "new.jpg", "000.jpg"]
    looks = [given[:place].count(None) for place, name in enumerate(given) if name]
    assert looks == [1, 1, 3, 7], "two looks saw the same of each"


def test_the_spool_knows_which_files_were_taken(tmp_path):
    spool = Spool(tmp_path / "spool", 256 << 10)
    spool.put(parcel("one"), ["a", "b"])
    spool.remove(spool.oldest())
    with pytest.raises(SpoolFull):
        spool.put(parcel("large", 1 << 20), ["c"])
    spool.close()
    again = Spool(tmp_path / "spool", 256 << 10)
    assert [again.took(key) for key in "abc"] == [True, True, False]
    for number in range(300):
        again.put(parcel(str(number), 1), [f"{number}.jpg"])
        again.remove(again.oldest())
    assert [again.took(key) for key in ("a", "30.jpg", "50.jpg", "299.jpg")] == [False, False, True, True], "the last 262"


@pytest.fixture
def video(tmp_path):
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for number in range(20):
            pixels = np.full((48, 64, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return str(path)


def test_frames_of_a_video(video):
    def numbers(every, fps):
        return [int(name.rpartition("#")[2]) for name in names(sources.sources([video], False, every, fps))]
    assert numbers(1, None) == list(range(20)) and numbers(6, None) == [0, 6, 12, 18]
    assert numbers(1, 2.0) == [0, 5, 10, 15] and numbers(1, 100.0) == list(range(20)) and numbers(4, 1.25) == [0, 8, 16]
    image = list(sources.sources([video], False, 1, None))[10].load()
    assert image.size == (64, 48) and image.mode == "RGB" and abs(np.asarray(image).mean() - 100) < 8


def test_an_unreadable_video_is_one_line(tmp_path):
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    (tmp_path / "film.mp4").write_bytes(b"no video" * 100)
    for name in (str(tmp_path / "film.mp4"), "/dev/video99"):
        found = list(sources.sources([name, __file__], False, 1, None))
        assert names(found) == [name, __file__], "what comes after it is not lost"
        with pytest.raises(SpicError, match="not a readable video") as error:
            found[0].load()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("inputs,follow,every,message", [
    (["nowhere.jpg"], False, 1, "no such picture"), ([__file__], True, 1, "--follow watches folders"),
    ([__file__], False, 2, "--every and --fps")])
def test_inputs_that_cannot_be_meant(inputs, follow, every, message):
    with pytest.raises(SpicError, match=message):
        sources.check(inputs, follow, every, None)


# ---- report -------------------------------------------------------------------------------------------------------


def test_names_from_the_network_cannot_steer_a_terminal():
    assert told({"top": [{"name": "cat\x1b[2J\n", "score": 0.5}]}) == "cat[2J 50.0 %"
    assert told({"classes": ["a", "b"], "map": ""}) == "a, b" and told({"top": "x"}) == "an answer"


def test_the_summary_counts_what_was_answered(capsys):
    from spic.edge.client import Answered

    report = Report(True, pixels=1000)
    report.answer(parcel("one", 100, 2), Answered([{"top": []}] * 2, 3.0, 0.02), 1.0)
    report.failure("three", "too small")
    summary = report.summary()
    assert (summary["answered"], summary["failed"], summary["payload_bytes"], summary["stream_bytes"]) == (2, 1, 200, 100)
    assert summary["bpp"] == 8 * 200 / 2000
    assert summary["milliseconds"]["answer"]["p50"] == 20 and summary["milliseconds"]["cloud"]["p99"] == 3
    assert len(capsys.readouterr().out.splitlines()) == 3
