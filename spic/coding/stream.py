"""The stream on the wire: one header, then one small frame per image, then an end mark. docs/bitstream.md specifies it.

Frame by frame, over any connection:

    writer = FrameWriter(header)                    reader = FrameReader(StreamHeader.from_bytes(data))
    send(writer.header)                             reader.header.require(expected)
    send(writer.frame(payload))                     payload = reader.payload(frame)
    send(writer.end())                              reader.end(mark)

Or as a file:

    writer = StreamWriter(file, header)             for payload in StreamReader(file, header):
    writer.write(payload)                               ...
    writer.close()

Both ends build the same StreamHeader from their own operating point and table; a reader refuses any other stream.
Whatever is wrong with the bytes is a StreamError that says what.
"""

from __future__ import annotations

import binascii
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import BinaryIO

from spic.coding.symbols import MAX_AXES, MAX_SYMBOLS, checked_shape
from spic.errors import SpicError, StreamError

MAGIC = b"SPIC"
VERSION = 1
MAX_HEADER_BYTES = 1024
MAX_SIDE = 1 << 20
"""Most pixels along a side of the network's input."""
SYMBOL_BYTES = 11
"""No coder spends more on one symbol: Huffman's END (57 bits) and 28 raw bits."""


@dataclass(frozen=True)
class StreamHeader:
    """What both ends must agree on.

    point: the operating point, e.g. "scenes/classification/S1/0".  coder: "huffman" or "rans".  table:
        FrequencyTable.digest.
    shape: symbols of one image, (C, h, w).  image_size: pixels of the network's input, (height, width)."""

    point: str
    coder: str
    table: str
    shape: tuple[int, ...]
    image_size: tuple[int, int]

    def to_bytes(self) -> bytes:
        """The header on the wire; a SpicError if no reader would take it."""
        try:
            texts = [text.encode() for text in (self.point, self.coder)]
            table, shape = bytes.fromhex(self.table), checked_shape(self.shape)
        except ValueError as error:
            raise SpicError(f"stream header: {error}") from None
        if len(table) != 32 or len(self.image_size) != 2 or not all(0 <= side <= MAX_SIDE for side in self.image_size):
            raise SpicError(f"stream header: no digest {self.table!r}, or no image size {self.image_size}")
        body = b"".join(_varint(len(t)) + t for t in texts) + table
        body += _varint(len(shape)) + b"".join(map(_varint, (*shape, *self.image_size)))
        if len(body) > MAX_HEADER_BYTES:
            raise SpicError(f"stream header of {len(body)} bytes: the name of the operating point is too long")
        start = MAGIC + bytes([VERSION]) + _varint(len(body)) + body
        return start + _check(start)

    @classmethod
    def from_bytes(cls, data: bytes) -> StreamHeader:
        """The header that these bytes are, no more and no less."""
        file = io.BytesIO(data)
        header = cls.read(file)
        if extra := len(file.read()):
            raise StreamError(f"the stream header has {extra} bytes too many")
        return header

    @classmethod
    def read(cls, file: BinaryIO) -> StreamHeader:
        """The header at the beginning of a stream, its magic, version, length and checksum verified."""
        magic = file.read(len(MAGIC))
        if not magic:
            raise StreamError("the stream is empty")
        if magic != MAGIC[: len(magic)]:
            raise StreamError("not a spic stream: it does not begin with SPIC")
        start = magic + _read_exactly(file, len(MAGIC) + 1 - len(magic), "the header")
        if start[-1] != VERSION:
            raise StreamError(f"stream of format version {start[-1]}, this program reads version {VERSION}")
        length = _read_varint(file, MAX_HEADER_BYTES, "the header")
        start += _varint(length)
        body = _read_exactly(file, length, "the header")
        if _read_exactly(file, 2, "the header") != _check(start + body):
            raise StreamError("the stream header is damaged (checksum)")
        return cls._parse(io.BytesIO(body))

    @classmethod
    def _parse(cls, body: BinaryIO) -> StreamHeader:
        try:
            point, coder = (_read_text(body) for _ in range(2))
            table = _read_exactly(body, 32, "the header").hex()
            rank = _read_varint(body, MAX_AXES, "the header")
            shape = tuple(_read_varint(body, MAX_SYMBOLS, "the header") for _ in range(rank))
            height, width = (_read_varint(body, MAX_SIDE, "the header") for _ in range(2))
            checked_shape(shape)
        except (SpicError, UnicodeDecodeError) as error:
            raise StreamError(f"the stream header is not valid ({error})") from None
        if body.read(1):
            raise StreamError("the stream header is longer than its fields")
        return cls(point, coder, table, shape, (height, width))

    def require(self, expected: StreamHeader) -> None:
        """Raise StreamError naming the first field in which this header differs from what the receiver expects."""
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(expected, field.name)
            if mine != theirs:
                what = _FIELD_NAMES[field.name]
                raise StreamError(f"stream with another {what}: {mine!r}, this receiver expects {theirs!r}")


