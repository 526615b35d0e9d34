"""The format of a Huffman payload, written down as plainly as possible: one image at a time, one symbol at a time, no
speed. Every engine must produce and accept exactly these bytes; docs/bitstream.md says the same in words.

`selector` gives the distribution of each symbol, those before it being known (see contexts.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from functools import lru_cache

from spic.coding.contexts import Selector
from spic.coding.symbols import MAX_SYMBOL
from spic.coding.tables import FrequencyTable
from spic.errors import StreamError

END = -1
"""The end-of-file leaf: fills the last byte of a payload and introduces an escaped value. Sorts before every symbol."""


def huffman_code(counts: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """symbol (and END) → (length in bits, code), the code's first bit being its most significant.

    Of two nodes with equal counts the one whose first leaf is the smaller symbol is taken first; the first node taken
    becomes the 0 branch. A node's first leaf is that of its 0 branch."""
    heap = [(count, symbol, symbol) for symbol, count in counts.items()] + [(1, END, END)]
    heapq.heapify(heap)
    while len(heap) > 1:
        zero, one = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (zero[0] + one[0], zero[1], (zero[2], one[2])))
    return dict(_leaves(heap[0][2]))


def _leaves(root):
    stack = [(root, 0, 0)]
    while stack:
        node, length, code = stack.pop()
        if isinstance(node, int):
            yield node, (length, code)
        else:
            stack.append((node[0], length + 1, code << 1))
            stack.append((node[1], length + 1, code << 1 | 1))


def encode(table: FrequencyTable, selector: Selector, symbols: Sequence[int]) -> bytes:
    codes = _codes(table)
    bits, context = "", 0
    for i, symbol in enumerate(symbols):
        context = selector.plainly(i, symbols)
        if symbol in codes[context]:
            bits += _binary(*codes[context][symbol])
        else:
            bits += _binary(*codes[context][END]) + _escaped(symbol)
    if len(bits) % 8:
        filling = _binary(*codes[context][END]) + "0000000"
        bits += filling[: -len(bits) % 8]
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def decode(table: FrequencyTable, selector: Selector, payload: bytes) -> list[int]:
    codes = _symbols(table)
    bits = "".join(f"{byte:08b}" for byte in payload)
    symbols, at = [], 0
    for i in range(len(selector)):
        context = selector.plainly(i, symbols)
        symbol, at = _next_symbol(codes[context], bits, at)
        if symbol == END:
            symbol, at = _unescape(bits, at)
            if symbol in table.distributions[context]:
                raise StreamError("a symbol of the table was escaped")
        symbols.append(symbol)
    if encode(table, selector, symbols) != payload:
        raise StreamError("bytes left over, or a wrong filling of the last byte")
    return symbols


@lru_cache(maxsize=4)
def _codes(table: FrequencyTable) -> list[dict[int, tuple[int, int]]]:
    """huffman_code of each distribution."""
    return [huffman_code(counts) for counts in table.distributions]


@lru_cache(maxsize=4)
def _symbols(table: FrequencyTable) -> list[dict[str, int]]:
    """The other way: of each distribution, code as text → symbol."""
    return [{_binary(*code): symbol for symbol, code in codes.items()} for codes in _codes(table)]


def _next_symbol(codes: dict[str, int], bits: str, at: int) -> tuple[int, int]:
    for end in range(at + 1, len(bits) + 1):
        if bits[at:end] in codes:
            return codes[bits[at:end]], end
    raise StreamError("the payload ends within a code")


def _binary(length: int, code: int) -> str:
    return f"{code:0{length}b}" if length else ""


def _escaped(value: int) -> str:
    """Five bits: how many bits the value has; then those bits without the leading one."""
    length = value.bit_length()
    return f"{length:05b}" + f"{value:b}"[1:] if value else "00000"


def _unescape(bits: str, at: int) -> tuple[int, int]:
    if len(bits) < at + 5:
        raise StreamError("the payload ends within an escape")
    length = int(bits[at : at + 5], 2)
    end = at + 5 + max(0, length - 1)
    if length > MAX_SYMBOL.bit_length() or len(bits) < end:
        raise StreamError("an escape of an impossible length")
    return (int("1" + bits[at + 5 : end], 2) if length else 0), end
