"""The service on a Ray cluster (`spic cloud --ray`): one door that speaks HTTP, and replicas on any machine that compute.

    door      at the address, on the head node: the application of app.py with all it counts and keeps, and no network
    replicas  decoders and backs, one processor (or GPU) each: served.py and batches.py, as in a cloud of one process

A replica that is lost loses no picture: the door asks another one. What Ray Serve does by itself: it starts replicas, starts
lost ones again, has more of them under load, and gives each request to one with few to do.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
import torch
from ray import serve
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayTaskError, WorkerCrashedError
from ray.serve.exceptions import RayServeException

from spic.cloud.app import make_app
from spic.cloud.batches import Batcher, Job, QueueFull
from spic.cloud.limits import Limits
from spic.cloud.served import Replies, load_served
from spic.cloud.service import Refused, Service
from spic.cluster import Replicas, note_missing
from spic.coding.stream import StreamHeader
from spic.errors import SpicError, StreamError, reason
from spic.points import OperatingPoint
from spic.tasks import TASKS

DOOR, REPLICAS = "spic", "spic-replicas"
"""Applications of Ray Serve."""
_LOST = (RayActorError, NodeDiedError, ObjectLostError, WorkerCrashedError, RayServeException)
"""What Ray raises where a machine or a process went away, or is not there yet; nothing of it is our own code's error."""
_PAUSE = 0.2
ANSWER_SECONDS = 60.0
"""So long a door asks for a replica that computes, before it says that there is none."""


# ---- where it is computed -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A point that replicas serve, as the door knows it. entry: of /v1/points. colours: see Served."""

    header: StreamHeader
    entry: dict
    colours: dict | None

    def about(self) -> dict:
        return self.entry


class Replica:
    """Answers payloads of all points, in batches."""

    def __init__(self, points: Sequence[OperatingPoint], coders: Sequence[str], device: str, weights: Path | None,
                 limits: Limits):
        served = load_served(points, coders, torch.device(device), weights)
        self._served = {(one.header.point, one.header.coder): one for one in served}
        self._sizes: list[int] = []
        self._batcher = Batcher(limits, self._sizes.append)
        self._works = False

    async def known(self) -> list[Known]:
        return [Known(one.header, one.about(), one.colours) for one in self._served.values()]

    async def answer(self, point: str, coder: str, payloads: list[bytes]) -> tuple[Replies, dict[str, float], list[int]]:
        """(what is said of each picture, seconds by stage, sizes of the batches computed since the last answer)."""
        if not self._works:  # the event loop is not there before
            self._works = True
            self._batcher.start()
        job = self._batcher.submit(self._served[point, coder], payloads)
        try:
            replies = await job.done
        except StreamError as error:
            replies = error
        sizes, self._sizes[:] = self._sizes[:], []
        return replies, job.seconds, sizes


# ---- where it is asked for ----------------------------------------------------------------------------------------


