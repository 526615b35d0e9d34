"""Published tables: read exactly, and without ever running what a pickle names."""

import pickle
import struct
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spic.errors import SpicError
from spic.published.layout import artefacts, published_points
from spic.published.unpickle import MAX_TABLE_BYTES, read_counts, read_table, to_symbols

PUBLISHED = Path(__file__).parents[1].parent / "shared" / "paper" / "published"
_DTYPE_STATE = b"(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94b"
_GLOBAL = "\x8c{}{}\x94\x8c{}{}\x94\x93\x94"


def name(module: str, function: str) -> bytes:
    return _GLOBAL.format(chr(len(module)), module, chr(len(function)), function).encode("latin-1")


def published_pickle(counts: dict[float, int], counter=("collections", "Counter")) -> bytes:
    """The bytes numpy 1 and pickle protocol 4 give for a Counter with float32 keys (memo: 6 = scalar, 12 = dtype)."""
    items = b""
    for i, (value, count) in enumerate(counts.items()):
        first = (name("numpy.core.multiarray", "scalar") + name("numpy", "dtype") +
                 b"\x8c\x02f4\x94\x89\x88\x87\x94R\x94" + _DTYPE_STATE)
        key = (b"h\x06h\x0c" if i else first) + b"C\x04" + struct.pack("<f", value) + b"\x94\x86\x94R\x94"
        items += key + b"J" + struct.pack("<i", count)
    return b"\x80\x04" + name(*counter) + b"}\x94(" + items + b"u\x85\x94R\x94."


def float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def test_the_written_bytes_are_what_pickle_itself_understands():
    pytest.importorskip("numpy.core.multiarray")
    assert pickle.loads(published_pickle({0.0: 5, 1.5: 2})) == Counter({0.0: 5, 1.5: 2})


@given(st.dictionaries(st.integers(0, 500), st.integers(1, 2**31 - 1), min_size=1, max_size=40),
       st.floats(0.01, 100, allow_nan=False))
@settings(max_examples=60, deadline=None)
def test_counts_come_back_as_symbols(counts, step):
    data = published_pickle({float32(float32(step) * symbol): count for symbol, count in counts.items()})
    table = read_table(data, step)
    assert table.counts == counts and table.step == step


def test_a_value_off_the_grid_is_refused():
    with pytest.raises(SpicError, match="2.6.* is not 2.5 times a symbol"):
        to_symbols({float32(2.6): 1}, 2.5)
    for value in (-2.5, float("nan"), float("inf"), 1e30):
        for step in (2.5, 1e-320, 1e5):
            with pytest.raises(SpicError, match=f"is not {step} times"):
                to_symbols({value: 1}, step)


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_code_runs_nothing(protocol, tmp_path):
    victim = tmp_path / "touched"
    with pytest.raises(SpicError, match="not a pickled counter"):
        read_counts(pickle.dumps(Attack(victim), protocol))
    assert not victim.exists()


@pytest.mark.parametrize("words", [("os", "system"), ("builtins", "eval"), ("numpy", "scalar"),
                                   ("collections", "deque")])
def test_any_other_name_is_refused(words):
    with pytest.raises(SpicError, match="unknown name"):
        read_counts(published_pickle({0.0: 1}, words))


@pytest.mark.parametrize("data", [b"", b".", b"N.", b"\x80\x04}.", b"u.", b"(((t.", b"R.", b"b.", pickle.dumps({1: 2}),
                                  pickle.dumps(Counter("ab")), published_pickle({1.0: 0}), bytes(MAX_TABLE_BYTES + 1)])
def test_what_is_no_published_table_is_refused(data):
    with pytest.raises(SpicError, match="published table"):
        read_counts(data)


def test_nested_tuples_cost_no_exponential_time():
    doubling = b"N" + b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(200))
    with pytest.raises(SpicError):
        read_counts(b"\x80\x04" + doubling + b"\x94\x86R.")
    with pytest.raises(SpicError):
        read_counts(b"\x80\x04}(" + doubling + b"K\x01u.")


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_give_a_table_or_an_error_of_ours(data):
    damaged = bytearray(published_pickle({0.0: 70000, 1.5: 300, 3.0: 2}))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        counts = read_counts(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    except SpicError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return
    assert all(isinstance(value, float) and count > 0 for value, count in counts.items())


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_random_bytes_give_an_error_of_ours(data):
    with pytest.raises(SpicError):
        read_counts(data)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"{PUBLISHED} is absent")
def test_all_published_tables_are_read_exactly():
    tables = [artefact for artefact in artefacts(published_points()) if artefact.kind == "table"]
    assert len(tables) == 61
    for artefact in tables:
        data = artefact.check((PUBLISHED / artefact.name).read_bytes())
        reference, table = pickle.loads(data), read_table(data, artefact.point.step)  # safe: the checksum was right
        assert {float32(float32(table.step) * s): c for s, c in table.counts.items()} == reference
        if artefact.point.name == "segmentation/coco/S2/5":
            assert table.counts == {0: 332746869, 1: 25385813, 2: 11765, 3: 65}
