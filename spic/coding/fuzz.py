"""Throw damaged bytes at whatever reads them here: each must be refused with an error of ours, or give a right result.

`streams`, `payloads` and `tables` damage `count` inputs each with a random generator of the caller's; a result that is
neither an error of ours nor right is an AssertionError, any other exception passes through.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spic.coding.coder import Coder, make_coder
from spic.coding.contexts import Contexts
from spic.coding.engine import CODERS
from spic.coding.neighbours import Neighbours
from spic.coding.stream import StreamHeader, read_stream, write_stream
from spic.coding.tables import FrequencyTable
from spic.errors import SpicError

SHAPE = (4, 6, 5)
IMAGES = 17  # more than are decoded side by side
_GEOMETRIC = {s: 1 << 20 - s for s in range(20)}
_CONTEXTS = Contexts(
    255, np.array([2, 9, 40], np.int32), np.array([[0, 0, 1, 2], [0, 1, 1, 3]], np.int32), np.zeros((4, 2, 1), np.int32),
    Neighbours(*np.array([(0, 0, 0, -1, 5), (1, 0, 0, 0, 9), (1, 1, -1, 1, 4), (3, 1, 2, -2, 1), (3, 3, -2, 8, -7)], np.int32).T),
)
EXAMPLES = {
    "geometric": FrequencyTable(_GEOMETRIC, 1.0),
    "long codes": FrequencyTable({s: 3**s for s in range(25)}, 1.0),
    "one symbol": FrequencyTable({3: 7}, 1.0),
    "per channel": FrequencyTable(
        [_GEOMETRIC, {0: 1}, {5: 2, 6: 2, 300: 1}, {0: 9, 1: 1}], 1.0, np.arange(4).reshape(4, 1, 1)
    ),
    "contexts": FrequencyTable(
        [_GEOMETRIC, {0: 3, 1: 3}, {0: 1, 2: 5, 40: 5}, {3: 1}], 1.0, np.array([0, 1, 1, 0]).reshape(4, 1, 1), contexts=_CONTEXTS
    ),
}


@dataclass
class Outcome:
    """How many damaged inputs were refused, how many were taken all the same (unharmed, or a lucky checksum), and the
    seconds of the slowest."""

    rejected: int = 0
    accepted: int = 0
    slowest_s: float = 0.0

    def count(self, read: Callable[[], None]) -> None:
        """One case: `read` returns, or raises a SpicError."""
        start = time.perf_counter()
        try:
            read()
            self.accepted += 1
        except SpicError:
            self.rejected += 1
        self.slowest_s = max(self.slowest_s, time.perf_counter() - start)


Case = Callable[[random.Random], None]
"""One damaged input, read: returns where the result is right."""


def streams(name: str, count: int, rng: random.Random) -> Outcome:
    """Damaged streams of the coder `name`, read and decoded."""
    return _counted(stream_case(name, rng), count, rng)


def payloads(name: str, count: int, rng: random.Random) -> Outcome:
    """Damaged payloads of the coder `name`, decoded as if every checksum had passed."""
    return _counted(payload_case(name, rng), count, rng)


def tables(count: int, rng: random.Random, folder: Path) -> Outcome:
    """Damaged table files, written to `folder` and loaded; a table that loads must code and come back from its own file."""
    return _counted(table_case(folder), count, rng)


def stream_case(name: str, rng: random.Random) -> Case:
    """What `streams` does once; the symbols of the undamaged streams are drawn from `rng`."""
    return _coded(name, rng, _read_stream)


def payload_case(name: str, rng: random.Random) -> Case:
    """What `payloads` does once."""
    return _coded(name, rng, _read_payloads)


def table_case(folder: Path) -> Case:
    """What `tables` does once."""
    path = folder / "table.json"
    texts = [json.dumps(table.to_json()).encode() for table in EXAMPLES.values()]

    def case(rng: random.Random) -> None:
        path.write_bytes(_damage_table(rng.choice(texts), rng))
        _use(FrequencyTable.load(path), path)
    return case


def _counted(case: Case, count: int, rng: random.Random) -> Outcome:
    outcome = Outcome()
    for _ in range(count):
        outcome.count(lambda: case(rng))
    return outcome


def _coded(name: str, rng: random.Random, read: Callable) -> Case:
    cases = [(make_coder(name, table, threads=1), _symbols(rng)) for table in EXAMPLES.values()]
    messages = [(coder, coder.encode(symbols)) for coder, symbols in cases]
    return lambda rng: _require_shape(read(*rng.choice(messages), rng))


def _require_shape(decoded: np.ndarray) -> None:
    if decoded.shape[1:] != SHAPE:
        raise AssertionError(f"decoded to shape {decoded.shape}")


def _symbols(rng: random.Random) -> np.ndarray:
    """Mostly small symbols, a few that need an escape."""
    values = rng.choices([0, 1, 2, 3, 5, 40, 1 << 20], [60, 20, 9, 5, 4, 1, 1], k=IMAGES * np.prod(SHAPE))
    return np.array(values, np.int32).reshape(IMAGES, *SHAPE)


def _read_stream(coder: Coder, coded: list[bytes], rng: random.Random) -> np.ndarray:
    header = StreamHeader("fuzz/S1/0", coder.name, coder.table.digest, SHAPE, (64, 64))
    damaged = damage(write_stream(header, coded), rng)
    return coder.decode(read_stream(damaged, header)[1], SHAPE)


def _read_payloads(coder: Coder, coded: list[bytes], rng: random.Random) -> np.ndarray:
    return coder.decode([damage(payload, rng) for payload in coded], SHAPE)


def _use(table: FrequencyTable, path: Path) -> None:
    """Code two small images with both coders, and write the table and read it again."""
    shape = _shape_of(table)
    symbols = np.arange(2 * np.prod(shape)).reshape(2, *shape) % 7
    for name in CODERS:
        coder = make_coder(name, table, threads=1)
        if not (coder.decode(coder.encode(symbols), shape) == symbols).all():
            raise AssertionError(f"{name} decodes other symbols than it encoded")
    table.save(path)
    if FrequencyTable.load(path).digest != table.digest:
        raise AssertionError("the saved table is another one")


def _shape_of(table: FrequencyTable) -> tuple[int, ...]:
    """The smallest images that a table can code, or usual ones."""
    if table.index is None:
        return SHAPE
    if table.contexts is None:
        return (max(table.index.shape[0], 1), *table.index.shape[1:])
    arrays = [(1,) * (3 - array.ndim) + array.shape for array in (table.index, table.contexts.bias)]
    return tuple(max(sizes) for sizes in zip(*arrays))


def damage(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a piece overwritten or cut off, or bytes of noise in its place or behind it."""
    return rng.choice((_flip, _flip, _cut, _cut, _overwrite, _random, _grow))(bytearray(data), rng)