class Fleet:
    """What a door has instead of a Batcher: hands each job to a replica, and to another one where that is lost."""

    def __init__(self, handle, limits: Limits, observe: Callable[[int], None] = lambda pictures: None):
        self._handle, self.limits, self.observe = handle, limits, observe
        self.pictures = 0
        self._tasks: set[asyncio.Task] = set()

    def start(self) -> None:
        """Nothing to do: replicas work by themselves."""

    async def stop(self) -> None:
        """End once nothing is on its way any more."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def submit(self, served: Known, payloads: list[bytes]) -> Job:
        """As Batcher.submit."""
        if self.pictures + len(payloads) > self.limits.queue:
            raise QueueFull
        loop = asyncio.get_running_loop()
        job = Job(payloads, loop.create_future(), loop.time())
        self.pictures += len(payloads)
        task = loop.create_task(self._carry(served.header, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def _carry(self, header: StreamHeader, job: Job) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                replies, seconds, sizes = await self._ask(header, job)
        except TimeoutError:
            replies, seconds, sizes = Refused(503, "no machine computes just now; send it again later"), {}, []
        except Exception as error:  # of the network itself: the request fails, the door goes on
            replies, seconds, sizes = error, {}, []
        finally:
            self.pictures -= len(job.payloads)
        for size in sizes:
            self.observe(size)
        job.taken = len(job.payloads)
        job.receive(replies, seconds)

    async def _ask(self, header: StreamHeader, job: Job) -> tuple[Replies, dict[str, float], list[int]]:
        """Until a replica answers: computing the same payloads again changes nothing."""
        while True:
            try:
                return await self._handle.answer.remote(header.point, header.coder, job.payloads)
            except RayTaskError:
                raise
            except _LOST:
                await asyncio.sleep(_PAUSE)


def door(known: Sequence[Known], limits: Limits, token: str | None, hosts: Collection[str] | None) -> Callable:
    """What Ray Serve calls where the door is, to get the application."""
    def application():
        handle = serve.get_deployment_handle(REPLICAS, REPLICAS)
        return make_app(Service(known, limits, partial(Fleet, handle)), token, hosts)

    return application


# ---- the command --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Address:
    """Where the door listens; tls: files of the certificate and its key."""

    host: str
    port: int
    tls: tuple[Path, Path] | None = None


def run(points: Sequence[OperatingPoint], coders: Sequence[str], device: str, weights: Path | None, limits: Limits,
        wanted: Replicas, address: Address, token: str | None, hosts: Collection[str] | None,
        ready: Callable[[Sequence[Known]], None]) -> None:
    """On the cluster that this process belongs to, until it is told to end (SIGINT, SIGTERM)."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if serve.status().proxies:
        raise SpicError("--ray: Ray Serve runs on this cluster already, with an address of its own; end it (serve shutdown), "
                        "or use another cluster")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    note_missing(wanted.least, "GPU" if device == "cuda" else "CPU")
    try:
        known = _deploy(points, coders, device, weights, limits, wanted, address, token, hosts)
        ready(known)
        _wait()
        serve.delete(DOOR)  # first: it ends what it took while there still are replicas
    finally:
        serve.shutdown()


def _wait() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass


def _deploy(points, coders, device, weights, limits: Limits, wanted: Replicas, address: Address, token, hosts) -> list[Known]:
    certificate, key = map(str, address.tls) if address.tls else (None, None)
    http = {"host": address.host, "port": address.port, "keep_alive_timeout_s": round(limits.idle_seconds),
            "ssl_certfile": certificate, "ssl_keyfile": key}
    common = {"max_ongoing_requests": limits.queue, "graceful_shutdown_timeout_s": limits.drain_seconds,
              "logging_config": {"log_level": "ERROR", "enable_access_log": False}}
    many = {"num_replicas": wanted.least} if wanted.least == wanted.most else {"autoscaling_config": {
        "min_replicas": wanted.least, "max_replicas": wanted.most, "initial_replicas": wanted.least,
        "target_ongoing_requests": min(TASKS[point.task].batch_size for point in points)}}
    replica = serve.deployment(name=REPLICAS, ray_actor_options={"num_cpus": 1, "num_gpus": int(device == "cuda")},
                               **many, **common)(Replica)
    front = serve.deployment(name=DOOR, num_replicas=1, **common,
                             ray_actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}})
    try:
        serve.start(proxy_location="HeadOnly", http_options=http, logging_config={"log_level": "ERROR"})
        handle = serve.run(replica.bind(points, coders, device, weights, limits), name=REPLICAS, route_prefix=None)
        known = handle.known.remote().result()
        serve.run(front(serve.ingress(door(known, limits, token, hosts))()).bind(), name=DOOR, route_prefix="/")
        return known
    except (RayServeException, ray.exceptions.RayError, RuntimeError) as error:
        raise SpicError(f"--ray: the replicas do not start ({reason(error)[:300]})") from None
