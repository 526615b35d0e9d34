"""Context tables: pinned bytes, files in and out, what is refused, what fitting finds; and symbols that are worth their
bits."""

import copy
import json

import numpy as np
import pytest
from coding_cases import CONTEXT, batches, context_tables
from hypothesis import given
from hypothesis import strategies as st

from spic.coding import CODERS, FrequencyTable, counting, make_coder
from spic.coding.counting import SymbolCounter
from spic.coding.engine import coder_module
from spic.coding.fitting import EXACT, _choices, _solved
from spic.coding.rdo import choose
from spic.coding.symbols import folded
from spic.errors import SpicError

SYMBOLS = np.array([[0, 1, 0], [2, 0, 0], [0, 0, 1], [3, 0, 0], [1, 0, 5], [0, 9, 1]]).reshape(1, 3, 2, 3)


def test_contexts_of_known_symbols_by_hand():
    """Row 0 chooses [0, 1, 2, 3], row 1 (channel 1) [1, 1, 3, 3]; limits are 4, 12 and 30."""
    found = CONTEXT.selector((3, 2, 3)).contexts(SYMBOLS.reshape(1, -1)).reshape(3, 2, 3)
    assert found[0].tolist() == [[0, 0, 1], [0, 2, 0]]  # 3 + 7 · the symbol to the left
    assert found[1].tolist() == [[1, 1, 1], [1, 1, 3]]  # the last: -2 + 3 · 1 above + 4 · 3 two to the left = 13
    assert CONTEXT.selector((3, 2, 3)).plainly(17, SYMBOLS.ravel().tolist()) == found[2, 1, 2]


def test_payloads_and_digest_are_pinned():
    """The bytes are the format."""
    payloads = {name: make_coder(name, CONTEXT).encode(SYMBOLS)[0].hex() for name in CODERS}
    assert payloads == {"huffman": "a2ce50180d80821e", "rans": "048349d95f610052c004030100"}
    assert CONTEXT.digest == "1173f3d80ecf8b15d775a9d48c9958f90cca8aa923565ce99c05142d8eca15ba"


@given(context_tables())
def test_a_saved_table_comes_back_with_the_same_digest(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("tables") / "table.json"
    table.save(path)
    assert json.loads(path.read_text())["version"] == 2
    assert FrequencyTable.load(path).digest == table.digest


@given(context_tables(), st.data())
def test_the_contexts_of_known_symbols_are_the_plain_ones(table, data):
    symbols = data.draw(batches(table))
    selector, matrix = table.selector(symbols.shape[1:]), symbols.reshape(len(symbols), len(table.selector(symbols.shape[1:])))
    found = np.broadcast_to(selector.contexts(matrix), matrix.shape)
    assert found.tolist() == [[selector.plainly(i, image) for i in range(len(image))] for image in matrix.tolist()]


def changed(path: str, value) -> dict:
    """The JSON of CONTEXT with another value at a path of names."""
    data = copy.deepcopy(CONTEXT.to_json())
    *names, last = path.split(".")
    place = data
    for name in names:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return data


@pytest.mark.parametrize("path, value, word", [
    ("version", 3, "version 3, this program reads versions 1 to 2"),
    ("version", 1, "unexpected or missing entries"),
    ("context", None, "says nothing more than version 1"),
    ("index", None, "an index goes with"),
    ("context", [], "context must have cap, limits"),
    ("context.cap", 256, "cap: 256"), ("context.cap", -1, "cap: -1"), ("context.cap", None, "context must have"),
    ("context.limits", [4, 4, 30], "ascending"), ("context.limits", [0, 12, 30], "limits"),
    ("context.limits", [4, 12, 4096], "limits"), ("context.limits", [4, 12], "rows of 3 entries"),
    ("context.limits", 3, "limits must be a list of integers"), ("context.limits", [1.5, 12, 30], "limits"),
    ("context.choices.values", [0, 1, 2, 4, 1, 1, 3, 3], "choices must be integers in 0..3"),
    ("context.choices.values", [0], "does not hold"), ("context.choices.shape", [8], "rows of 4 entries"),
    ("context.bias.values", [3, -2, 1 << 25], "bias"), ("context.bias.shape", [2, 1, 1], "does not hold"),
    ("context.neighbours.weight", [1], "lists of one length"), ("context.neighbours.weight", [1] * 6 + [5000], "weights up to"),
    ("context.neighbours.row", None, "context must have"), ("context.neighbours.row", [0, 0, 9, 0, 0, -1, 0], "rows and columns away"),
    ("context.neighbours.column", [1, 0, 1, 0, -2, 8, 0], "decoded after the symbol"),
    ("context.neighbours.channel", [0, 2, 0, 1, 1, 0, 1], "decoded after the symbol"),
    ("context.neighbours.of", [0, 1, 2, 1, 1, 2, 2], "sorted"), ("context.neighbours.of", [-1, 1, 1, 1, 1, 2, 2], "neighbours"),
    ("index.values", [0, 2, 0], "index entries must be integers in 0..1"),
])
def test_a_file_that_is_no_context_table_is_named_in_one_line(tmp_path, path, value, word):
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(changed(path, value)))
    with pytest.raises(SpicError) as caught:
        FrequencyTable.load(file)
    assert "bad.json" in str(caught.value) and word in str(caught.value) and "\n" not in str(caught.value)


