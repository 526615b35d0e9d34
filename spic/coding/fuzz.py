"""Throw damaged streams at the receiver: each must be refused with StreamError or give symbols of the right shape.

    python -m spic.coding.fuzz --count 100000
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from spic.cli import guarded, natural, positive
from spic.coding import CODERS, Coder, FrequencyTable, make_coder
from spic.coding.stream import StreamHeader, read_stream, write_stream
from spic.errors import StreamError

SHAPE = (4, 6, 5)
IMAGES = 3
_GEOMETRIC = {s: 1 << 20 - s for s in range(20)}
TABLES = {
    "geometric": FrequencyTable(_GEOMETRIC, 1.0),
    "long codes": FrequencyTable({s: 3**s for s in range(25)}, 1.0),
    "one symbol": FrequencyTable({3: 7}, 1.0),
    "per channel": FrequencyTable(
        [_GEOMETRIC, {0: 1}, {5: 2, 6: 2, 300: 1}, {0: 9, 1: 1}], 1.0, np.arange(4).reshape(4, 1, 1)
    ),
}


@dataclass
class Outcome:
    """How many damaged streams were refused, and how many decoded all the same (unharmed, or a lucky checksum)."""

    rejected: int = 0
    accepted: int = 0
    slowest_s: float = 0.0


def fuzz(name: str, count: int, rng: random.Random, framed: bool = True) -> Outcome:
    """Damage `count` messages of the coder and read them. framed=False: as if every checksum passed."""
    outcome = Outcome()
    cases = [(make_coder(name, table, threads=1), _symbols(rng)) for table in TABLES.values()]
    messages = [(coder, coder.encode(symbols)) for coder, symbols in cases]
    read = _read_stream if framed else _read_payloads
    for _ in tqdm(range(count), desc=f"{name} {'streams' if framed else 'payloads'}", unit="", disable=count < 10000):
        coder, payloads = rng.choice(messages)
        start = time.perf_counter()
        try:
            decoded = read(coder, payloads, rng)
            outcome.accepted += 1
            if tuple(decoded.shape[1:]) != SHAPE:
                raise AssertionError(f"decoded to shape {tuple(decoded.shape)}")
        except StreamError:
            outcome.rejected += 1
        outcome.slowest_s = max(outcome.slowest_s, time.perf_counter() - start)
    return outcome


def _symbols(rng: random.Random) -> np.ndarray:
    """Mostly small symbols, a few that need an escape."""
    values = rng.choices([0, 1, 2, 3, 5, 40, 1 << 20], [60, 20, 9, 5, 4, 1, 1], k=IMAGES * np.prod(SHAPE))
    return np.array(values, np.int32).reshape(IMAGES, *SHAPE)


def _read_stream(coder: Coder, payloads: list[bytes], rng: random.Random):
    header = StreamHeader("fuzz/S1/0", coder.name, coder.table.digest, SHAPE, (64, 64))
    damaged = _damage(write_stream(header, payloads), rng)
    return coder.decode(read_stream(damaged, header)[1], SHAPE)


def _read_payloads(coder: Coder, payloads: list[bytes], rng: random.Random):
    return coder.decode([_damage(p, rng) for p in payloads], SHAPE)


def _damage(data: bytes, rng: random.Random) -> bytes:
    return rng.choice((_flip, _flip, _cut, _cut, _overwrite, _random, _grow))(bytearray(data), rng)


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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=positive, default=100000, help="damaged streams in all (default: %(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="of the damage (default: %(default)s)")
    args = parser.parse_args(argv)
    return guarded(lambda: _report(args.count, args.seed))


def _report(count: int, seed: int) -> None:
    rng = random.Random(seed)
    kinds = [(name, framed) for name in CODERS for framed in (True, False)]
    for i, (name, framed) in enumerate(kinds):
        share = count * (i + 1) // len(kinds) - count * i // len(kinds)
        found = fuzz(name, share, rng, framed)
        kind = "streams" if framed else "payloads without a checksum"
        print(f"{name}: {share} damaged {kind}: {found.rejected} refused, {found.accepted} decoded to the right shape, "
              f"slowest {1000 * found.slowest_s:.1f} ms")  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
