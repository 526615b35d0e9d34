"""Published frequency tables: pickled `collections.Counter` of numpy float32 keys -> FrequencyTable.

Unpickling runs whatever a file names. These files need 24 opcodes and three names, so they are interpreted here
instead: a name is only a pair of words, and the three known ones stand for three functions of this module.
"""

from __future__ import annotations

import hashlib
import json
import pickletools
import struct

from spic.coding import FrequencyTable
from spic.errors import SpicError, reason

MAX_TABLE_BYTES = 1 << 16
_LARGEST_SYMBOL = 1 << 16
_MARK = object()
_NO_COUNTER = "published table: not a pickled counter of float32 values"
_FLOAT32 = ("numpy", "dtype", "f4")


def read_table(data: bytes, step: float) -> FrequencyTable:
    """The table in a pickle; every key must be ``step`` times an integer, exactly as float32 arithmetic gives it."""
    return FrequencyTable(to_symbols(read_counts(data), step), step)


def table_content(table: FrequencyTable) -> str:
    """SHA-256 of a table's step and counts, whatever the format of its file."""
    counts = [sorted(distribution.items()) for distribution in table.distributions]
    return hashlib.sha256(json.dumps([table.step, counts]).encode()).hexdigest()


def to_symbols(counts: dict[float, int], step: float) -> dict[int, int]:
    """{dequantised value: count} -> {symbol: count}."""
    symbols = {}
    for value, count in counts.items():
        symbol = round(value / step) if abs(value) < _LARGEST_SYMBOL * step else -1
        if symbol < 0 or _float32(_float32(step) * symbol) != value:
            raise SpicError(f"published table: the value {value} is not {step} times a symbol")
        if symbol in symbols:
            raise SpicError(f"published table: two values stand for the symbol {symbol}")
        symbols[symbol] = count
    return symbols


def read_counts(data: bytes) -> dict[float, int]:
    """{value: count} from the bytes of a published pickle; anything but such a Counter is a SpicError."""
    if len(data) > MAX_TABLE_BYTES:
        raise SpicError(f"published table: larger than {MAX_TABLE_BYTES} bytes")
    try:
        counts = _Machine().run(data)
    except (ValueError, IndexError, KeyError, TypeError, struct.error, OverflowError) as error:
        raise SpicError(f"{_NO_COUNTER} ({type(error).__name__}: {reason(error)})") from None
    if not isinstance(counts, dict) or not counts or not all(type(c) is int and c > 0 for c in counts.values()):
        raise SpicError(_NO_COUNTER)
    return counts


def _float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


class _Name(tuple):
    """Module and name of a function, never looked up."""


class _Machine:
    """A stack machine for the opcodes of the published tables (pickle protocol 4), without side effects."""

    def __init__(self):
        self.stack, self.memo = [], []

    def run(self, data: bytes):
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.stack[-1]
            _OPCODES[opcode.name](self, argument)
        raise ValueError("no end")

    def push(self, value) -> None:
        self.stack.append(value)

    def nothing(self, _) -> None:
        """Protocol number and frame length: pickletools has dealt with them."""

    def memoize(self, _) -> None:
        self.memo.append(self.stack[-1])

    def to_mark(self) -> list:
        """Everything above the last mark, taken off the stack together with it."""
        start = len(self.stack) - 1
        while self.stack[start] is not _MARK:  # an IndexError where there is none
            start -= 1
        items = self.stack[start + 1:]
        del self.stack[start:]
        return items

    def last(self, count: int) -> tuple:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise ValueError("stack underflow")
        del self.stack[-count:]
        return items

    def set_items(self, _) -> None:
        items = self.to_mark()
        mapping = self.stack[-1]
        keys, counts = items[::2], items[1::2]
        if mapping != {} or len(keys) != len(counts) or {type(key) for key in keys} != {float}:
            raise ValueError("items that do not map floats")
        mapping.update(zip(keys, counts))
        if len(mapping) != len(keys):
            raise ValueError("a repeated key")

    def reduce(self, _) -> None:
        name, arguments = self.last(2)
        if type(name) is not _Name:
            raise ValueError("a call of what is no name")
        self.push(_CALLS[name](*arguments))

    def named(self, _) -> None:
        """A name may only be one of the three known ones."""
        words = self.last(2)
        if not all(type(word) is str for word in words) or words not in _CALLS:
            raise ValueError("an unknown name")
        self.push(_Name(words))

    def build(self, _) -> None:
        """Only a dtype is ever given a state: version 3, little-endian, nothing else."""
        dtype, state = self.last(2)
        if dtype != _FLOAT32 or state != (3, "<", None, None, None, -1, -1, 0):
            raise ValueError("a dtype other than little-endian float32")
        self.push(dtype)


def _counter(mapping: dict) -> dict:
    return mapping


def _dtype(code: str, align: bool, copy: bool) -> tuple:
    return "numpy", "dtype", code


def _scalar(dtype: tuple, raw: bytes) -> float:
    if dtype != _FLOAT32:
        raise ValueError("a scalar that is not float32")
    return struct.unpack("<f", raw)[0]


_CALLS = {
    ("collections", "Counter"): _counter,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
}
_VALUES = ("SHORT_BINUNICODE", "SHORT_BINBYTES", "BININT", "BININT1", "BININT2", "LONG1")
_OPCODES = {
    **{name: _Machine.push for name in _VALUES},
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "MARK": lambda machine, _: machine.push(_MARK),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.to_mark())),
    **{f"TUPLE{n}": lambda machine, _, n=n: machine.push(machine.last(n)) for n in (1, 2, 3)},
    "STACK_GLOBAL": _Machine.named,
    "BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "MEMOIZE": _Machine.memoize, "SETITEMS": _Machine.set_items, "REDUCE": _Machine.reduce, "BUILD": _Machine.build,
    "PROTO": _Machine.nothing, "FRAME": _Machine.nothing,
}
