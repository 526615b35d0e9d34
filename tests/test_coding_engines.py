"""Every engine against the reference implementation: the same bytes for every input, the same verdict on every
payload."""

import numba
import numpy as np
import pytest
import torch
from coding_cases import SHARED_TABLES, batches, channel_tables, draw
from hypothesis import given, settings
from hypothesis import strategies as st

from spic.coding import CODERS, FrequencyTable, compiled, make_coder
from spic.coding.engine import coder_module
from spic.errors import SpicError, StreamError

ANY_TABLE = st.one_of(SHARED_TABLES, channel_tables())
MIXED = FrequencyTable({0: 5000, 1: 2000, 2: 700, 3: 100, 40: 3}, 1.0)


@pytest.mark.parametrize("name", CODERS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_round_trip_with_the_bytes_of_the_reference(name, data):
    table = data.draw(ANY_TABLE)
    symbols = data.draw(batches(table))
    coder = make_coder(name, table, threads=1)
    payloads = coder.encode(torch.from_numpy(symbols))
    decoded = coder.decode(payloads, symbols.shape[1:])
    assert decoded.dtype == np.int32 and decoded.shape == symbols.shape
    assert (decoded == symbols).all()
    encode, decode = coder_module(name).encode, coder_module(name).decode
    contexts = table.contexts(symbols.shape[1:]).tolist()
    for image, payload in list(zip(symbols, payloads))[:2]:
        assert encode(table, contexts, image.ravel().tolist()) == payload
        assert decode(table, contexts, payload) == image.ravel().tolist()


@pytest.mark.parametrize("name", CODERS)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_payload_is_refused_exactly_when_the_reference_refuses_it(name, data):
    """Whatever is accepted is what the encoder makes: no two payloads mean the same symbols."""
    table = data.draw(st.sampled_from([MIXED, FrequencyTable({0: 1}, 1.0), FrequencyTable({0: 9, 7: 1}, 1.0)]))
    n = data.draw(st.integers(0, 40))
    payload = bytearray(make_coder(name, table).encode(draw(table, 1, (n,), data.draw(st.integers(0, 99))))[0])
    if data.draw(st.booleans()):
        payload = bytearray(data.draw(st.binary(max_size=20)))
    elif payload:
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    encode, decode = coder_module(name).encode, coder_module(name).decode
    contexts = [0] * n
    try:
        expected = decode(table, contexts, bytes(payload))
    except StreamError:
        expected = None
    try:
        found = make_coder(name, table).decode([bytes(payload)], (n,))[0].tolist()
    except StreamError:
        found = None
    assert found == expected
    assert found is None or encode(table, contexts, found) == bytes(payload)


@pytest.mark.parametrize("name", CODERS)
def test_threads_and_batch_sizes_do_not_change_the_bytes(name):
    symbols = draw(MIXED, 37, (3, 40, 50))
    one = make_coder(name, MIXED, threads=1)
    four = make_coder(name, MIXED, threads=4)
    payloads = one.encode(symbols)
    assert four.encode(symbols) == payloads
    assert [one.encode(image[None])[0] for image in symbols] == payloads
    assert (four.decode(payloads, (3, 40, 50)) == symbols).all()


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_integer_type_and_memory_order_codes_alike(name, dtype):
    symbols = torch.from_numpy(draw(MIXED, 4, (6, 5, 5)))
    payloads = make_coder(name, MIXED).encode(symbols)
    strided = symbols.to(dtype).to(memory_format=torch.channels_last)
    assert make_coder(name, MIXED).encode(strided) == payloads


@pytest.mark.parametrize("name", CODERS)
def test_an_alphabet_of_all_65536_symbols(name):
    table = FrequencyTable({s: 1 + (s % 5) for s in range(65536)}, 1.0)
    symbols = draw(table, 2, (500,))
    coder = make_coder(name, table)
    assert (coder.decode(coder.encode(symbols), (500,)) == symbols).all()


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("tables", ["channel", "position"])
def test_a_table_per_channel_or_position_saves_bytes_where_they_differ(name, tables):
    symbols = np.stack([draw(MIXED, 20, (64,)), 30 + draw(MIXED, 20, (64,), 1)], axis=1)
    shared = make_coder(name, FrequencyTable.from_symbols(symbols, 1.0))
    own = make_coder(name, FrequencyTable.from_symbols(symbols, 1.0, tables))
    assert sum(map(len, own.encode(symbols))) < 0.8 * sum(map(len, shared.encode(symbols)))
    assert (own.decode(own.encode(symbols), (2, 64)) == symbols).all()


@pytest.mark.parametrize("name", CODERS)
def test_a_damaged_image_of_a_batch_is_named(name):
    payloads = make_coder(name, MIXED).encode(draw(MIXED, 6, (100,)))
    payloads[4] = b"\0"
    with pytest.raises(StreamError, match="image 4 of 6"):
        make_coder(name, MIXED).decode(payloads, (100,))


@pytest.mark.parametrize("name", CODERS)
def test_symbols_beyond_the_escape_are_refused(name):
    for value in (-1, 1 << 24):
        with pytest.raises(SpicError, match=str(value)):
            make_coder(name, MIXED).encode(torch.tensor([[0, value]]))
    with pytest.raises(SpicError, match="integers"):
        make_coder(name, MIXED).encode(torch.tensor([[0.0]]))


def test_an_unknown_coder_lists_the_known_ones():
    with pytest.raises(SpicError, match="huffman, rans"):
        make_coder("zip", MIXED)


@pytest.mark.parametrize("shape", [(), (-1, 4), (1 << 13, 1 << 12)])
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(SpicError, match="shape"):
        make_coder("rans", MIXED).decode([b""], shape)


def test_kernels_compile_without_a_writable_cache_folder(monkeypatch):
    """numba refuses to cache where no folder can be written; the kernel must run all the same."""

    def refusing_njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(compiled, "njit", refusing_njit)
    assert compiled.kernel(lambda x: x + 1)(2) == 3
