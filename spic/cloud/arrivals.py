"""What arrived lately, for the page: a bounded number of pictures, and the whole answers of the last of them."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Arrival:
    """One picture. number: counts from 1. time: seconds since 1970. bytes: of its payload. said: the answer in words."""

    number: int
    time: float
    source: str
    point: str
    coder: str
    bytes: int
    milliseconds: float
    said: str


class Arrivals:
    """The last ``most`` pictures, and the answers of the last ``maps``."""

    def __init__(self, most: int, maps: int):
        self.last = 0
        self._seen: deque[Arrival] = deque(maxlen=most)
        self._answers: deque[tuple[int, dict]] = deque(maxlen=maps)

    def add(self, answer: dict, **about) -> None:
        """One more; about: the fields of Arrival but its number."""
        self.last += 1
        self._seen.append(Arrival(self.last, said=in_words(answer), **about))
        self._answers.append((self.last, answer))

    def after(self, number: int, most: int) -> list[list]:
        """Those after a number, the newest ``most`` of them, as rows of Arrival's fields."""
        first = self._seen[0].number if self._seen else 1
        start = max(0, number + 1 - first, len(self._seen) - most)
        return [list(asdict(self._seen[place]).values()) for place in range(start, len(self._seen))]

    def answer(self, number: int) -> dict | None:
        """The whole answer, or None where it is kept no longer."""
        return dict(self._answers).get(number)


def in_words(answer: dict) -> str:
    """The most certain class and how certain it is, or the classes that occur."""
    top = answer.get("top")
    return f"{top[0]['name']} {100 * top[0]['score']:.0f} %" if top else ", ".join(answer.get("classes", ()))
