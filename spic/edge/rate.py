"""Which operating point a picture takes: one that was asked for, the best that answers in time, the best within a bit rate.

"Best" is by what the bundle says was measured: the share of answers that are the uncompressed network's; at equal shares the
point of more bytes. Datta et al., ICPR 2022, is about links whose rate changes: the rate of compression has to follow.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from spic.edge.runtime import EdgePoint
from spic.errors import SpicError

REQUEST_BYTES = 400
"""What HTTP adds to a stream, both ways, about."""
REMEMBERED = 8
"""So many exchanges say how fast the link is: the last ones, for links that change."""
WEIGHT = 0.2
"""Of the newest picture in the running means of bytes and times."""
BURST_SECONDS = 1.0
"""A bit rate is kept over so long: what was not used before that is lost."""


class Link:
    """What the exchanges with the server say about the way there. Given by one thread, read by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exchanges: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)
        self._trip = 0.0
        self.cloud_ms = 0.0
        self.pinged = float("-inf")

    def ping(self, seconds: float, now: float) -> None:
        """A question with hardly any bytes took so long, there and back."""
        with self._lock:
            self._trip, self.pinged = seconds, now

    def add(self, sent_bytes: int, seconds: float, cloud_ms: float) -> None:
        """A stream of so many bytes was answered after so many seconds, of which the cloud spent some."""
        with self._lock:
            first = not self._exchanges
            self._exchanges.append((sent_bytes + REQUEST_BYTES, max(0.0, seconds - cloud_ms / 1e3)))
            self.cloud_ms = cloud_ms if first else self.cloud_ms + WEIGHT * (cloud_ms - self.cloud_ms)

    def milliseconds(self, sent_bytes: int) -> float:
        """Expected time there and back for so many bytes: a trip, and what the bytes themselves took lately."""
        with self._lock:
            trip = min([self._trip, *(seconds for _, seconds in self._exchanges)])
            carried = sum(size for size, _ in self._exchanges)
            waited = sum(seconds - trip for _, seconds in self._exchanges)
        return 1e3 * (trip + (waited / carried * (sent_bytes + REQUEST_BYTES) if carried else 0.0))


@dataclass
class Costs:
    """Running means of a point: bytes of a picture's payload, milliseconds of the edge."""

    payload_bytes: float
    edge_ms: float


class Choice(Protocol):
    """Which point the next picture takes; told what each one came to."""

    def choose(self, waiting_bytes: int) -> int: ...

    def used(self, number: int, payload_bytes: int, edge_ms: float) -> None: ...


class Fixed:
    """Always the same point."""

    def __init__(self, number: int = 0):
        self.number = number

    def choose(self, waiting_bytes: int) -> int:
        return self.number

    def used(self, number: int, payload_bytes: int, edge_ms: float) -> None:
        """Nothing depends on it."""


class _Learning:
    """What both choices share: the points from the best to the worst, and what each costs."""

    def __init__(self, points: Sequence[EdgePoint], warm_ms: Sequence[float]):
        if not all(point.payload_bytes for point in points):
            raise SpicError("--target_ms and --budget_kbps need points that were measured: those of a bundle (spic export)")
        self.costs = [Costs(point.payload_bytes, ms) for point, ms in zip(points, warm_ms)]
        self.best_first = sorted(range(len(points)), key=lambda i: (-points[i].quality, -points[i].payload_bytes))

    def used(self, number: int, payload_bytes: int, edge_ms: float) -> None:
        costs = self.costs[number]
        costs.payload_bytes += WEIGHT * (payload_bytes - costs.payload_bytes)
        costs.edge_ms += WEIGHT * (edge_ms - costs.edge_ms)


class WithinTime(_Learning):
    """The best point whose answer is expected within target_ms of the picture; else the one expected first."""

    def __init__(self, points: Sequence[EdgePoint], warm_ms: Sequence[float], link: Link, target_ms: float):
        super().__init__(points, warm_ms)
        self.link, self.target_ms = link, target_ms

    def expected_ms(self, number: int, waiting_bytes: int = 0) -> float:
        """From picture to answer; what waits before it in the spool has to go first."""
        costs = self.costs[number]
        return costs.edge_ms + self.link.milliseconds(round(costs.payload_bytes) + waiting_bytes) + self.link.cloud_ms

    def choose(self, waiting_bytes: int) -> int:
        expected = [self.expected_ms(number, waiting_bytes) for number in range(len(self.costs))]
        in_time = (number for number in self.best_first if expected[number] <= self.target_ms)
        return next(in_time, min(range(len(expected)), key=expected.__getitem__))


class WithinBudget(_Learning):
    """The best point whose bytes the bit rate allows now; where it allows none, waits until the smallest one fits.

    clock, sleep: of time; others in tests."""

    def __init__(self, points: Sequence[EdgePoint], warm_ms: Sequence[float], kbps: float,
                 clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep):
        super().__init__(points, warm_ms)
        self.bytes_per_s, self._clock, self._sleep = kbps * 125, clock, sleep
        self._allowed, self._then = self.bytes_per_s * BURST_SECONDS, clock()

    def choose(self, waiting_bytes: int) -> int:
        self._refill()
        affordable = (number for number in self.best_first if self._cost(number) <= self._allowed)
        number = next(affordable, min(range(len(self.costs)), key=self._cost))
        if (missing := self._cost(number) - self._allowed) > 0:
            self._sleep(missing / self.bytes_per_s)
            self._refill()
        return number

    def used(self, number: int, payload_bytes: int, edge_ms: float) -> None:
        super().used(number, payload_bytes, edge_ms)
        self._allowed -= payload_bytes + REQUEST_BYTES

    def _cost(self, number: int) -> float:
        return self.costs[number].payload_bytes + REQUEST_BYTES

    def _refill(self) -> None:
        now = self._clock()
        most = max(self.bytes_per_s * BURST_SECONDS, max(map(self._cost, range(len(self.costs)))))
        self._allowed, self._then = min(most, self._allowed + (now - self._then) * self.bytes_per_s), now
