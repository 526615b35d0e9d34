"""Symbols with a sign: folded for the coder, said in version 2 of the table, unfolded on the other side."""

import hashlib
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spic.coding import CODERS, make_coder
from spic.coding.symbols import MAX_SIGNED, MAX_SYMBOL, folded, unfolded
from spic.coding.counting import KINDS, SymbolCounter
from spic.coding.tables import FrequencyTable
from spic.errors import SpicError

SIGNED = arrays.arrays(np.int32, (3, 2, 2, 2), elements=st.integers(-6, 6) | st.integers(-MAX_SIGNED - 1, MAX_SIGNED))


def test_small_values_of_either_sign_become_small_numbers():
    assert folded([0, -1, 1, -2, 2, -3]).tolist() == [0, 1, 2, 3, 4, 5]
    assert folded([-MAX_SIGNED - 1, MAX_SIGNED]).tolist() == [MAX_SYMBOL, MAX_SYMBOL - 1]


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64, np.dtype(">i4"), np.uint8])
def test_every_type_of_integers_is_folded_without_overflow(kind):
    values = np.array([0, 1, 63, 127], kind)
    assert folded(values).tolist() == [0, 2, 126, 254]


@given(SIGNED)
def test_folding_is_undone(symbols):
    coded = folded(symbols)
    assert coded.min() >= 0 and np.array_equal(unfolded(coded), symbols)
    assert np.array_equal(unfolded(torch.from_numpy(coded)), symbols)


@pytest.mark.parametrize("name", CODERS)
@settings(deadline=None)  # kernels are compiled in the first case
@given(symbols=SIGNED, kind=st.sampled_from(KINDS))
def test_signed_symbols_come_back_and_those_without_a_count_are_escaped(name, symbols, kind):
    table = FrequencyTable.from_symbols(np.clip(symbols, -4, 4), 1.0, kind, signed=True)
    coder = make_coder(name, table)
    decoded = coder.decode(coder.encode(symbols), symbols.shape[1:])
    assert decoded.dtype == np.int32 and np.array_equal(decoded, symbols)
    assert table.count_escapes(symbols) >= np.count_nonzero(np.abs(symbols.astype(np.int64)) > 4)


@pytest.mark.parametrize("name", CODERS)
def test_a_payload_is_that_of_the_folded_symbols_under_a_table_without_sign(name):
    symbols = np.array([[[0, -1, 2, 0, -3, 0, 0, 1]]])
    counts = {0: 8, 1: 2, 2: 2, 4: 1, 5: 1}
    signed, plain = FrequencyTable(counts, 1.0, signed=True), FrequencyTable(counts, 1.0)
    assert make_coder(name, signed).encode(symbols) == make_coder(name, plain).encode(folded(symbols))
    assert signed.cross_entropy(symbols) == plain.cross_entropy(folded(symbols))


def test_the_table_says_so_in_version_2_and_its_digest_is_pinned(tmp_path):
    table = FrequencyTable({0: 9, 1: 3, 2: 4}, 2.0, signed=True)
    table.save(tmp_path / "signed.json")
    text = '{"version":2,"step":2.0,"counts":{"0":9,"1":3,"2":4},"signed":true}'
    assert json.loads((tmp_path / "signed.json").read_text()) == json.loads(text)
    assert table.digest == hashlib.sha256(text.encode()).hexdigest()
    again = FrequencyTable.load(tmp_path / "signed.json")
    assert again.signed and again.digest == table.digest != FrequencyTable(table.counts, 2.0).digest


@pytest.mark.parametrize("content,word", [
    ('{"version": 1, "step": 1, "counts": {"0": 1}, "signed": true}', "unexpected"),
    ('{"version": 2, "step": 1, "counts": {"0": 1}, "signed": false}', "it is true, or left out"),
    ('{"version": 2, "step": 1, "counts": {"0": 1}, "signed": 1}', "it is true, or left out"),
    ('{"version": 2, "step": 1, "counts": {"-1": 1}, "signed": true}', "plain integers"),
])
def test_a_file_that_says_it_wrongly_is_refused(tmp_path, content, word):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(SpicError, match=f"bad.json: .*{word}"):
        FrequencyTable.load(tmp_path / "bad.json")


@pytest.mark.parametrize("wrong,words", [
    ([[1 << 23]], "-8388608..8388607, found 8388608"), ([[-(1 << 31)]], "NaN or infinity"), ([[0.5]], "must be integers")])
def test_what_cannot_be_folded_is_refused_in_one_line(wrong, words):
    counter = SymbolCounter("shared", signed=True)
    with pytest.raises(SpicError, match=words):
        counter.add(wrong)