_FIELD_NAMES = {
    "point": "operating point",
    "coder": "coder",
    "table": "frequency table",
    "shape": "symbol shape",
    "image_size": "image size",
}


class FrameWriter:
    """Payloads → frames. header: the bytes to send first.  frames: how many were made so far."""

    def __init__(self, header: StreamHeader):
        self.header = header.to_bytes()
        self.frames = 0
        self.ended = False
        self._limit = _most_bytes(header)

    def frame(self, payload: bytes) -> bytes:
        """The frame of the next image; after the end, or with a payload that no reader takes, a SpicError."""
        if len(payload) > self._limit:
            raise SpicError(f"payload of {len(payload)} bytes: at most {self._limit} for symbols of the header's shape")
        frame = self._framed(len(payload) + 1, payload)
        self.frames += 1
        return frame

    def end(self) -> bytes:
        """The end mark; nothing follows it."""
        mark = self._framed(0, b"")
        self.ended = True
        return mark

    def _framed(self, length: int, payload: bytes) -> bytes:
        if self.ended:
            raise SpicError("this stream has ended; begin a new one, with a header")
        return _varint(length) + _frame_check(self.header[-2:], self.frames, length, payload) + payload


class FrameReader:
    """Frames → payloads, each call given the bytes of exactly one frame.

    header: what the stream says of itself.  frames: how many were read so far, the place of the next one. Whatever is
    wrong with a frame (short, long, damaged, misplaced) is a StreamError that leaves the reader as it was: the right
    frame may still follow."""

    def __init__(self, header: StreamHeader):
        self.header = header
        self.frames = 0
        self.ended = False
        self._header_check = header.to_bytes()[-2:]
        self._limit = _most_bytes(header)

    def payload(self, frame: bytes) -> bytes:
        """The payload of the next image's frame."""
        payload = self._only(frame)
        if payload is None:
            raise StreamError(f"the stream ended where frame {self.frames} was expected")
        self.frames += 1
        return payload

    def payloads(self, frames: Sequence[bytes]) -> list[bytes]:
        """The payloads of the next images: of all these frames, or a StreamError and none."""
        before = self.frames
        try:
            return [self.payload(frame) for frame in frames]
        except StreamError:
            self.frames = before
            raise

    def end(self, mark: bytes) -> None:
        """End the stream; anything but the end mark, whole and in its place, is a StreamError."""
        if self._only(mark) is not None:
            raise StreamError(f"frame {self.frames} came where the end of the stream was expected")
        self.ended = True

    def _only(self, data: bytes) -> bytes | None:
        file = io.BytesIO(data)
        payload = self.look(file)
        if extra := len(file.read()):
            raise StreamError(f"frame {self.frames} has {extra} bytes too many")
        return payload

    def look(self, file: BinaryIO) -> bytes | None:
        """The payload of the frame that the file gives next, or None for the end mark; the reader stays as it is."""
        if self.ended:
            raise StreamError(f"bytes after the end of the stream ({self.frames} frames)")
        where = f"frame {self.frames}"
        length = _read_varint(file, self._limit + 1, where)
        check = _read_exactly(file, 2, where)
        payload = _read_exactly(file, max(0, length - 1), where)
        if check != _frame_check(self._header_check, self.frames, length, payload):
            raise StreamError(f"{where} is damaged or out of place (checksum)")
        return payload if length else None


