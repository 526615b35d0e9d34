"""Pictures of concurrent requests, computed together: one queue per operating point, one thread that computes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from spic.cloud.limits import Limits
from spic.cloud.served import Replies, Served


class QueueFull(Exception):
    """More pictures wait already than may."""


@dataclass
class Job:
    """The pictures of one request. done: future of the replies in order. since: when it began to wait, or waits again."""

    payloads: list[bytes]
    done: asyncio.Future
    since: float
    replies: list[dict] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"queue": 0.0})
    taken: int = 0

    @property
    def left(self) -> int:
        return len(self.payloads) - self.taken

    def take(self, most: int, now: float) -> list[bytes]:
        """The next pictures, ``most`` at most."""
        part = self.payloads[self.taken:self.taken + most]
        self.taken += len(part)
        self.seconds["queue"] += now - self.since
        return part

    def receive(self, replies: Replies | Exception, seconds: dict[str, float]) -> None:
        """What became of the pictures taken last."""
        for stage, value in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + value
        if isinstance(replies, Exception):
            self.taken = len(self.payloads)
            if not self.done.done():
                self.done.set_exception(replies)
            return
        self.replies += replies
        if not self.left and not self.done.done():
            self.done.set_result(self.replies)


class Batcher:
    """Takes jobs, and has them computed in batches of at most ``Served.batch`` pictures of one point.

    While one batch is computed, the next one gathers; on an idle machine a picture waits ``batch_ms`` for others. A request
    of more pictures than a batch lets the others have their turn in between. observe: told each batch's size.
    """

    def __init__(self, limits: Limits, observe: Callable[[int], None] = lambda pictures: None):
        self.limits, self.observe = limits, observe
        self.pictures = 0
        self._lanes: dict[Served, deque[Job]] = {}
        self._news = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "spic-cloud")
        self._task: asyncio.Task | None = None

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End once nothing waits any more."""
        while self.pictures:
            await asyncio.sleep(0.01)
        if self._task:
            self._task.cancel()
        self._thread.shutdown()

    def submit(self, served: Served, payloads: list[bytes]) -> Job:
        """A job whose ``done`` can be awaited; QueueFull where too much waits."""
        if self.pictures + len(payloads) > self.limits.queue:
            raise QueueFull
        loop = asyncio.get_running_loop()
        job = Job(payloads, loop.create_future(), loop.time())
        if not payloads:
            job.done.set_result([])
            return job
        self.pictures += len(payloads)
        self._lanes.setdefault(served, deque()).append(job)
        self._news.set()
        return job

    async def in_thread(self, work: Callable, *arguments):
        """Run something else where the network runs, in its turn."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _work(self) -> None:
        while True:
            while not self._lanes:
                await self._told()
            served = min(self._lanes, key=lambda one: self._lanes[one][0].since)
            await self._gather(served)
            parts = self._take(served)
            self.observe(sum(len(payloads) for _, payloads in parts))
            try:
                results, seconds = await self.in_thread(served.compute, [payloads for _, payloads in parts])
            except Exception as error:  # of the network itself (memory, device): the requests fail, the server goes on
                results, seconds = [error] * len(parts), {}
            self._give(served, parts, results, seconds)

    async def _told(self) -> None:
        await self._news.wait()
        self._news.clear()

    async def _gather(self, served: Served) -> None:
        """Until a batch is full, or its first picture has waited long enough."""
        lane = self._lanes[served]
        try:
            async with asyncio.timeout_at(lane[0].since + self.limits.batch_ms / 1000):
                while sum(job.left for job in lane) < served.batch:
                    await self._told()
        except TimeoutError:
            pass

    def _take(self, served: Served) -> list[tuple[Job, list[bytes]]]:
        lane, room, parts = self._lanes[served], served.batch, []
        now = asyncio.get_running_loop().time()
        while lane and room:
            job = lane.popleft()
            parts.append((job, job.take(room, now)))
            room -= len(parts[-1][1])
        if not lane:
            del self._lanes[served]
        return parts

    def _give(self, served: Served, parts, results, seconds: dict[str, float]) -> None:
        for (job, payloads), result in zip(parts, results):
            before = job.left
            job.receive(result, seconds)
            self.pictures -= len(payloads) + before - job.left
            if job.left:
                job.since = asyncio.get_running_loop().time()
                self._lanes.setdefault(served, deque()).append(job)
