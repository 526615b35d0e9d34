"""The format of a payload, written down as plainly as possible: one image at a time, one symbol at a time, no speed.

Every engine must produce and accept exactly these bytes. `contexts` gives the distribution of each symbol (see
FrequencyTable). docs/bitstream.md says the same in words.
"""

from __future__ import annotations

from collections.abc import Sequence

from spic.coding.frequency import FrequencyTable
from spic.coding.huffman import END, huffman_code
from spic.coding.rans import ESCAPE, choose_precision, slot_counts, spread
from spic.coding.symbols import MAX_SYMBOL
from spic.errors import StreamError

LOW = 1 << 24
"""The rANS state lies in [LOW, 256·LOW) once a byte has left it."""


def huffman_encode(table: FrequencyTable, contexts: Sequence[int], symbols: Sequence[int]) -> bytes:
    codes = [huffman_code(counts) for counts in table.distributions]
    bits = ""
    for context, symbol in zip(contexts, symbols):
        if symbol in codes[context]:
            bits += _binary(*codes[context][symbol])
        else:
            bits += _binary(*codes[context][END]) + _escaped(symbol)
    if len(bits) % 8:
        filling = _binary(*codes[contexts[-1]][END]) + "0000000"
        bits += filling[: -len(bits) % 8]
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def huffman_decode(table: FrequencyTable, contexts: Sequence[int], payload: bytes) -> list[int]:
    codes = [{_binary(*code): symbol for symbol, code in huffman_code(c).items()} for c in table.distributions]
    bits = "".join(f"{byte:08b}" for byte in payload)
    symbols, at = [], 0
    for context in contexts:
        symbol, at = _next_symbol(codes[context], bits, at)
        if symbol == END:
            symbol, at = _unescape(bits, at)
            if symbol in table.distributions[context]:
                raise StreamError("a symbol of the table was escaped")
        symbols.append(symbol)
    if huffman_encode(table, contexts, symbols) != payload:
        raise StreamError("bytes left over, or a wrong filling of the last byte")
    return symbols


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


def rans_encode(table: FrequencyTable, contexts: Sequence[int], symbols: Sequence[int]) -> bytes:
    """Symbols are put on a stack (the state and the bytes that overflow from it), the last one first."""
    precision = choose_precision(table.distributions, len(symbols))
    models = [_Model(counts, precision) for counts in table.distributions]
    stack = _Stack()
    for context, symbol in zip(reversed(contexts), reversed(symbols)):
        model = models[context]
        if symbol in model.shares:
            stack.push(model.slots[symbol], precision)
        else:
            length = symbol.bit_length()
            if length > 1:
                stack.push_bits(symbol - (1 << length - 1), length - 1)
            stack.push_bits(length, 5)
            stack.push(model.slots[ESCAPE], precision)
    return stack.to_bytes()


def rans_decode(table: FrequencyTable, contexts: Sequence[int], payload: bytes) -> list[int]:
    precision = choose_precision(table.distributions, len(contexts))
    models = [_Model(counts, precision) for counts in table.distributions]
    stack = _Stack(payload)
    symbols = []
    for context in contexts:
        symbol = stack.pop(models[context], precision)
        if symbol == ESCAPE:
            length = stack.pop_bits(5)
            if length > MAX_SYMBOL.bit_length():
                raise StreamError("an escape of an impossible length")
            symbol = (1 << length - 1) + stack.pop_bits(length - 1) if length > 1 else length
            if symbol in models[context].shares:
                raise StreamError("a symbol of the table was escaped")
        symbols.append(symbol)
    if stack.state or stack.rest or payload[:1] == b"\0":
        raise StreamError("bytes left over, or a wrong final state")
    return symbols


class _Model:
    """Slots of one distribution: `slots[symbol]` in ascending order, and the owner and rank of each slot."""

    def __init__(self, counts, precision: int):
        self.shares = slot_counts(counts, precision)
        symbols = list(self.shares)
        owner, rank = spread(self.shares, precision)
        self.owner = [symbols[i] for i in owner]
        self.rank = rank.tolist()
        self.slots = {symbol: [] for symbol in symbols}
        for slot, symbol in enumerate(self.owner):
            self.slots[symbol].append(slot)


class _Stack:
    """The rANS state: an integer that starts at 0, and the bytes that did not fit."""

    def __init__(self, payload: bytes = b""):
        self.state, self.rest = 0, list(payload[::-1])
        self._refill()

    def push(self, slots: list[int], precision: int) -> None:
        self._make_room(len(slots) << 32 - precision)
        quotient, rank = divmod(self.state, len(slots))
        self.state = (quotient << precision) + slots[rank]

    def push_bits(self, value: int, count: int) -> None:
        self._make_room(1 << 32 - count)
        self.state = (self.state << count) + value

    def _make_room(self, limit: int) -> None:
        while self.state >= limit:
            self.rest.append(self.state & 255)
            self.state >>= 8

    def to_bytes(self) -> bytes:
        """The state with no leading zero bytes, then the bytes that left it, the latest first."""
        return self.state.to_bytes((self.state.bit_length() + 7) // 8, "big") + bytes(self.rest[::-1])

    def pop(self, model: _Model, precision: int) -> int:
        slot = self.state & (1 << precision) - 1
        symbol = model.owner[slot]
        self.state = model.shares[symbol] * (self.state >> precision) + model.rank[slot]
        self._refill()
        return symbol

    def pop_bits(self, count: int) -> int:
        value = self.state & (1 << count) - 1
        self.state >>= count
        self._refill()
        return value

    def _refill(self) -> None:
        while self.state < LOW and self.rest:
            self.state = self.state << 8 | self.rest.pop()
