"""Every engine against the reference implementation: the same bytes for every input, the same verdict on every
payload."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch
from coding_cases import CONTEXT, SHARED_TABLES, batches, channel_tables, context_tables, draw
from hypothesis import given, settings
from hypothesis import strategies as st

from spic.coding import CODERS, FrequencyTable, compiled, make_coder
from spic.coding.cpu import default_threads
from spic.coding.engine import coder_module
from spic.errors import SpicError, StreamError

ANY_TABLE = st.one_of(SHARED_TABLES, channel_tables(), context_tables())
MIXED = FrequencyTable({0: 5000, 1: 2000, 2: 700, 3: 100, 40: 3}, 1.0)


@pytest.mark.parametrize("name", CODERS)
@settings(deadline=None, max_examples=60)
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
    selector = table.selector(symbols.shape[1:])
    for image, payload in list(zip(symbols, payloads))[:2]:
        assert encode(table, selector, image.ravel().tolist()) == payload
        assert decode(table, selector, payload) == image.ravel().tolist()


@pytest.mark.parametrize("name", CODERS)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_payload_is_refused_exactly_when_the_reference_refuses_it(name, data):
    """Whatever is accepted is what the encoder makes: no two payloads mean the same symbols. Alone, and with images beside it."""
    table = data.draw(st.sampled_from([MIXED, FrequencyTable({0: 1}, 1.0), FrequencyTable({0: 9, 7: 1}, 1.0), CONTEXT]))
    n = data.draw(st.integers(0, 40))
    shape = (n,) if table.index is None else (3, n // 10, 3)
    payload = bytearray(make_coder(name, table).encode(draw(table, 1, shape, data.draw(st.integers(0, 99))))[0])
    if data.draw(st.booleans()):
        payload = bytearray(data.draw(st.binary(max_size=20)))
    elif payload:
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    encode, decode = coder_module(name).encode, coder_module(name).decode
    selector = table.selector(shape)
    try:
        expected = decode(table, selector, bytes(payload))
    except StreamError:
        expected = None
    for images in (1, 17):
        try:
            found = make_coder(name, table).decode([bytes(payload)] * images, shape)[images // 2].ravel().tolist()
        except StreamError:
            found = None
        assert found == expected
    assert found is None or encode(table, selector, found) == bytes(payload)


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 9), (3, 20, 1), (3, 7, 6)])
def test_contexts_reach_beyond_small_maps(name, shape):
    """Neighbours that are not there count as nothing; images side by side and one by one are coded alike."""
    symbols = np.random.default_rng(0).geometric(0.6, (19, *shape)) - 1
    symbols[::5, 1] = 1 << 20
    coder = make_coder(name, CONTEXT, threads=1)
    payloads = coder.encode(symbols)
    assert (coder.decode(payloads, shape) == symbols).all()
    assert [coder.encode(image[None])[0] for image in symbols] == payloads
    selector = CONTEXT.selector(shape)
    assert coder_module(name).encode(CONTEXT, selector, symbols[0].ravel().tolist()) == payloads[0]


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


@pytest.mark.parametrize("name", CODERS)
def test_any_memory_that_numpy_can_view_codes_alike(name):
    symbols = draw(MIXED, 4, (6, 5, 5))
    coder = make_coder(name, MIXED)
    payloads = coder.encode(symbols)
    unaligned = np.frombuffer(b"x" + symbols.tobytes(), np.int32, offset=1).reshape(symbols.shape)
    assert not unaligned.flags.aligned and not unaligned.flags.writeable
    for view in (symbols.astype(">i4"), symbols.astype(">i8"), symbols.astype(">u2"), symbols[::-1][::-1], unaligned,
                 symbols[::-1].copy()[::-1], np.asfortranarray(symbols), symbols.astype(np.uint64), symbols.tolist()):
        assert coder.encode(view) == payloads
    assert coder.encode(symbols[::-1]) == payloads[::-1]


@pytest.mark.parametrize("name", CODERS)
def test_images_without_symbols_have_empty_payloads(name):
    coder = make_coder(name, MIXED)
    assert coder.decode([b"", b""], (0, 1 << 24)).shape == (2, 0, 1 << 24)
    assert coder.decode([], (3, 4)).shape == (0, 3, 4)
    assert coder.encode(np.zeros((2, 0, 5), np.int32)) == [b"", b""]
    with pytest.raises(StreamError, match="image 1 of 2"):
        coder.decode([b"", b"x"], (0,))


@pytest.mark.parametrize("payloads", [b"ab", ["ab"], [None], [3]])
def test_payloads_that_are_no_bytes_are_refused(payloads):
    with pytest.raises(SpicError, match="list of bytes"):
        make_coder("rans", MIXED).decode(payloads, (4,))


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("distributions, symbols", [(4, 65536), (64, 4096)])
def test_wide_tables_are_built(name, distributions, symbols):
    rng = np.random.default_rng(0)
    counts = [dict(enumerate(row)) for row in rng.integers(1, 1000, (distributions, symbols)).tolist()]
    table = FrequencyTable(counts, 1.0, np.arange(distributions))
    coder = make_coder(name, table, threads=1)
    payloads = coder.encode(np.full((1, distributions), symbols - 1, np.int32))
    assert (coder.decode(payloads, (distributions,)) == symbols - 1).all()


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # any import of it fails
import spic.coding.stream
loaded = [name for name in sys.modules if name.startswith("spic.")]
assert all(name.startswith(("spic.coding", "spic.errors", "spic.files")) for name in loaded), loaded
assert "numba" not in sys.modules
import numpy as np
from spic.coding import CODERS, FrequencyTable, make_coder
from spic.errors import SpicError
table = FrequencyTable({0: 9, 1: 3}, 1.0)
for name in CODERS:
    coder = make_coder(name, table)
    symbols = np.array([[0, 1, 5], [0, 0, 0]])
    assert (coder.decode(coder.encode(symbols), (3,)) == symbols).all()
try:
    make_coder("rans", table, engine="gpu")
except SpicError as error:
    print(error)
"""


def test_coding_needs_neither_torch_nor_the_rest_of_the_package():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert done.stdout == "--coder_device gpu: it needs torch, which is not installed here; use --coder_device cpu\n", done.stderr


def test_the_threads_of_the_cpu_engine_without_torch(monkeypatch):
    assert default_threads() == torch.get_num_threads()
    monkeypatch.delitem(sys.modules, "torch")
    for asked, threads in (("3", 3), ("5,2", 5), ("", None), ("many", None), ("0", None)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert default_threads() == threads or threads is None and default_threads() == len(os.sched_getaffinity(0))


def test_an_unknown_coder_lists_the_known_ones():
    with pytest.raises(SpicError, match="huffman, rans"):
        make_coder("zip", MIXED)


@pytest.mark.parametrize("shape", [(), (-1, 4), (1 << 13, 1 << 12), (0, 7 << 24), (1,) * 9, (2.5,), ("4",), 4, None])
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
