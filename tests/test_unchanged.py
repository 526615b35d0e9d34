"""bench/unchanged.py: a change of a payload, a symbol or a score is found and named, and nothing else is."""

from __future__ import annotations


import numpy as np
import pytest

from spic.coding import FrequencyTable, make_coder
from spic.errors import SpicError


@pytest.fixture
def unchanged(bench):
    return bench("unchanged")


TABLES = [FrequencyTable({0: 9, 1: 3, 2: 1}, step) for step in (0.5, 1.0)]
PICTURES = np.array([[0, 1, 2, 0], [0, 0, 0, 0], [2, 2, 1, 1]], np.int32)
REVERSED = PICTURES[::-1].copy()


def coded(unchanged):
    """What two coders, of one table each, were given, after a trial: the second got the pictures in reverse."""
    with unchanged.Recorder() as recorder:
        for table, pictures in zip(TABLES, (PICTURES, REVERSED)):
            coder = make_coder("huffman", table)
            coder.encode(np.zeros((1, 4), np.int32))
            payloads = coder.encode(pictures[:2]) + coder.encode(pictures[2:])
    return recorder, [len(payload) for payload in payloads]


def test_pictures_of_a_coder_are_found_by_its_table_without_its_trial(unchanged):
    recorder, sizes = coded(unchanged)
    images, payloads = recorder.take(TABLES[1].digest, sizes)
    assert np.array_equal(images, REVERSED)
    assert payloads == make_coder("huffman", TABLES[1]).encode(REVERSED)


def test_payloads_of_other_sizes_than_the_rows_tell_are_refused(unchanged):
    recorder, sizes = coded(unchanged)
    with pytest.raises(SpicError, match="sizes"):
        recorder.take(TABLES[1].digest, [size + 1 for size in sizes])


def test_the_wrapper_around_the_coder_is_taken_off_again(unchanged):
    before = unchanged.Coder.encode
    coded(unchanged)
    assert unchanged.Coder.encode is before


def entry(**changes):
    return {"payloads": "ab", "symbols": "cd", "bpp_table": 0.1, "escapes": 3, **changes}


@pytest.mark.parametrize("now, found", [
    (entry(), []),
    (entry(bpp_table=0.1 + 1e-16, new="x"), []),
    (entry(payloads="xy"), ["payloads"]),
    (entry(bpp_table=0.1001), ["bpp_table 0.1 -> 0.1001"]),
    ({"payloads": "ab", "symbols": "cd", "bpp_table": 0.1}, ["escapes 3 -> None"]),
    (None, ["not measured"]),
])
def test_differences_of_a_point(unchanged, now, found):
    assert unchanged.differences(entry(), now) == found


def test_a_point_is_equal_when_all_its_coders_are(unchanged, capsys):
    keys = [f"classification/scenes/S1/{factor}/{coder}/shared" for factor in (0, 1) for coder in ("huffman", "rans")]
    entries = {key: entry() for key in keys} | {keys[3]: entry(symbols="xy")}
    symbols = {keys[3]: PICTURES}
    assert unchanged.compare({key: entry() for key in keys}, symbols, entries, {keys[3]: PICTURES + 1}) == 1
    said = capsys.readouterr().out
    assert "S1/1/rans/shared: symbols; 12 of 12 symbols differ, by at most 1" in said
    assert "3 of 4 results equal" in said and "1 of 2 points equal" in said