def test_too_many_neighbours_of_one_channel_are_refused(tmp_path):
    data = CONTEXT.to_json()
    data["context"]["neighbours"] = {"of": [1] * 65, "channel": [0] * 65, "row": [0] * 65, "column": [0] * 65, "weight": [1] * 65}
    (tmp_path / "bad.json").write_text(json.dumps(data))
    with pytest.raises(SpicError, match="at most 64 of each"):
        FrequencyTable.load(tmp_path / "bad.json")


@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 4, 4), (1, 1, 1), (5,)])
def test_a_context_table_for_another_shape_is_refused(shape):
    for name in CODERS:
        with pytest.raises(SpicError, match="cannot code shape"):
            make_coder(name, CONTEXT).encode(np.zeros((2, *shape), np.int32))
        with pytest.raises(SpicError, match="cannot code shape"):
            make_coder(name, CONTEXT).decode([b"\0"], shape)


@pytest.mark.parametrize("name", CODERS)
def test_symbols_with_a_sign_tell_by_their_magnitude(name):
    """0, -1, 1, -2, 2 are coded as 0, 1, 2, 3, 4 and count as 0, 1, 1, 2, 2."""
    table = FrequencyTable(CONTEXT.distributions, 1.0, CONTEXT.index, True, CONTEXT.contexts)
    assert FrequencyTable.from_bytes(table.to_bytes()).digest == table.digest != CONTEXT.digest
    symbols = np.random.default_rng(0).integers(-4, 5, (19, 3, 4, 5))
    coder, selector = make_coder(name, table, threads=1), table.selector((3, 4, 5))
    payloads = coder.encode(symbols)
    assert (coder.decode(payloads, (3, 4, 5)) == symbols).all()
    coded = folded(symbols).reshape(19, -1)
    assert coder_module(name).encode(table, selector, coded[0].tolist()) == payloads[0]
    sizes = abs(symbols[:, 0, :, :-1]).ravel()
    found = selector.contexts(coded.astype(np.int32)).reshape(symbols.shape)[:, 0, :, 1:].ravel()
    assert (found == np.searchsorted([4, 12, 30], 3 + 7 * sizes, side="right")).all()


# ---- what fitting finds ------------------------------------------------------------------------------------------------


def busy(images: int, seed: int, shape=(3, 8, 10)) -> np.ndarray:
    """Symbols that are large where something is, in all channels alike: the mean moves from place to place."""
    rng = np.random.default_rng(seed)
    _, height, width = shape
    y, x = np.mgrid[:height, :width]
    where = rng.uniform(0, 1, (images, 2, 1, 1)) * np.array([height, width]).reshape(1, 2, 1, 1)
    near = np.exp(-((y - where[:, 0]) ** 2 + (x - where[:, 1]) ** 2) / 4)
    return rng.poisson(4 * near[:, None] * np.array([1, 0.5, 2]).reshape(1, 3, 1, 1), (images, *shape))


