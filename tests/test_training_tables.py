"""Tables per channel and position: how they reach over a map, their files, and symbols they have never seen."""

import json

import numpy as np
import pytest
import torch
from coding_cases import COUNTS
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pipeline import point_with

from spic.bottleneck import make_bottleneck
from spic.coding import CODERS, FrequencyTable, make_coder
from spic.coding.counting import KINDS, ZONES, SymbolCounter
from spic.errors import SpicError
from spic.files import verify_file
from spic.parts import load_table
from spic.points import SHARED, load_points
from spic.training.tables import count_tables, write_tables

SHAPE = (2, 3, 4)


@st.composite
def position_tables(draw):
    """One to four distributions, and for every symbol of SHAPE, or for each channel, the one that codes it."""
    rows = draw(st.lists(COUNTS, min_size=1, max_size=4))
    shape = draw(st.sampled_from([SHAPE, (2, 1, 1), (1, 3, 2)]))
    index = draw(st.lists(st.integers(0, len(rows) - 1), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return FrequencyTable(rows, 0.5, np.array(index).reshape(shape))


@pytest.mark.parametrize("name", CODERS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_symbol_its_own_distribution_never_saw_escapes_and_comes_back(name, data):
    """Also one that another distribution of the table knows, and one that none of them does."""
    table = data.draw(position_tables())
    values = st.one_of(st.sampled_from(sorted(table.counts)), st.integers(0, 40), st.just((1 << 24) - 1))
    symbols = np.array(data.draw(st.lists(values, min_size=48, max_size=48)), np.int32).reshape(2, *SHAPE)
    owners = np.broadcast_to(table.selector(SHAPE).known.reshape(SHAPE), symbols.shape)
    strange = sum(int(s) not in table.distributions[owner] for s, owner in zip(symbols.ravel(), owners.ravel()))
    assert table.count_escapes(symbols) == strange
    coder = make_coder(name, table, threads=1)
    assert (coder.decode(coder.encode(symbols), SHAPE) == symbols).all()


def test_an_index_is_stretched_over_maps_of_any_size():
    table = FrequencyTable([{0: 1}, {1: 1}, {2: 1}, {3: 1}], 1.0, np.array([[[0, 1], [2, 3]]]))
    assert table.selector((1, 2, 2)).known[0].tolist() == [0, 1, 2, 3]
    assert table.selector((2, 3, 4)).known.reshape(2, 3, 4)[1].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]
    for shape in ((1, 1, 2), (1, 2, 1)):
        with pytest.raises(SpicError, match="cannot code shape"):
            table.selector(shape)


def test_a_large_map_is_counted_by_zones_and_its_file_stays_small(tmp_path):
    """32 channels of 63 x 63: an index entry for each would be half a megabyte."""
    rates = torch.linspace(0.1, 3, 63).view(1, 1, 63, 1).expand(4, 32, 63, 63)
    symbols = torch.poisson(rates, generator=torch.Generator().manual_seed(0)).int()
    tables = {kind: FrequencyTable.from_symbols(symbols, 1.0, kind) for kind in KINDS}
    assert tables["position"].index.shape == (32, ZONES, ZONES)
    tables["position"].save(tmp_path / "table.json")
    assert (tmp_path / "table.json").stat().st_size < 50_000
    assert tables["position"].cross_entropy(symbols) < 0.9 * tables["channel"].cross_entropy(symbols)
    assert all(table.counts == tables["shared"].counts for table in tables.values())


def test_a_small_map_is_counted_position_by_position():
    symbols = torch.arange(7 * 5).reshape(1, 1, 7, 5).expand(3, 1, 7, 5)
    table = FrequencyTable.from_symbols(symbols, 1.0, "position")
    assert table.index.shape == (1, 7, 5) and table.entropy == 0


def test_all_kinds_are_counted_in_one_pass_as_one_by_one():
    torch.manual_seed(0)
    encoder = make_bottleneck((16, 7, 7), 3, 2).encoder.eval()
    features = torch.randn(20, 16, 7, 7).relu()
    tables = count_tables(encoder, features, 0.1, KINDS)
    assert tuple(tables) == KINDS
    for kind, table in tables.items():
        assert table.digest == count_tables(encoder, features, 0.1, [kind])[kind].digest
        assert table.total == 20 * 3 * 4 * 4
    with pytest.raises(SpicError, match="unknown kind of tables 'pixel'"):
        SymbolCounter("pixel")


def test_new_weights_take_the_tables_of_the_old_ones_away(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))
    point = point_with(tmp_path, steps=(0.5,))[0]
    own = {kind: FrequencyTable([{0: 1}, {1: 2}], 0.5, np.array([[[0]], [[1]]])) for kind in KINDS if kind != SHARED}
    files = write_tables(own, point.table, "mine", tmp_path)
    assert [file.name for file in files] == [f"classification_0.{kind}.json" for kind in own]
    for kind, table in own.items():
        assert load_table(point.with_tables(kind)).digest == table.digest
    point_with(tmp_path, steps=(0.5,))
    assert not any(file.exists() for file in files)
    assert len(json.loads((tmp_path / "Weights/mine/checksums.json").read_text())) == 2


def test_a_missing_table_names_the_command_that_counts_it(tmp_path):
    point = point_with(tmp_path)[1].with_tables("channel")
    with pytest.raises(SpicError, match="classification_1.channel.json: no such file; count it by: spic recount "
                       "--task classification --benchmark mine --split_point S3 --compress_factor 1 "
                       f"--tables channel --data DIR --backbone_weights FILE --points {tmp_path}/dict.yaml"):
        load_table(point)


def test_the_shipped_tables_of_all_kinds_count_the_same_symbols():
    """A table that was counted with other weights would show other shares of the symbols. The context tables of classification were
    counted on three times as many pictures; all others agree."""
    for point in load_points().values():
        if point.benchmark != "scenes":
            continue
        shared = load_table(point)
        for kind in KINDS[1:]:
            own = point.with_tables(kind)
            assert verify_file(own.table, own.benchmark, "count it", own.root).stat().st_size < 300_000
            counts, times = load_table(own).counts, 3 if (point.task, kind) == ("classification", "context") else 1
            assert sum(counts.values()) == times * shared.total
            assert sum(abs(counts.get(s, 0) - times * n) for s, n in shared.counts.items()) < 0.01 * times * shared.total, own.table
