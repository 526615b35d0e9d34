"""Frequency tables: JSON in and out, what is refused, entropy and bounds with known answers."""

import json
import math
import random

import numpy as np
import pytest
import torch
from coding_cases import SHARED_TABLES, batches, channel_tables
from hypothesis import given
from hypothesis import strategies as st

from spic.coding import fuzz, make_coder
from spic.coding.clusters import cluster
from spic.coding.counting import KINDS, SymbolCounter
from spic.coding.tables import MAX_FILE_BYTES, MAX_TOTAL, FrequencyTable
from spic.errors import SpicError

FAIR = FrequencyTable({0: 2, 3: 1, 7: 1}, 2.0)


@given(st.one_of(SHARED_TABLES, channel_tables()))
def test_a_saved_table_comes_back_with_the_same_digest(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("tables") / "table.json"
    table.save(path)
    again = FrequencyTable.load(path)
    assert again.digest == table.digest
    assert again.distributions == table.distributions and again.step == table.step


def test_the_json_is_readable_and_the_digest_is_pinned(tmp_path):
    FAIR.save(tmp_path / "deep" / "fair.json")
    text = (tmp_path / "deep" / "fair.json").read_text()
    assert json.loads(text) == {"version": 1, "step": 2.0, "counts": {"0": 2, "3": 1, "7": 1}}
    assert FAIR.digest == "3e383f47c6e4ed460e768f40acad117dd43071d20657206c4c034655414d7839"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["fair.json"]


def test_digests_tell_counts_step_and_index_apart():
    index = np.array([[[0]], [[1]]])
    tables = [
        FAIR,
        FrequencyTable({0: 2, 3: 1, 7: 2}, 2.0),
        FrequencyTable({0: 2, 3: 1, 7: 1}, 2.5),
        FrequencyTable([{0: 2, 3: 1, 7: 1}] * 2, 2.0, index),
        FrequencyTable([{0: 2, 3: 1, 7: 1}] * 2, 2.0, 1 - index),
    ]
    assert len({t.digest for t in tables}) == len(tables)


def test_entropy_cross_entropy_and_escapes_have_the_known_values():
    assert FAIR.entropy == pytest.approx(1.5)
    symbols = torch.tensor([[[0, 0, 3]], [[7, 7, 0]]])
    assert FAIR.cross_entropy(symbols) == pytest.approx(3 * 1 + 3 * 2)
    assert FAIR.count_escapes(symbols) == 0
    strange = torch.tensor([[[1, 0, 9]]])  # 1: five raw bits; 9: five and three more
    assert FAIR.count_escapes(strange) == 2
    assert FAIR.cross_entropy(strange) == pytest.approx(1 + (2 + 5) + (2 + 8))


def test_a_channel_table_uses_each_channels_own_distribution():
    symbols = torch.tensor([[[[0, 0]], [[1, 2]]], [[[0, 0]], [[2, 1]]]])
    table = FrequencyTable.from_symbols(symbols, 1.0, kind="channel")
    assert table.distributions == ({0: 4}, {1: 2, 2: 2})
    assert table.entropy == pytest.approx(0.5)
    assert table.cross_entropy(symbols) == pytest.approx(4)
    assert table.selector((2, 1, 3)).known[0].tolist() == [0, 0, 0, 1, 1, 1]
    assert table.count_escapes(symbols.flip(1)) == 8


def test_counting_batch_by_batch_equals_counting_at_once():
    symbols = torch.randint(0, 40, (10, 3, 4, 5), generator=torch.Generator().manual_seed(0)) ** 2
    for tables in KINDS:
        counter = SymbolCounter(tables)
        for batch in symbols.split(3):
            counter.add(batch)
        assert FrequencyTable.from_counter(counter, 1.0).digest == FrequencyTable.from_symbols(symbols, 1.0, tables).digest


def test_a_position_table_puts_like_positions_together():
    """200 positions of three kinds, shuffled: three clusters find them, and cost what knowing the kinds would."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, 200)
    chances = np.array([[0.9, 0.1, 0, 0], [0.1, 0.2, 0.3, 0.4], [0, 0, 0.5, 0.5]])
    counts = np.stack([rng.multinomial(500, chances[k]) for k in kinds])
    found = cluster(counts, 3)
    assert len(set(zip(kinds, found))) == 3
    assert cluster(counts[:2], 64).tolist() in ([0, 1], [1, 0], [0, 0])


def test_more_particular_tables_cost_fewer_bits_at_the_same_symbols():
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(0, 1.5, (8, 1, 1)) + rng.normal(0, 1, (8, 6, 6)))
    train, fresh = rng.poisson(rates, (400, 8, 6, 6)), rng.poisson(rates, (50, 8, 6, 6))
    bits = [FrequencyTable.from_symbols(train, 1.0, kind).cross_entropy(fresh) for kind in KINDS]
    assert bits[1] < 0.95 * bits[0] and bits[2] < 0.95 * bits[1]
    assert len(FrequencyTable.from_symbols(train, 1.0, "position").distributions) <= 64


def test_counting_nothing_or_another_shape_is_refused():
    with pytest.raises(SpicError, match="no symbols"):
        FrequencyTable.from_counter(SymbolCounter(), 1.0)
    counter = SymbolCounter("position")
    counter.add(torch.zeros(2, 3, 4, 4, dtype=torch.int32))
    with pytest.raises(SpicError, match="another shape"):
        counter.add(torch.zeros(2, 3, 4, 5, dtype=torch.int32))
    with pytest.raises(SpicError, match="shared, channel, position, context"):
        SymbolCounter("pixel")


def test_values_above_65535_stay_out_of_the_table():
    table = FrequencyTable.from_symbols(torch.tensor([[[5, 5, 70000]]]), 1.0)
    assert table.counts == {5: 2}


@pytest.mark.parametrize(
    "content, word",
    [
        ("", "not valid JSON"),
        ("[" * 100000, "not valid JSON"),
        ("[]", "not a frequency table"),
        ('{"version": 2, "step": 1, "counts": {"0": 1}}', "version 2"),
        ('{"version": true, "step": 1, "counts": {"0": 1}}', "version True"),
        ('{"version": 1.0, "step": 1, "counts": {"0": 1}}', "version 1.0"),
        ('{"version": %s, "step": 1, "counts": {"0": 1}}' % ("9" * 400), "version of 1329 bits"),
        ('{"version": 1, "step": %s, "counts": {"0": 1}}' % ("9" * 400), "step must be a positive number, not of 1329 bits"),
        ('{"version": 1, "step": -%s, "counts": {"0": 1}}' % ("9" * 400), "step"),
        ('{"version": 1, "step": %s, "counts": {"0": 1}}' % ("9" * 5000), "not valid JSON"),
        ('{"version": 1, "step": 1e999, "counts": {"0": 1}}', "step"),
        ('{"version": 1, "step": 1e-999, "counts": {"0": 1}}', "step"),
        ('{"version": 1, "step": true, "counts": {"0": 1}}', "step"),
        ('{"version": 1, "step": 1, "counts": {"0": %s}}' % ("9" * 400), "count of 1329 bits"),
        ('{"version": 1, "step": 1, "counts": {"%s": 1}}' % ("9" * 400), "plain integers"),
        ('{"version": 1, "step": 1, "counts": null}', "counts"),
        ('{"version": 1, "step": 1, "counts": []}', "index"),
        ('{"version": 1, "step": 1, "counts": [{"0": 1}], "index": {"shape": [%s], "values": [0]}}' % ("9" * 400), "index"),
        ('{"version": 1, "counts": {"0": 1}}', "missing"),
        ('{"version": 1, "step": 1, "counts": {"0": 1}, "more": 1}', "unexpected"),
        ('{"version": 1, "step": 1, "counts": {}}', "at least one"),
        ('{"version": 1, "step": 0, "counts": {"0": 1}}', "step"),
        ('{"version": 1, "step": NaN, "counts": {"0": 1}}', "step"),
        ('{"version": 1, "step": "1", "counts": {"0": 1}}', "step"),
        ('{"version": 1, "step": 1, "counts": {"-1": 1}}', "plain integers"),
        ('{"version": 1, "step": 1, "counts": {"01": 1}}', "plain integers"),
        ('{"version": 1, "step": 1, "counts": {"\u0661": 1}}', "plain integers"),
        ('{"version": 1, "step": 1, "counts": {"": 1}}', "plain integers"),
        ('{"version": 1, "step": 1, "counts": {"65536": 1}}', "symbol 65536"),
        ('{"version": 1, "step": 1, "counts": {"0": 0}}', "count 0"),
        ('{"version": 1, "step": 1, "counts": {"0": 1.5}}', "count 1.5"),
        ('{"version": 1, "step": 1, "counts": {"0": true}}', "count True"),
        ('{"version": 1, "step": 1, "counts": {"0": 1, "0": 2}}', "twice"),
        ('{"version": 1, "step": 1, "counts": {"0": %d, "1": 1}}' % MAX_TOTAL, "add up"),
        ('{"version": 1, "step": 1, "counts": [{"0": 1}]}', "index"),
        ('{"version": 1, "step": 1, "counts": [{"0": 1}], "index": 3}', "index"),
        ('{"version": 1, "step": 1, "counts": [{"0": 1}], "index": {"shape": [2], "values": [0]}}', "hold"),
        ('{"version": 1, "step": 1, "counts": [{"0": 1}], "index": {"shape": [1], "values": [1]}}', "index"),
        ('{"version": 1, "step": 1, "counts": [3], "index": {"shape": [1], "values": [0]}}', "symbols"),
    ],
)
def test_a_file_that_is_no_table_is_named_in_one_line(tmp_path, content, word):
    path = tmp_path / "bad.json"
    path.write_text(content, "utf-8")
    with pytest.raises(SpicError) as caught:
        FrequencyTable.load(path)
    assert "bad.json" in str(caught.value) and word in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_oversized_files_are_refused(tmp_path):
    with pytest.raises(SpicError, match="nowhere.json"):
        FrequencyTable.load(tmp_path / "nowhere.json")
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(SpicError, match="larger"):
        FrequencyTable.load(tmp_path / "large.json")


def test_a_table_of_many_wide_distributions_is_refused_before_it_takes_memory():
    with pytest.raises(SpicError, match="too many"):
        FrequencyTable([{65535: 1}] * 1024, 1.0, np.arange(1024))


def test_what_takes_long_to_build_is_refused_with_its_bound():
    """The file that can be written can be read: the largest table is well below the 16 MiB of a file."""
    counts = [dict.fromkeys(range(65536), MAX_TOTAL >> 16)] * 8
    largest = FrequencyTable(counts, 1.0, np.arange(8))
    assert len(json.dumps(largest.to_json())) < MAX_FILE_BYTES
    with pytest.raises(SpicError, match="524289 counted symbols in 9 distributions, 524288 at most"):
        FrequencyTable([*counts, {0: 1}], 1.0, np.arange(9))


@pytest.mark.parametrize("counts", [None, 3, [], "0", [None], {}])
def test_counts_that_map_nothing_are_refused(counts):
    with pytest.raises(SpicError, match="counts must map|an index goes with"):
        FrequencyTable(counts, 1.0, np.arange(1) if isinstance(counts, list) else None)


@pytest.mark.parametrize("index", [[[0], [0, 1]], [0.5], [10**30], [], [-1], [2], "a"])
def test_an_index_that_is_none_is_refused(index):
    with pytest.raises(SpicError, match="index"):
        FrequencyTable([{0: 1}, {1: 1}], 1.0, index)


def test_counts_of_small_numpy_integers_add_up():
    assert FrequencyTable({0: np.int32(2**31 - 1), 1: np.int32(2**31 - 1)}, np.float32(0.5)).total == 2**32 - 2


def test_counting_more_than_a_table_holds_is_refused():
    counter = SymbolCounter("channel")
    counter.add(np.arange(1 << 20, dtype=np.int32).reshape(1, 16, 1 << 16) % (1 << 16))
    with pytest.raises(SpicError, match="--tables shared"):
        FrequencyTable.from_counter(counter, 1.0)


@pytest.mark.parametrize(
    "symbols, word",
    [
        (np.array([[3, -(1 << 31)]], np.int32), "NaN or infinity"),
        (np.array([[3, -(1 << 63)]]), "NaN or infinity"),
        ([[1], [2, 3]], "must be an array"),
        (np.array([[1 << 70]], object), "integers, not object"),
        (np.array([[True]]), "integers, not bool"),
        ("text", "batch axis|integers"),
        (np.zeros((1, 0, (1 << 24) + 1), np.int32), "16777216 symbols"),
        (np.zeros([1] * 10, np.int32), "8 axes"),
        (torch.tensor([[0.5]]), "integers"),
        (torch.tensor([1, 2]), "batch axis"),
        (torch.tensor([[-1]]), "-1"),
        (torch.tensor([[1 << 24]]), "16777216"),
    ],
)
def test_symbols_that_no_coder_takes_are_refused(symbols, word):
    with pytest.raises(SpicError, match=word):
        FAIR.cross_entropy(symbols)


def test_a_table_for_another_shape_is_refused():
    table = FrequencyTable([{0: 1}, {1: 1}], 1.0, np.array([0, 1]).reshape(2, 1, 1))
    with pytest.raises(SpicError, match=r"\(3, 4, 4\)"):
        table.selector((3, 4, 4))


def test_the_information_of_the_counted_symbols_is_the_entropy():
    symbols = torch.randint(0, 9, (4, 2, 30), generator=torch.Generator().manual_seed(1))
    for tables in KINDS:
        table = FrequencyTable.from_symbols(symbols, 1.0, tables)
        assert math.isclose(table.cross_entropy(symbols), table.entropy * symbols.numel(), rel_tol=1e-9)


@given(st.one_of(SHARED_TABLES, channel_tables()), st.data())
def test_cross_entropy_does_not_depend_on_how_symbols_are_split(table, data):
    """Not in the last digit: histograms are integers, and bits are computed once, from their sum."""
    symbols = data.draw(batches(table))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(symbols)), max_size=4)))
    parts = [table.histogram(part) for part in np.split(symbols, cuts)]
    assert all(part.dtype == np.int64 and part.shape == parts[0].shape for part in parts)
    assert table.cross_entropy_of(sum(parts)) == table.cross_entropy(symbols)
    assert table.escapes_of(sum(parts)) == table.count_escapes(symbols) == sum(map(table.escapes_of, parts))
    assert sum(parts).sum() == symbols.size


@given(st.one_of(SHARED_TABLES, channel_tables()), st.data())
def test_cross_entropy_is_the_sum_of_each_symbols_price(table, data):
    symbols = data.draw(batches(table))
    bits = 0.0
    for image in symbols:
        for context, symbol in zip(table.selector(symbols.shape[1:]).known[0], image.ravel().tolist()):
            counts = table.distributions[context]
            escape = 0 if symbol in counts else 5 + max(0, symbol.bit_length() - 1)
            bits += math.log2(sum(counts.values()) / counts.get(symbol, 1)) + escape
    assert math.isclose(table.cross_entropy(symbols), bits, rel_tol=1e-9, abs_tol=1e-6)


def test_cross_entropy_is_no_bound_for_one_image():
    """The last symbols of an image go onto an empty state: a run of the most frequent one costs nothing there."""
    table = FrequencyTable({0: 900, 1: 80, 2: 15, 3: 4, 9: 1}, 1.0)
    symbols = np.array([[1, 2, 3, 1] + [0] * 50])
    assert 8 * len(make_coder("rans", table).encode(symbols)[0]) < table.cross_entropy(symbols) - 4


def test_damaged_table_files_are_refused_or_code(tmp_path):
    outcome = fuzz.tables(400, random.Random(3), tmp_path)
    assert outcome.rejected > 200 and outcome.accepted > 10 and outcome.rejected + outcome.accepted == 400
