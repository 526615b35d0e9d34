"""What the benches of the cloud share: the server as a process of its own, real streams for it, and a lean client."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from spic.benchmarks import of_points
from spic.errors import SpicError
from spic.pipeline import Edge
from spic.points import DICT_FILE, OperatingPoint, load_points, select
from spic.protocol import IDEMPOTENCY_KEY, PREDICT, STREAM


def embedded(name: str, benchmark: str = "scenes", points: Path = DICT_FILE) -> OperatingPoint:
    """The point of a name such as classification/S3/1."""
    try:
        task, split, factor = name.split("/")
    except ValueError:
        raise SpicError(f"{name}: name a point as TASK/SPLIT_POINT/COMPRESS_FACTOR, such as classification/S3/1") from None
    (point,) = select(load_points(points), task, benchmark, [split], [factor])
    return point


@torch.inference_mode()
def real_streams(point: OperatingPoint, count: int, coder: str = "rans", pictures: int = 1, valdir: Path | None = None,
                 weights: Path | None = None) -> list[bytes]:
    """Streams of a few pictures of the point's benchmark each, as an edge makes them."""
    edge, dataset = Edge.load(point, coder, weights=weights), of_points([point]).open_data(valdir, count * pictures)
    streams = []
    for start in range(0, len(dataset) - pictures + 1, pictures):
        images = torch.stack([dataset[start + number][0] for number in range(pictures)])
        edge.restart()
        frames = edge(images.contiguous(memory_format=torch.channels_last)).frames
        streams.append(b"".join([edge.header, *frames, edge.close()]))
    return streams


def options_of(point: OperatingPoint, coders: Sequence[str] = ("rans",), **limits: int | Path) -> list[str]:
    """What `spic cloud` is told to serve one point. limits: its options by name, such as read_seconds."""
    told = {"task": point.task, "benchmark": point.benchmark, "split_point": point.split_point, "compress_factor": point.compress_factor, "tables": point.tables,
            **limits}
    return [*(word for name, value in told.items() for word in (f"--{name}", str(value))), "--coder", *coders]


@dataclass
class ServerProcess:
    """``spic cloud`` on a port of this machine. options: of the command; threads: of its network."""

    options: Sequence[str]
    port: int = 0
    threads: int = 1
    process: subprocess.Popen | None = None

    def start(self) -> ServerProcess:
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        self.process = subprocess.Popen([sys.executable, "-m", "spic", "cloud", "--port", str(self.port), *self.options],
                                        stdout=subprocess.PIPE, text=True, env=environment)
        said = self.process.stdout.readline()
        if "http" not in said:
            raise SpicError(f"the server does not start (exit code {self.process.wait()})")
        self.port = int(said.strip().rpartition(":")[2])
        return self

    def __enter__(self) -> ServerProcess:
        return self.start()

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        """As kill -9."""
        self.process.kill()
        self.process.wait()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def cpu_seconds(self) -> float:
        """Processor time taken so far, Linux only."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Memory in use now, Linux only."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def head(body: bytes, key: str, extra: str = "") -> bytes:
    """The head of a request that sends a stream."""
    return (f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {STREAM}\r\nContent-Length: {len(body)}\r\n"
            f"{IDEMPOTENCY_KEY}: {key}\r\n{extra}\r\n").encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """(status, body) of the next answer on a connection."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(length)


class Sender:
    """One connection that sends streams one after the other."""

    def __init__(self, port: int):
        self.port, self.reader, self.writer = port, None, None

    async def send(self, body: bytes, key: str) -> tuple[int, bytes, float]:
        """(status, answer, seconds)."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        start = time.perf_counter()
        self.writer.write(head(body, key) + body)
        status, told = await answer(self.reader)
        return status, told, time.perf_counter() - start

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None
