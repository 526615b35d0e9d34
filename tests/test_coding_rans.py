"""rANS: pinned payloads, integer probabilities, and how close the bytes come to the table's cross-entropy."""

import math
from fractions import Fraction

import numpy as np
import pytest
from coding_cases import COUNTS, draw, published_tables
from hypothesis import given
from hypothesis import strategies as st

from spic.coding import FrequencyTable, make_coder
from spic.coding.rans.reference import ESCAPE, _log2, choose_precision, slot_counts, spread
from spic.coding.rans.tables import fast_precision, log2, slot_arrays

SKEWED = {0: 900, 1: 80, 2: 15, 3: 4, 9: 1}


def test_payloads_are_pinned():
    """The bytes are the format: a change of any of these is a new format version."""
    coder = make_coder("rans", FrequencyTable(SKEWED, 1.0))
    messages = {
        "": [],
        "none": [0] * 500,
        "few": [0, 0, 1, 0, 2, 0, 0, 0, 9, 0],
        "escape": [0, 5, 0, 0, 70000, 0],
        "long": ([0] * 9 + [1, 2, 3]) * 12,
    }
    payloads = {name: coder.encode(np.array([m], np.int32))[0].hex() for name, m in messages.items()}
    assert payloads == {
        "": "",
        "none": "",
        "few": "0c5569",
        "escape": "017edaa4fb835d",
        "long": "0fa631e99b015380b67f2d46801f7f98eacad27f167fc9a350ea80797f",
    }


def test_the_slots_of_a_table_are_pinned():
    assert slot_counts(SKEWED, 12) == {0: 3686, 1: 328, 2: 61, 3: 16, 9: 4, ESCAPE: 1}
    assert choose_precision([SKEWED], 2048) == 12


@given(COUNTS, st.integers(12, 16))
def test_slots_add_up_and_follow_the_counts(counts, precision):
    shares = slot_counts(counts, precision)
    assert sum(shares.values()) == 1 << precision and min(shares.values()) >= 1
    assert list(shares)[-1] == ESCAPE and list(shares)[:-1] == sorted(list(shares)[:-1])
    kept = [s for s in counts if s in shares]
    assert all(shares[a] <= shares[b] for a in kept for b in kept if counts[a] < counts[b])


@given(COUNTS, st.integers(12, 16))
def test_no_slot_is_better_given_to_another(counts, precision):
    shares = slot_counts(counts, precision)
    weights = {s: counts.get(s, 0) for s in shares} | {ESCAPE: sum(n for s, n in counts.items() if s not in shares)}
    needed = max(Fraction(weights[s], 2 * share + 1) for s, share in shares.items())
    felt = min((Fraction(weights[s], 2 * share - 1) for s, share in shares.items() if share > 1), default=needed)
    assert felt >= needed * (1 - Fraction(1, 2**20))  # Webster's rule, to the digits that integers keep


def test_slots_that_are_left_over_go_to_many():
    shares = slot_counts({s: 404 for s in range(100)} | {100: 560}, 12)  # 40.4 slots each: rounded down, 39 are left over
    assert sorted(shares.values()) == [1, *[40] * 61, *[41] * 39, 56] and sum(shares.values()) == 4096


def test_more_symbols_than_slots_leave_one_for_the_escape():
    shares = slot_counts({s: 1 for s in range(65536)}, 13)
    assert len(shares) == 8192 and set(shares.values()) == {1}


@given(COUNTS)
def test_every_owner_has_its_slots_evenly_spread(counts):
    shares = slot_counts(counts, 12)
    owner, rank = spread(np.fromiter(shares.values(), np.int64))
    for position, share in enumerate(shares.values()):
        slots = np.flatnonzero(owner == position)
        assert len(slots) == share and (rank[slots] == np.arange(share)).all()
        wanted = (np.arange(share) + 0.5) / share * 4096
        assert np.abs(slots + 0.5 - wanted).max() <= len(shares)


def as_arrays(counts):
    return np.array(sorted(counts)), np.array([counts[s] for s in sorted(counts)])


@given(COUNTS, st.integers(12, 16))
def test_the_fast_slots_are_the_plain_ones(counts, precision):
    symbols, values = as_arrays(counts)
    kept, owned = slot_arrays(values, precision)
    assert dict(zip([*symbols[kept].tolist(), ESCAPE], owned.tolist())) == slot_counts(counts, precision)


@pytest.mark.parametrize("shape", [0.3, 1.0, 30.0])
@pytest.mark.parametrize("precision", [12, 16])
def test_the_fast_slots_of_wide_tables_are_the_plain_ones(shape, precision):
    counts = dict(enumerate((1 + np.random.default_rng(0).gamma(shape, 3000, 40000)).astype(np.int64).tolist()))
    symbols, values = as_arrays(counts)
    kept, owned = slot_arrays(values, precision)
    assert dict(zip([*symbols[kept].tolist(), ESCAPE], owned.tolist())) == slot_counts(counts, precision)


@given(st.lists(COUNTS, min_size=1, max_size=3), st.sampled_from([0, 1, 100, 2000, 100000, 1 << 24]))
def test_the_fast_precision_is_the_plain_one(distributions, n):
    assert fast_precision([as_arrays(counts) for counts in distributions], n) == choose_precision(distributions, n)


@given(st.lists(st.integers(1, 1 << 40), min_size=1))
def test_the_fast_logarithm_is_the_plain_one(values):
    assert log2(np.array(values)).tolist() == [_log2(value) for value in values]


@pytest.mark.parametrize("value", [1, 2, 3, 7, 1000, 65535, 1 << 40, (1 << 40) - 1])
def test_the_integer_logarithm_is_right_to_its_last_digit(value):
    assert abs(_log2(value) / (1 << 20) - math.log2(value)) <= 2 / (1 << 20)


def test_an_image_of_the_most_frequent_symbol_can_cost_nothing():
    coder = make_coder("rans", FrequencyTable({0: 1000, 1: 1}, 1.0))
    assert coder.encode(np.zeros((2, 300), np.int32)) == [b"", b""]


def test_precision_grows_with_the_message():
    counts = [{0: 1 << 30, 1: 1 << 26, 2: 1 << 22, 3: 5}]
    assert [choose_precision(counts, n) for n in (100, 2000, 100000)] == [12, 12, 16]


def test_size_is_within_a_byte_of_the_cross_entropy_for_all_published_tables():
    """Images drawn from each table, of the length the point sends; the mean over 24 images may exceed it by a
    byte."""
    excess = {}
    for name, table, n in published_tables():
        symbols = draw(table, 24, (n,))
        payloads = make_coder("rans", table).encode(symbols)
        excess[name] = (sum(map(len, payloads)) - table.cross_entropy(symbols) / 8) / len(payloads)
    assert len(excess) == 61
    assert max(excess.values()) <= 1, max(excess, key=excess.get)
    assert np.mean(list(excess.values())) <= 0.7


@pytest.mark.parametrize("shares", [(1, 1), (999, 1), (30, 20, 10, 5, 2, 1), (10**6, 10**3, 1)])
@pytest.mark.parametrize("n", [128, 2048, 20000])
def test_size_is_within_a_byte_of_the_cross_entropy_for_made_up_tables(shares, n):
    table = FrequencyTable(dict(enumerate(shares)), 1.0)
    symbols = draw(table, 40, (n,))
    payloads = make_coder("rans", table).encode(symbols)
    assert (sum(map(len, payloads)) - table.cross_entropy(symbols) / 8) / 40 <= 1
