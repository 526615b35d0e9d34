"""The format of a rANS payload, written down as plainly as possible: one image at a time, one symbol at a time, no speed.
Every engine must produce and accept exactly these bytes; docs/bitstream.md says the same in words.

First from counts to the integer probabilities: a distribution shares out 2**precision slots. Each symbol that is
frequent enough owns some of them, ESCAPE owns the rest (at least one) and stands for every other value. Integers only:
both ends of a stream must arrive at the same slots. Then the coder. `selector` gives the distribution of each symbol,
those before it being known (see contexts.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from spic.coding.contexts import Selector
from spic.coding.symbols import MAX_SYMBOL
from spic.coding.tables import FrequencyTable
from spic.errors import StreamError

ESCAPE = -1
PRECISIONS = range(12, 17)
RARE = 8
"""A symbol with less than 1/RARE of a slot to its count owns none and is escaped."""
MAX_SLOTS = 1 << 20
"""Upper limit of distributions × slots, for the memory of tables with several; 12 bits are always allowed."""
LOG_BITS = 20
"""Fractional bits of a logarithm."""
LOW = 1 << 24
"""The state lies in [LOW, 256·LOW) once a byte has left it."""
SYMBOL_BYTES = 6
"""The most that one symbol adds to a payload: an escape, its length and 23 raw bits."""


def slot_counts(counts: Mapping[int, int], precision: int) -> dict[int, int]:
    """symbol (and ESCAPE, last) → number of its slots; they sum to 2**precision, each at least 1."""
    slots, total = 1 << precision, sum(counts.values())
    frequent = sorted(counts, key=lambda s: (-counts[s], s))[: slots - 1]
    kept = sorted(s for s in frequent if counts[s] * slots * RARE >= total)
    weights = [counts[s] for s in kept]
    weights.append(total - sum(weights))
    shares = [max(1, (2 * w * slots + total) // (2 * total)) for w in weights]
    _settle(shares, weights, slots)
    return dict(zip([*kept, ESCAPE], shares))


def _settle(shares: list[int], weights: list[int], slots: int) -> None:
    """Take slots from whoever feels it least, or give to whoever needs it most, until they sum to `slots` (Webster)."""
    surplus = sum(shares) - slots
    if surplus > 0:
        heap = [((w << 32) // (2 * f - 1), -i) for i, (w, f) in enumerate(zip(weights, shares)) if f > 1]
    else:
        heap = [(-((w << 32) // (2 * f + 1)), i) for i, (w, f) in enumerate(zip(weights, shares))]
    heapq.heapify(heap)
    for _ in range(abs(surplus)):
        i = abs(heapq.heappop(heap)[1])
        shares[i] += -1 if surplus > 0 else 1
        if surplus < 0:
            heapq.heappush(heap, (-((weights[i] << 32) // (2 * shares[i] + 1)), i))
        elif shares[i] > 1:
            heapq.heappush(heap, ((weights[i] << 32) // (2 * shares[i] - 1), -i))


def escape_bits(value: int) -> int:
    """Raw bits of an escaped value: five for its bit length, then the bits below its leading one."""
    return 5 + max(0, value.bit_length() - 1)


def choose_precision(distributions: Sequence[Mapping[int, int]], n_symbols: int) -> int:
    """The smallest precision that costs at most 0.1 % of the entropy and 2 bits per image, or the largest allowed."""
    total = sum(sum(counts.values()) for counts in distributions)
    ideal = sum(_ideal_cost(tuple(counts.values())) for counts in distributions)
    allowed = [n for n in PRECISIONS if n == PRECISIONS[0] or len(distributions) << n <= MAX_SLOTS]
    for precision in allowed[:-1]:
        loss = sum(_cost(counts, precision) for counts in distributions) - ideal
        if 1000 * loss <= ideal and n_symbols * loss <= 2 * total << LOG_BITS:
            return precision
    return allowed[-1]


@lru_cache(maxsize=64)
def _ideal_cost(counts: tuple[int, ...]) -> int:
    total = _log2(sum(counts))
    return sum(c * (total - _log2(c)) for c in counts)


def _cost(counts: Mapping[int, int], precision: int) -> int:
    shares = slot_counts(counts, precision)
    escape = shares[ESCAPE]
    return sum(
        c * ((precision << LOG_BITS) - _log2(shares[s]))
        if s in shares
        else c * ((precision + escape_bits(s) << LOG_BITS) - _log2(escape))
        for s, c in counts.items()
    )


@lru_cache(maxsize=1 << 17)
def _log2(value: int) -> int:
    """Base-2 logarithm of a positive integer with LOG_BITS fractional bits, rounded down digit by digit."""
    result = value.bit_length() - 1
    mantissa = value << 40 >> result
    for _ in range(LOG_BITS):
        mantissa = mantissa * mantissa >> 40
        digit = mantissa >> 41
        mantissa >>= digit
        result = result << 1 | digit
    return result


def spread(owned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Who has each slot: (place of its owner in `owned`, rank of the slot among the owner's), both int64 [2**precision];
    `owned` int64: how many slots each owner has.

    The j-th slot of an owner with f slots would like to lie at (2j + 1) / 2f of the table; slots are given out in that
    order. So every owner's slots are spread evenly, and already a small state codes at nearly the right cost."""
    owner = np.repeat(np.arange(len(owned)), owned)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(owned) - owned, owned)
    place = (2 * rank + 1 << 40) // (2 * owned[owner])  # two different fractions differ by more than 2**-34
    order = np.argsort(place, kind="stable")
    return owner[order], rank[order]


