"""The stream on the wire: one header, then one small frame per image, then an end mark. docs/bitstream.md specifies it.

    writer = StreamWriter(file, header)         for payload in StreamReader(file, header):
    for payload in payloads:                        ...
        writer.write(payload)
    writer.close()

Both ends build the same StreamHeader from their own operating point and table; a reader refuses any other stream.
Whatever is wrong with the bytes is a StreamError that says what.
"""

from __future__ import annotations

import binascii
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import BinaryIO

from spic.coding.symbols import MAX_SYMBOLS, checked_shape
from spic.errors import SpicError, StreamError

MAGIC = b"SPIC"
VERSION = 1
MAX_HEADER_BYTES = 1024
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
        texts = [t.encode() for t in (self.point, self.coder)]
        body = b"".join(_varint(len(t)) + t for t in texts) + bytes.fromhex(self.table)
        body += _varint(len(self.shape)) + b"".join(map(_varint, (*self.shape, *self.image_size)))
        if len(body) > MAX_HEADER_BYTES:
            raise SpicError(f"stream header of {len(body)} bytes: the name of the operating point is too long")
        start = MAGIC + bytes([VERSION]) + _varint(len(body)) + body
        return start + _check(start)

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
            rank = _read_varint(body, 8, "the header")
            shape = tuple(_read_varint(body, MAX_SYMBOLS, "the header") for _ in range(rank))
            height, width = (_read_varint(body, 1 << 20, "the header") for _ in range(2))
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


class StreamWriter:
    """Writes the header at once, then a frame per payload. bytes_written counts everything, framing included."""

    def __init__(self, file: BinaryIO, header: StreamHeader):
        self.file = file
        self.frames = 0
        start = header.to_bytes()
        self._header_check = start[-2:]
        self.file.write(start)
        self.bytes_written = len(start)

    def write(self, payload: bytes) -> None:
        """Append the frame of one image."""
        self._write(_varint(len(payload) + 1), payload)
        self.frames += 1

    def close(self) -> None:
        """Append the end mark; the file itself stays open."""
        self._write(_varint(0), b"")

    def _write(self, length: bytes, payload: bytes) -> None:
        frame = length + _frame_check(self._header_check, self.frames, length, payload) + payload
        self.file.write(frame)
        self.bytes_written += len(frame)


class StreamReader:
    """Iterates over the payloads of a stream. `header`: what it says of itself, checked against `expected` if given."""

    def __init__(self, file: BinaryIO, expected: StreamHeader | None = None):
        self.file = file
        self.frames = 0
        self.header = StreamHeader.read(file)
        if expected is not None:
            self.header.require(expected)
        self._header_check = self.header.to_bytes()[-2:]
        self._limit = math.prod(self.header.shape) * SYMBOL_BYTES + 8

    def __iter__(self) -> Iterator[bytes]:
        while (payload := self.read()) is not None:
            yield payload

    def read(self) -> bytes | None:
        """The next payload, or None after the last one, once the end mark is found right and nothing follows it."""
        where = f"frame {self.frames}"
        length = _read_varint(self.file, self._limit + 1, where)
        check = _read_exactly(self.file, 2, where)
        payload = _read_exactly(self.file, max(0, length - 1), where)
        if check != _frame_check(self._header_check, self.frames, _varint(length), payload):
            raise StreamError(f"{where} is damaged or out of place (checksum)")
        if length:
            self.frames += 1
            return payload
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


def _frame_check(header_check: bytes, position: int, length: bytes, payload: bytes) -> bytes:
    """Covers the header's check and the position too, so that a frame of another stream or place is noticed."""
    return _check(header_check + position.to_bytes(8, "big") + length + payload)


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
