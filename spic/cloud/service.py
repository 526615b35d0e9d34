"""One stream: read, checked against what is served, answered once, counted once. Of HTTP it knows the status codes."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Sequence
from math import prod

from spic.cloud.answers import Answers
from spic.cloud.arrivals import Arrivals
from spic.cloud.batches import Batcher, Job, QueueFull
from spic.cloud.limits import KEY_BYTES, Limits
from spic.cloud.metrics import Metrics
from spic.cloud.served import Served
from spic.coding.stream import StreamReader
from spic.errors import SpicError, StreamError


class Refused(SpicError):
    """A request that is not answered; status: of HTTP, why: one line for who sent it."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


class Service:
    """Answers streams of the points served. make_batcher: (limits, observe) -> what computes them, see Batcher."""

    def __init__(self, served: Sequence[Served], limits: Limits, make_batcher: Callable = Batcher):
        self.limits, self.metrics = limits, Metrics()
        self.served = {(one.header.point, one.header.coder): one for one in served}
        self.arrivals = Arrivals(limits.arrivals, limits.maps)
        self.answers = Answers(limits.answer_bytes)
        self.batcher = make_batcher(limits, self.metrics.batch.observe)
        self.metrics.queue.set_function(lambda: self.batcher.pictures)

    def points(self) -> list[dict]:
        """What /v1/points lists."""
        return [one.about() for one in self.served.values()]

    async def predict(self, stream: bytes, key: str | None = None, source: str = "", read_seconds: float = 0.0) -> bytes:
        """A whole stream -> the answer as JSON; Refused or StreamError. key: the sender's, the same when it sends again."""
        if key is None:
            return await self._answer(stream, source, read_seconds)
        if not (0 < len(key) <= KEY_BYTES and key.isascii() and key.isprintable()):
            raise Refused(400, f"the Idempotency-Key must be 1 to {KEY_BYTES} printable ASCII characters")
        answer, repeated = await self.answers.once(key, stream, lambda: self._answer(stream, source, read_seconds))
        self.metrics.repeated.inc(repeated)
        return answer

    async def _answer(self, stream: bytes, source: str, read_seconds: float) -> bytes:
        start = time.perf_counter()
        served, payloads = self.read(stream)
        job = self._submit(served, payloads)
        replies = await job.done
        job.seconds["read"] = read_seconds
        job.seconds["total"] = read_seconds + time.perf_counter() - start
        milliseconds = {stage: round(1000 * seconds, 3) for stage, seconds in job.seconds.items()}
        self._count(served, stream, job, source, milliseconds["total"])
        return json.dumps(
            {"point": served.header.point, "answers": replies, "milliseconds": milliseconds}, allow_nan=False
        ).encode()

    def read(self, stream: bytes) -> tuple[Served, list[bytes]]:
        """Which point a stream is for, and its payloads; every frame and the end mark checked."""
        reader = StreamReader(io.BytesIO(stream))
        served = self.find(reader.header.point, reader.header.coder)
        try:
            reader.header.require(served.header)
        except StreamError as error:
            raise Refused(422, str(error)) from None
        most = min(self.limits.pictures, self.limits.symbols // max(1, prod(served.header.shape)))
        payloads = []
        for payload in reader:
            payloads.append(payload)
            if len(payloads) > most:
                raise Refused(413, f"more than {most} pictures of this point in one stream; send several streams")
        return served, payloads

    def find(self, point: str, coder: str) -> Served:
        """What is served under these names, or Refused."""
        if (point, coder) not in self.served:
            names = {name for name, _ in self.served}
            what = f"operating point {point[:120]!r}" if point not in names else f"coder {coder[:20]!r} for {point}"
            raise Refused(422, f"{what} is not served here; GET /v1/points lists what is")
        return self.served[point, coder]

    def _submit(self, served: Served, payloads: list[bytes]) -> Job:
        try:
            return self.batcher.submit(served, payloads)
        except QueueFull:
            if len(payloads) > self.limits.queue:
                raise Refused(
                    413, f"more than {self.limits.queue} pictures in one stream; send several streams"
                ) from None
            raise Refused(503, "too many pictures wait already; send it again later") from None

    def _count(self, served: Served, stream: bytes, job: Job, source: str, milliseconds: float) -> None:
        labels = served.header.point, served.header.coder
        self.metrics.pictures.labels(*labels).inc(len(job.payloads))
        self.metrics.payload_bytes.labels(*labels).inc(sum(map(len, job.payloads)))
        self.metrics.stream_bytes.labels(*labels).inc(len(stream))
        for stage, seconds in job.seconds.items():
            self.metrics.seconds.labels(stage).observe(seconds)
        now = time.time()
        for payload, answer in zip(job.payloads, job.replies):
            self.arrivals.add(
                answer,
                time=round(now, 3),
                source=source,
                point=labels[0],
                coder=labels[1],
                bytes=len(payload),
                milliseconds=milliseconds,
            )