def encode(table: FrequencyTable, selector: Selector, symbols: Sequence[int]) -> bytes:
    """Symbols are put on a stack (the state and the bytes that overflow from it), the last one first."""
    precision, models = _models(table, len(symbols))
    stack = _Stack()
    for i, symbol in reversed(list(enumerate(symbols))):
        model = models[selector.plainly(i, symbols)]
        if symbol in model.shares:
            stack.push(model.slots[symbol], precision)
        else:
            length = symbol.bit_length()
            if length > 1:
                stack.push_bits(symbol - (1 << length - 1), length - 1)
            stack.push_bits(length, 5)
            stack.push(model.slots[ESCAPE], precision)
    return stack.to_bytes()


def decode(table: FrequencyTable, selector: Selector, payload: bytes) -> list[int]:
    precision, models = _models(table, len(selector))
    stack = _Stack(payload)
    symbols = []
    for i in range(len(selector)):
        model = models[selector.plainly(i, symbols)]
        symbol = stack.pop(model, precision)
        if symbol == ESCAPE:
            length = stack.pop_bits(5)
            if length > MAX_SYMBOL.bit_length():
                raise StreamError("an escape of an impossible length")
            symbol = (1 << length - 1) + stack.pop_bits(length - 1) if length > 1 else length
            if symbol in model.shares:
                raise StreamError("a symbol of the table was escaped")
        symbols.append(symbol)
    if stack.state or stack.rest or payload[:1] == b"\0":
        raise StreamError("bytes left over, or a wrong final state")
    return symbols


@lru_cache(maxsize=4)
def _models(table: FrequencyTable, n_symbols: int) -> tuple[int, list[_Model]]:
    """Precision, and the model of each distribution, for images of n_symbols."""
    precision = choose_precision(table.distributions, n_symbols)
    return precision, [_Model(counts, precision) for counts in table.distributions]


class _Model:
    """Slots of one distribution: `slots[symbol]` in ascending order, and the owner and rank of each slot."""

    def __init__(self, counts, precision: int):
        self.shares = slot_counts(counts, precision)
        symbols = list(self.shares)
        owner, rank = spread(np.fromiter(self.shares.values(), np.int64))
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
