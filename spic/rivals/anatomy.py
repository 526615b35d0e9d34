"""What the bytes of a coded picture are spent on: picture data, codec headers, or file wrapping.

For a 224×224 picture at low rates the last two are a large part of a file, and a sender and receiver who agreed on
the settings would not repeat them for every picture; so each is counted apart.
"""

from __future__ import annotations

from typing import Callable, Iterator, NamedTuple

from spic.errors import SpicError


class Parts(NamedTuple):
    """Byte counts that add up to the length of the coded picture; a label's payload is a part of a byte."""

    payload: int  # depends on the picture's content: entropy-coded data and tables made for this picture
    header: int  # the codec's own: sizes, quantisation tables, parameter sets, tile and frame markers
    container: int  # the file around it: signatures, boxes, RIFF chunks, padding notes


def _parts(data: bytes, payload: int, header: int) -> Parts:
    return Parts(payload, header, len(data) - payload - header)


# --- JPEG: marker segments (ITU-T T.81, Annex B) ---------------------------------------------------------------

HUFFMAN_TABLE, SCAN, END_OF_IMAGE = 0xC4, 0xDA, 0xD9
INSIDE_SCAN = (0, *range(0xD0, 0xD8))
APPLICATION_OR_COMMENT = (*range(0xE0, 0xF0), 0xFE)


def _scan_end(data: bytes, start: int) -> int:
    """Position of the marker that ends the entropy-coded data; stuffed zeros and restart markers belong to it."""
    position = data.find(b"\xff", start)
    while 0 <= position < len(data) - 1 and data[position + 1] in INSIDE_SCAN:
        position = data.find(b"\xff", position + 2)
    return len(data) if position < 0 else position


def jpeg_parts(data: bytes) -> Parts:
    """Huffman tables count as payload: they are optimised for the picture."""
    payload = header = 0
    position = 2
    while position + 4 <= len(data) and data[position + 1] != END_OF_IMAGE:
        marker, end = data[position + 1], position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == HUFFMAN_TABLE:
            payload += end - position
        elif marker not in APPLICATION_OR_COMMENT:
            header += end - position
        position = end
        if marker == SCAN:
            position = _scan_end(data, end)
            payload += position - end
    return _parts(data, payload, header)


# --- WebP: RIFF chunks (RFC 9649) --------------------------------------------------------------------------------

VP8_FRAME_HEADER = 10  # frame tag, start code, width and height


def webp_parts(data: bytes) -> Parts:
    for name, size in _riff_chunks(data):
        if name == b"VP8 ":
            return _parts(data, size - VP8_FRAME_HEADER, VP8_FRAME_HEADER)
    raise SpicError("a WebP file without a lossy picture (VP8 chunk)")


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk."""
    position = 12
    while position + 8 <= len(data):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        yield name, size
        position += 8 + size + size % 2


# --- maps of classes, without loss: PNG chunks (ISO/IEC 15948), WebP's lossless chunk -----------------------------

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
VP8L_HEADER = 5  # signature, width, height, version


def lossless_parts(data: bytes) -> Parts:
    """Of a PNG or a lossless WebP file."""
    if data.startswith(PNG_SIGNATURE):
        return _parts(data, sum(size for name, size in _png_chunks(data) if name == b"IDAT"), 0)
    for name, size in _riff_chunks(data):
        if name == b"VP8L":
            return _parts(data, size - VP8L_HEADER, VP8L_HEADER)
    raise SpicError("neither a PNG nor a lossless WebP file")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """(name, payload size) of each chunk: length, name, payload, check."""
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : position + 8], size
        position += 12 + size


# --- JPEG 2000: codestream (ISO/IEC 15444-1, Annex A) ------------------------------------------------------------

START_OF_TILE, START_OF_DATA = b"\xff\x90", b"\xff\x93"


def jpeg2000_parts(data: bytes) -> Parts:
    """A raw codestream has no container. Each tile part says its own length, 6 bytes after its marker."""
    position, payload = data.find(START_OF_TILE), 0
    while 0 <= position and data[position : position + 2] == START_OF_TILE:
        length = int.from_bytes(data[position + 6 : position + 10], "big") or len(data) - 2 - position
        body = data.find(START_OF_DATA, position) + 2
        if not 2 <= body - position <= length:
            raise SpicError("a JPEG 2000 codestream whose tile parts do not fit their lengths")
        payload += position + length - body
        position += length
    return Parts(payload, len(data) - payload, 0)


# --- AV1: open bitstream units (AV1 specification, 5.3) ----------------------------------------------------------

OBU_FRAME, OBU_TILE_GROUP, OBU_TILE_LIST = 6, 4, 8
PICTURE_OBUS = (OBU_FRAME, OBU_TILE_GROUP, OBU_TILE_LIST)


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _obus(data: bytes) -> Iterator[tuple[int, int]]:
    """(type, payload size) of each unit."""
    position = 0
    while position < len(data):
        kind, extended, sized = data[position] >> 3 & 15, data[position] & 4, data[position] & 2
        position += 2 if extended else 1
        size, position = _leb128(data, position) if sized else (len(data) - position, position)
        yield kind, size
        position += size


def av1_parts(data: bytes) -> Parts:
    """A low-overhead unit stream. The frame header sits bit-packed in the frame unit and counts as payload."""
    payload = sum(size for kind, size in _obus(data) if kind in PICTURE_OBUS)
    return Parts(payload, len(data) - payload, 0)


# --- AVIF: boxes (ISO/IEC 14496-12) ------------------------------------------------------------------------------


def avif_parts(data: bytes) -> Parts:
    position = 0
    while position + 8 <= len(data):
        size, name = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if name == b"mdat":
            end = position + size if size else len(data)
            units = av1_parts(data[position + 8 : end])
            return _parts(data, units.payload, units.header)
        if size < 8:
            break
        position += size
    raise SpicError("an AVIF file without a media data box (mdat)")


# --- HEVC: network abstraction layer units (ITU-T H.265, 7.3.1 and Annex B) --------------------------------------

FIRST_PARAMETER_SET = 32  # unit types below it carry slices of the picture
START_CODE = b"\x00\x00\x01"


def hevc_parts(data: bytes) -> Parts:
    """Start codes and two-byte unit headers count as header; the slice header sits bit-packed in the payload."""
    payload, position = 0, data.find(START_CODE)
    while position >= 0:
        start, position = position + 3, data.find(START_CODE, position + 3)
        # the zero before a four-byte start code belongs to that start code
        end = len(data) if position < 0 else position - (data[position - 1] == 0)
        if data[start] >> 1 & 63 < FIRST_PARAMETER_SET:
            payload += end - start - 2
    return Parts(payload, len(data) - payload, 0)


Anatomist = Callable[[bytes], Parts]
