"""The stream on the wire: what goes in comes out, and anything altered is a StreamError that says what."""

import binascii
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
    start = HEADER.to_bytes()[:-2].replace(bytes([3, 4, 5, 5]), bytes([3, 255, 127, 255, 127, 5]))
    start = start[:5] + bytes([start[5] + 2]) + start[6:]
    with pytest.raises(StreamError, match="not valid.*symbol shape"):
        read_stream(start + binascii.crc_hqx(start, 0).to_bytes(2, "big"))


@pytest.mark.parametrize(
    "field, value, word",
    [
        ("shape", (1 << 20, 1 << 20), "symbol shape"),
        ("shape", (4, -1, 5), "symbol shape"),
        ("shape", (4, 2.5, 5), "integers"),
        ("shape", (), "symbol shape"),
        ("table", "ab", "digest"),
        ("table", "no hex", "stream header"),
        ("image_size", (1 << 30, 1), "image size"),
        ("image_size", (-1, 1), "image size"),
        ("point", "\ud800", "stream header"),
    ],
)
def test_a_header_that_no_reader_takes_is_not_written(field, value, word):
    with pytest.raises(SpicError, match=word):
        StreamHeader(**{**vars(HEADER), field: value}).to_bytes()


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


PAYLOADS = [b"", b"abc", b"x" * 300, b"last"]


def frames_of(payloads, header=HEADER):
    """(frames, end mark) of these payloads."""
    writer = FrameWriter(header)
    return [writer.frame(payload) for payload in payloads], writer.end()


@given(st.lists(st.binary(max_size=300)))
def test_frames_one_by_one_are_the_bytes_of_the_stream(payloads):
    frames, mark = frames_of(payloads)
    assert HEADER.to_bytes() + b"".join(frames) + mark == write_stream(HEADER, payloads)
    reader = FrameReader(StreamHeader.from_bytes(HEADER.to_bytes()))
    assert [reader.payload(frame) for frame in frames] == payloads and reader.frames == len(payloads)
    reader.end(mark)
    assert reader.ended


def test_leftover_bytes_in_a_frame_are_an_error():
    frames, _ = frames_of(PAYLOADS)
    reader = FrameReader(HEADER)
    with pytest.raises(StreamError, match="frame 0 has 6 bytes too many"):
        reader.payload(frames[0] + frames[1])
    assert reader.payloads(frames) == PAYLOADS
    with pytest.raises(StreamError, match="header has 3 bytes too many"):
        StreamHeader.from_bytes(HEADER.to_bytes() + frames[0])


def test_a_bad_frame_leaves_the_reader_as_it_was():
    frames, mark = frames_of(PAYLOADS)
    reader = FrameReader(HEADER)
    assert reader.payload(frames[0]) == b""
    damaged = frames[1][:-1] + bytes([frames[1][-1] ^ 1])
    bad = [b"", frames[1][:-1], frames[1] + b"\0", damaged, frames[0], frames[2], mark, b"\xff" * 9, HEADER.to_bytes()]
    for frame in bad:
        with pytest.raises(StreamError):
            reader.payload(frame)
        assert reader.frames == 1 and not reader.ended
    assert reader.payload(frames[1]) == b"abc"


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_are_the_one_frame_that_means_them(data):
    reader = FrameReader(HEADER)
    try:
        payload = reader.payload(data)
    except StreamError:
        assert reader.frames == 0
    else:
        assert FrameWriter(HEADER).frame(payload) == data


def test_a_batch_with_one_bad_frame_is_refused_whole():
    frames, mark = frames_of(PAYLOADS)
    reader = FrameReader(HEADER)
    with pytest.raises(StreamError, match="frame 2 "):
        reader.payloads([*frames[:2], frames[2][:-1], frames[3]])
    assert reader.frames == 0
    assert reader.payloads(frames) == PAYLOADS
    reader.end(mark)


def test_nothing_follows_the_end():
    frames, mark = frames_of(PAYLOADS)
    reader = FrameReader(HEADER)
    reader.payloads(frames[:3])
    for wrong in (frames[3], mark[:-1], mark + b"\0", b"", frames_of([])[1]):
        with pytest.raises(StreamError):
            reader.end(wrong)
        assert reader.frames == 3 and not reader.ended
    with pytest.raises(StreamError, match="frame 3 came where the end"):
        reader.end(frames[3])
    reader.end(frames_of(PAYLOADS[:3])[1])
    for again in (lambda: reader.end(mark), lambda: reader.payload(frames[3]), lambda: reader.payloads(frames[:1])):
        with pytest.raises(StreamError, match="after the end"):
            again()


def test_a_writer_that_has_ended_writes_no_more():
    writer = FrameWriter(HEADER)
    writer.end()
    for more in (writer.end, lambda: writer.frame(b"x")):
        with pytest.raises(SpicError, match="begin a new one"):
            more()
    file = io.BytesIO()
    stream = StreamWriter(file, HEADER)
    stream.close()
    stream.close()
    assert len(file.getvalue()) == stream.bytes_written and read_stream(file.getvalue()) == (HEADER, [])
    with pytest.raises(SpicError, match="begin a new one"):
        stream.write(b"x")


def test_a_file_with_an_error_stays_unreadable_and_an_ended_one_stays_ended():
    reader = StreamReader(io.BytesIO(STREAM[:-4] + b"y" + STREAM[-3:]), HEADER)
    assert [reader.read(), reader.read()] == [b"", b"abc"]
    for _ in range(2):
        with pytest.raises(StreamError, match="frame 2 is damaged"):
            reader.read()
    reader = StreamReader(io.BytesIO(STREAM), HEADER)
    assert len(list(reader)) == 3 and reader.read() is None and reader.frames == 3
    reader = StreamReader(io.BytesIO(write_stream(HEADER, []) + b"more"), HEADER)
    for _ in range(2):
        with pytest.raises(StreamError, match="after the end"):
            reader.read()


def test_a_payload_longer_than_any_coder_makes_is_neither_written_nor_read():
    with pytest.raises(SpicError, match="at most 1108"):
        FrameWriter(HEADER).frame(bytes(1109))
    frame = FrameWriter(StreamHeader(**{**vars(HEADER), "shape": (4, 5, 6)})).frame(bytes(1109))
    with pytest.raises(StreamError, match="impossible length"):
        FrameReader(HEADER).payload(frame)
