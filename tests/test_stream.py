"""The stream on the wire: what goes in comes out, and anything altered is a StreamError that says what."""

import io
import random

import pytest
from coding_cases import draw
from hypothesis import given
from hypothesis import strategies as st

from spic.coding import CODERS, FrequencyTable, fuzz, make_coder
from spic.coding.stream import (
    MAGIC,
    FrameReader,
    FrameWriter,
    StreamHeader,
    StreamReader,
    StreamWriter,
    read_stream,
    write_stream,
)
from spic.errors import SpicError, StreamError

TABLE = FrequencyTable({0: 90, 1: 9, 2: 1}, 1.0)
HEADER = StreamHeader("scenes/classification/S1/0", "rans", TABLE.digest, (4, 5, 5), (224, 224))
STREAM = write_stream(HEADER, [b"", b"abc", b"x" * 300])
STREAM_OF_TWO = write_stream(HEADER, [b"first", b"other"])


@given(st.lists(st.binary(max_size=400)))
def test_payloads_come_back_in_order(payloads):
    header, found = read_stream(write_stream(HEADER, payloads), HEADER)
    assert header == HEADER and found == payloads


def test_a_frame_costs_three_bytes_and_the_count_is_exact():
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER)
    before = writer.bytes_written
    writer.write(b"x" * 42)
    assert writer.bytes_written - before == 42 + 3
    writer.close()
    assert writer.bytes_written == len(file.getvalue())


def test_the_bytes_of_a_stream_are_pinned():
    header = StreamHeader("a/b/S1/0", "huffman", "00" * 32, (96, 4, 4), (224, 224))
    before, after = "53504943013908612f622f53312f3007687566666d616e", "03600404e001e001372603de69010200af79"
    assert write_stream(header, [b"\x01\x02"]).hex() == before + "00" * 32 + after


def test_a_reader_takes_bytes_as_a_slow_connection_gives_them():
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 1))

    assert list(StreamReader(Slow(STREAM), HEADER)) == [b"", b"abc", b"x" * 300]


def test_every_truncation_is_noticed():
    for length in range(len(STREAM)):
        with pytest.raises(StreamError, match="truncated|empty"):
            read_stream(STREAM[:length], HEADER)


def test_every_flipped_bit_is_noticed():
    for bit in range(8 * len(STREAM)):
        damaged = bytearray(STREAM)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StreamError):
            read_stream(bytes(damaged), HEADER)


def test_swapped_dropped_repeated_and_foreign_frames_are_noticed():
    head, end = HEADER.to_bytes(), STREAM_OF_TWO[-3:]
    size = len(b"first") + 3
    first, other = STREAM_OF_TWO[len(head) : len(head) + size], STREAM_OF_TWO[-3 - size : -3]
    assert read_stream(head + first + other + end, HEADER)[1] == [b"first", b"other"]
    for frames in (other + first, other, first + first, first, first + other + other):
        with pytest.raises(StreamError, match="checksum"):
            read_stream(head + frames + end, HEADER)
    sibling = StreamHeader(**{**vars(HEADER), "point": "scenes/classification/S1/1"})
    with pytest.raises(StreamError, match="checksum"):
        read_stream(sibling.to_bytes() + first + other + end, sibling)


@pytest.mark.parametrize(
    "stream, word",
    [
        (b"", "empty"),
        (b"GIF89a" + STREAM, "not a spic stream"),
        (MAGIC + b"\x02" + STREAM[5:], "version 2"),
        (MAGIC + b"\x01\xff\xff\xff\xff\xff", "impossible"),
        (MAGIC + b"\x01\x80\x00", "impossible"),
        (STREAM + b"\0", "after the end"),
        (HEADER.to_bytes() + b"\xff\xff\xff\xff\x0f", "impossible"),
    ],
)
def test_what_is_wrong_is_said(stream, word):
    with pytest.raises(StreamError, match=word):
        read_stream(stream, HEADER)


@pytest.mark.parametrize(
    "field, value, word",
    [
        ("point", "scenes/classification/S1/1", "operating point"),
        ("coder", "huffman", "coder"),
        ("table", "ab" * 32, "frequency table"),
        ("shape", (4, 5, 6), "symbol shape"),
        ("image_size", (224, 225), "image size"),
    ],
)
def test_a_stream_for_another_receiver_is_refused(field, value, word):
    expected = StreamHeader(**{**vars(HEADER), field: value})
    with pytest.raises(StreamError, match=f"another {word}"):
        read_stream(STREAM, expected)


def test_headers_that_ask_for_too_much_are_refused():
    with pytest.raises(SpicError, match="too long"):
        StreamHeader("x" * 2000, *list(vars(HEADER).values())[1:]).to_bytes()
    huge = StreamHeader("p", "rans", TABLE.digest, (1 << 20, 1 << 20), (1, 1)).to_bytes()
    with pytest.raises(StreamError, match="not valid"):
        read_stream(huge)


@pytest.mark.parametrize("name", CODERS)
def test_corrupted_streams_are_rejected_or_decode_to_the_right_shape(name):
    outcome = fuzz.streams(name, 700, random.Random(1))
    assert outcome.rejected + outcome.accepted == 700
    assert outcome.rejected > 600


@pytest.mark.parametrize("name", CODERS)
def test_corrupted_payloads_behind_a_good_checksum_do_no_harm(name):
    outcome = fuzz.payloads(name, 700, random.Random(2))
    assert outcome.rejected + outcome.accepted == 700


@pytest.mark.parametrize("name", CODERS)
def test_a_whole_road_through_a_stream(name):
    symbols = draw(TABLE, 7, (4, 5, 5))
    coder = make_coder(name, TABLE)
    header = StreamHeader("p", name, TABLE.digest, (4, 5, 5), (64, 64))
    _, payloads = read_stream(write_stream(header, coder.encode(symbols)), header)
    assert (coder.decode(payloads, header.shape) == symbols).all()