@pytest.mark.parametrize("name", CODERS)
def test_contexts_save_bits_where_symbols_depend_on_each_other(name):
    train, fresh = busy(300, 0), busy(40, 1)
    bits = {kind: FrequencyTable.from_symbols(train, 1.0, kind).cross_entropy(fresh) for kind in ("position", "context")}
    assert bits["context"] < 0.8 * bits["position"]
    table = FrequencyTable.from_symbols(train, 1.0, "context")
    payloads = make_coder(name, table).encode(fresh)
    assert (make_coder(name, table).decode(payloads, fresh.shape[1:]) == fresh).all()
    if name == "rans":
        assert sum(map(len, payloads)) <= bits["context"] / 8 + len(fresh)


def test_symbols_that_depend_on_nothing_get_one_distribution():
    symbols = np.random.default_rng(0).geometric(0.4, (200, 3, 4, 4)) - 1
    table = FrequencyTable.from_symbols(symbols, 1.0, "context")
    shared = FrequencyTable.from_symbols(symbols, 1.0)
    assert len(table.distributions) <= 2 and table.cross_entropy(symbols) == pytest.approx(shared.cross_entropy(symbols), rel=0.01)


def test_signed_symbols_can_be_counted_and_chosen():
    rng = np.random.default_rng(0)
    sign = rng.choice([-1, 1], (100, 3, 8, 10))
    train, features = busy(100, 0) * sign, (busy(100, 1) * sign + rng.uniform(-0.4, 0.4, sign.shape)).astype(np.float32)
    table, nearest = FrequencyTable.from_symbols(train, 1.0, "context", signed=True), np.round(features).astype(np.int32)
    shared = FrequencyTable.from_symbols(train, 1.0, signed=True)
    assert table.counts == shared.counts and table.cross_entropy(nearest) < 0.85 * shared.cross_entropy(nearest)
    chosen = choose(features, nearest, table, 0.1)
    assert (choose(features, nearest, table, 0.0) == nearest).all() and abs(chosen - nearest).max() == 1
    assert table.cross_entropy(chosen) < table.cross_entropy(nearest) and chosen.min() < 0


@pytest.mark.parametrize("shape", [(7,), (4, 9), (6, 1, 1), (2, 1, 12), (2, 12, 1), (2, 2, 3, 4)])
def test_maps_of_any_shape_can_be_counted(shape):
    """The same symbols as any other table counts, and a code for each of them."""
    symbols = np.random.default_rng(0).geometric(0.4, (30, *shape)) - 1
    symbols[3].flat[0] = 70000
    table = FrequencyTable.from_symbols(symbols, 1.0, "context")
    assert table.counts == FrequencyTable.from_symbols(symbols, 1.0).counts
    coder = make_coder("rans", table)
    assert (coder.decode(coder.encode(symbols), shape) == symbols).all()


def test_counting_nothing_or_another_shape_is_refused():
    counter = SymbolCounter("context")
    with pytest.raises(SpicError, match="no symbols"):
        counter.counted()
    counter.add(np.zeros((2, 3, 4, 4), np.int32))
    with pytest.raises(SpicError, match="another shape"):
        counter.add(np.zeros((2, 3, 4, 5), np.int32))


# ---- symbols that are worth their bits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["shared", "position", "context"])
def test_a_strength_trades_error_for_bits(kind):
    train = busy(200, 0)
    table = FrequencyTable.from_symbols(train, 1.0, kind)
    features = busy(30, 1) + np.random.default_rng(2).uniform(-0.5, 0.5, (30, 3, 8, 10)).astype(np.float32)
    features = np.maximum(features, 0)
    nearest = np.round(features).astype(np.int32)
    before, error = table.cross_entropy(nearest), 0.0
    assert (choose(features, nearest, table, 0.0) == nearest).all()
    for strength in (0.03, 0.1, 0.3):
        symbols = choose(features, nearest, table, strength)
        assert symbols.min() >= 0 and abs(symbols - nearest).max() <= 1
        bits, more = table.cross_entropy(symbols), ((symbols - features) ** 2).sum()
        assert bits < before and more > error
        before, error = bits, more
    assert (nearest == np.round(features)).all(), "what was given is left alone"