class StreamWriter:
    """A stream into a file: writes the header at once, then a frame per payload.

    bytes_written counts everything, framing included.  frames: how many payloads."""

    def __init__(self, file: BinaryIO, header: StreamHeader):
        self.file = file
        self.bytes_written = 0
        self._frames = FrameWriter(header)
        self._put(self._frames.header)

    @property
    def frames(self) -> int:
        return self._frames.frames

    def write(self, payload: bytes) -> None:
        """Append the frame of one image; after close a SpicError."""
        self._put(self._frames.frame(payload))

    def close(self) -> None:
        """Append the end mark, once; the file itself stays open."""
        if not self._frames.ended:
            self._put(self._frames.end())

    def _put(self, data: bytes) -> None:
        self.file.write(data)
        self.bytes_written += len(data)


class StreamReader:
    """Iterates over the payloads of a stream in a file.

    header: what it says of itself, checked against `expected` if given.  frames: how many were read so far.

    A file cannot be read twice, so an error is final: every later read raises it again."""

    def __init__(self, file: BinaryIO, expected: StreamHeader | None = None):
        self.file = file
        self.header = StreamHeader.read(file)
        if expected is not None:
            self.header.require(expected)
        self._frames = FrameReader(self.header)
        self._error: str | None = None

    @property
    def frames(self) -> int:
        return self._frames.frames

    def __iter__(self) -> Iterator[bytes]:
        while (payload := self.read()) is not None:
            yield payload

    def read(self) -> bytes | None:
        """The next payload, or None after the last one, once the end mark is found right and nothing follows it."""
        if self._error:
            raise StreamError(self._error)
        try:
            return None if self._frames.ended else self._next()
        except StreamError as error:
            self._error = str(error)
            raise

    def _next(self) -> bytes | None:
        payload = self._frames.look(self.file)
        if payload is not None:
            self._frames.frames += 1
            return payload
        self._frames.ended = True
        if self.file.read(1):
            raise StreamError(f"bytes after the end of the stream ({self.frames} frames)")
        return None


def write_stream(header: StreamHeader, payloads: Iterable[bytes]) -> bytes:
    """A whole stream as bytes."""
    file = io.BytesIO()
    writer = StreamWriter(file, header)
    for payload in payloads:
        writer.write(payload)
    writer.close()
    return file.getvalue()


def read_stream(stream: bytes, expected: StreamHeader | None = None) -> tuple[StreamHeader, list[bytes]]:
    """Header and payloads of a whole stream."""
    reader = StreamReader(io.BytesIO(stream), expected)
    return reader.header, list(reader)


def _check(data: bytes) -> bytes:
    """CRC-16 (polynomial 0x1021, begun with 0), two bytes, the high one first."""
    return binascii.crc_hqx(data, 0).to_bytes(2, "big")


def _frame_check(header_check: bytes, position: int, length: int, payload: bytes) -> bytes:
    """Covers the header's check and the position too, so that a frame of another stream or place is noticed."""
    return _check(header_check + position.to_bytes(8, "big") + _varint(length) + payload)


def _most_bytes(header: StreamHeader) -> int:
    """The longest payload that an image of the header's shape can need."""
    return math.prod(header.shape) * SYMBOL_BYTES + 8


def _varint(value: int) -> bytes:
    """Seven bits per byte, the lowest first; the top bit says that more follow."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read_varint(file: BinaryIO, limit: int, where: str) -> int:
    value = 0
    for shift in range(0, 35, 7):
        byte = _read_exactly(file, 1, where)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            break
    if byte > 127 or value > limit or (shift and not byte):
        raise StreamError(f"{where} has an impossible length or number (over {limit})")
    return value


def _read_exactly(file: BinaryIO, count: int, where: str) -> bytes:
    """`count` bytes, however the file hands them out."""
    parts, missing = [], count
    while missing:
        part = file.read(missing)
        if not part:
            raise StreamError(f"the stream is truncated: {where} lacks {missing} of {count} bytes")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _read_text(file: BinaryIO) -> str:
    return _read_exactly(file, _read_varint(file, MAX_HEADER_BYTES, "the header"), "the header").decode()
