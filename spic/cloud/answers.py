"""A repeated request, whose answer was lost on the way, gets the answer of the first: computed once, counted once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable


class Answers:
    """Answers by the sender's key and the body, those used last, up to ``most_bytes`` together.

    The body belongs to the key: who chooses the key of another sender learns nothing, and gets an answer of his own.
    """

    def __init__(self, most_bytes: int):
        self.most_bytes, self.bytes = most_bytes, 0
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._running: dict[bytes, asyncio.Task] = {}

    async def once(self, key: str, body: bytes, make: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """(answer, whether it is a repeated one). ``make`` goes on when who asked goes away; a failure is not kept."""
        name = hashlib.sha256(len(key).to_bytes(4, "big") + key.encode() + body).digest()
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name], True
        repeated = name in self._running
        if not repeated:
            task = self._running[name] = asyncio.create_task(make())
            task.add_done_callback(lambda task: self._ended(name, task))
        return await asyncio.shield(self._running[name]), repeated

    def _ended(self, name: bytes, task: asyncio.Task) -> None:
        del self._running[name]
        if task.cancelled() or task.exception():
            return
        self._kept[name] = task.result()
        self.bytes += len(task.result())
        while self.bytes > self.most_bytes:
            self.bytes -= len(self._kept.popitem(last=False)[1])