def test_a_symbol_moves_where_the_bits_it_saves_outweigh_the_error():
    """0 costs 0.415 bits and 1 costs 2: 0.6 is nearer to 1 by 0.2 squared steps, which 1.585 bits outweigh from 0.1262 on."""
    table = FrequencyTable({0: 3, 1: 1}, 1.0)
    features, nearest = np.array([[0.6, 0.4, 1.0]], np.float32), np.array([[1, 0, 1]], np.int32)
    assert choose(features, nearest, table, 0.126).tolist() == [[1, 0, 1]]
    assert choose(features, nearest, table, 0.127).tolist() == [[0, 0, 1]]
    assert choose(np.array([[70000.5]], np.float32), np.array([[70000]], np.int32), table, 1.0).tolist() == [[70000]]


def test_the_fit_finds_what_each_neighbour_tells():
    known = np.random.default_rng(0).normal(size=(4, 500))
    known[2] = 0  # never there
    weights = np.array([0.5, -0.25, 0.0, 1.0])
    assert np.allclose(_solved(known @ known.T, known @ (weights @ known)), weights, atol=5e-3)


def test_large_symbols_choose_with_those_of_their_size():
    """Half of each channel are 0, the rest 1000 or 1001, or one smaller symbol: the first two channels share a distribution."""
    symbols = np.zeros((64, 2 + EXACT, 4, 4), np.int64)
    symbols[::2] = np.array([1000, 1001, *range(EXACT)]).reshape(-1, 1, 1)
    rows = np.arange(symbols.shape[1]).reshape(-1, 1, 1) + np.zeros((4, 4), np.int64)
    first, second, *others = _choices(symbols, np.zeros(symbols.shape, np.int64), 1, rows).ravel()
    assert first == second and first not in others


def test_zones_of_few_channels_choose_by_themselves_where_that_saves_bits():
    """Two channels: symbols of the first are large in the upper half of the map, those of the other are alike everywhere."""
    rng = np.random.default_rng(0)
    symbols = rng.poisson(0.5, (300, 2, 4, 4))
    symbols[:, 0, :2] = 8 * rng.integers(0, 2, (300, 2, 4))
    rows = np.arange(2 * 16).reshape(2, 4, 4)
    choices = _choices(symbols, np.zeros(symbols.shape, np.int64), 1, rows).reshape(2, 4, 4)
    assert len(set(choices[0, :2].ravel())) == 1 and len(set(choices[1].ravel())) == 1
    assert set(choices[0, 2:].ravel()) == set(choices[1].ravel()) != set(choices[0, :2].ravel())
    table = FrequencyTable.from_symbols(symbols, 1.0, "context")
    assert table.index.shape == (2, 4, 4) and table.cross_entropy(symbols[:50]) < \
        FrequencyTable.from_symbols(symbols, 1.0, "channel").cross_entropy(symbols[:50])


def test_of_too_many_symbols_those_of_evenly_spread_images_are_kept(monkeypatch):
    monkeypatch.setattr(counting, "MAX_COUNTED_CELLS", 8 * 12)
    symbols = np.arange(37).reshape(-1, 1, 1, 1) + np.zeros((37, 3, 2, 2), np.int64)
    counter, few = SymbolCounter("context"), SymbolCounter("context")
    for part in np.split(symbols, [5, 6, 20, 33]):
        counter.add(part)
    few.add(symbols[::8])
    assert [image[0, 0, 0] for image in symbols[::8]] == [0, 8, 16, 24, 32]
    assert counter.counted().distributions == few.counted().distributions


def test_images_too_large_to_find_contexts_in_are_one_clear_line(monkeypatch):
    monkeypatch.setattr(counting, "MAX_COUNTED_CELLS", 23)
    with pytest.raises(SpicError, match="images of 12 symbols are too large.*--tables position"):
        SymbolCounter("context").add(np.zeros((1, 3, 2, 2), np.int64))
