"""Huffman codes and payloads equal to the published coder's: pinned here, and for 31 tables of the shared folder."""

import hashlib

import numpy as np
import pytest
from coding_cases import COUNTS as ANY_COUNTS
from coding_cases import published_tables, shared_json
from hypothesis import given

from spic.coding import FrequencyTable, make_coder
from spic.coding.tables import MAX_TOTAL
from spic.coding.huffman import END, huffman_code
from spic.coding.huffman.tables import MAX_LENGTH, code_arrays

# Classification US2/1 as published: a gap in its symbols, equal counts. Codes and payloads by the published coder.
COUNTS = {
    0: 45561825, 1: 41949877, 2: 11319831, 3: 2676641, 4: 653582, 5: 170616, 6: 47645, 7: 14025, 8: 4174, 9: 1271,
    10: 365, 11: 113, 12: 28, 13: 2, 14: 1, 15: 2, 17: 1, 18: 1,
}  # fmt: skip
LATE_CODES = {
    12: (13, 4097), 13: (15, 16385), 14: (16, 32769), 15: (15, 16386), 17: (16, 32774), 18: (16, 32775), END: (16, 32768),
}  # fmt: skip
PAYLOADS = [([12], "800c"), ([12, 17], "800c0034"), ([12, 17, 13, 6, 7, 7, 13], "800c003400183030300060")]


def test_codes_and_payloads_of_a_published_table():
    codes = huffman_code(COUNTS)
    assert {symbol: codes[symbol] for symbol in LATE_CODES} == LATE_CODES
    coder = make_coder("huffman", FrequencyTable(COUNTS, 1.0))
    for symbols, payload in PAYLOADS:
        assert coder.encode(np.array([symbols]))[0].hex() == payload


def test_all_golden_tables_give_the_published_codes_and_payloads():
    for name, golden in shared_json("golden/huffman_lengths.json").items():
        counts = {int(symbol): count for symbol, count in golden["counts"].items()}
        codes = huffman_code(counts)
        assert codes.pop(END) == (golden["eof_length"], golden["eof_code"]), name
        assert {str(s): length for s, (length, _) in codes.items()} == golden["lengths"], name
        assert {str(s): code for s, (_, code) in codes.items()} == golden["codes"], name
        coder = make_coder("huffman", FrequencyTable(counts, 1.0))
        for sample in golden["samples"]:
            if sample["symbols"] is not None:
                [payload] = coder.encode(np.array([sample["symbols"]]))
                assert hashlib.sha256(payload).hexdigest() == sample["sha256"], name


def test_code_lengths_of_all_published_tables_are_optimal():
    tables = [table for _, table, _ in published_tables()]
    assert len(tables) == 61
    for table in tables:
        codes = huffman_code(table.counts)
        assert sum(2.0 ** -length for length, _ in codes.values()) == 1
        mean = sum(n * codes[s][0] for s, n in table.counts.items()) / table.total
        assert table.entropy - 1e-6 <= mean < table.entropy + 1


def test_a_single_symbol_costs_one_bit_and_the_last_byte_ends_with_the_end_code():
    codes = huffman_code({5: 3})
    assert codes == {END: (1, 0), 5: (1, 1)}
    assert make_coder("huffman", FrequencyTable({5: 3}, 1.0)).encode(np.array([[5, 5, 5]])) == [bytes([0b11100000])]


def test_the_longest_possible_code_fits_a_window_at_any_bit_offset():
    counts, a, b = {}, 1, 1
    while sum(counts.values()) + b <= MAX_TOTAL:
        counts[len(counts)] = b
        a, b = b, a + b
    codes = huffman_code(counts)
    assert 50 < max(length for length, _ in codes.values()) <= MAX_LENGTH
    symbols = np.arange(len(counts))[None].repeat(3, axis=0)
    coder = make_coder("huffman", FrequencyTable(counts, 1.0))
    assert (coder.decode(coder.encode(symbols), symbols.shape[1:]) == symbols).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_code_is_a_complete_prefix_code(seed):
    rng = np.random.default_rng(seed)
    counts = {int(s): int(c) for s, c in zip(rng.choice(1000, 40, replace=False), rng.integers(1, 50, 40))}
    words = sorted(f"{code:0{length}b}" for length, code in huffman_code(counts).values())
    assert not any(b.startswith(a) for a, b in zip(words, words[1:]))
    assert sum(2.0 ** -len(word) for word in words) == 1


@given(ANY_COUNTS)
def test_the_fast_code_is_the_plain_one(counts):
    symbols = [END, *sorted(counts)]
    lengths, codes = code_arrays(np.array([1, *(counts[s] for s in symbols[1:])]))
    assert dict(zip(symbols, zip(lengths.tolist(), codes.tolist()))) == huffman_code(counts)


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_the_fast_code_is_the_plain_one_for_wide_tables_with_equal_counts(most):
    counts = dict(enumerate(np.random.default_rng(most).integers(1, most + 1, 65536).tolist()))
    lengths, codes = code_arrays(np.array([1, *counts.values()]))
    assert dict(zip([END, *counts], zip(lengths.tolist(), codes.tolist()))) == huffman_code(counts)