def _damage_table(data: bytes, rng: random.Random) -> bytes:
    """As bytes, or one number or word of the text replaced by an extreme one."""
    if rng.random() < 0.3:
        return damage(data, rng)
    words = data.replace(b",", b" , ").replace(b":", b" : ").replace(b"}", b" } ").replace(b"]", b" ] ").split()
    words[rng.randrange(len(words))] = rng.choice(_WORDS)
    return b" ".join(words)


_WORDS = [b"-1", b"0", b"1e999", b"1e-400", b"9" * 400, b"9" * 5000, b"NaN", b"true", b"null", b"[]", b"{}", b'"x"', b"0.5",
          b'"65535"', b'"65536"', b'"01"', b"1099511627776", b"1099511627777", b"[" * 3000, b"{", b"}", b",", b""]  # fmt: skip


def _flip(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 10)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _cut(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data) + 1)])


def _overwrite(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return bytes(data[:at] + rng.randbytes(rng.randrange(12)) + data[at + rng.randrange(12) :])


def _random(data: bytearray, rng: random.Random) -> bytes:
    keep = rng.choice((0, 0, 5, 20))
    return bytes(data[:keep]) + rng.randbytes(rng.randrange(200))


def _grow(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data) + rng.randbytes(rng.randrange(1, 9))
