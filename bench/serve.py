"""Load on `spic cloud`: many edges at once, against the plain forward of the back half in the same run.

    python bench/serve.py --seconds 30
    python bench/serve.py --point segmentation/S3/1 --edges 64 --seconds 600
    python bench/serve.py --benchmark imagenette --valdir imagenette2-160
    python bench/serve.py --benchmark imagenet --valdir imagenette2-160 --points ROOT/dict.yaml --backbone_weights \
      ROOT/backbones/imagenet.safetensors                            the published size, ROOT by bench/standins.py

Every edge sends a stream, waits for its answer, and sends the next; each has a key of its own, so that nothing is
answered from memory. The plain forward is that of what the cloud half computes (decoder and back), and of the back
alone, each at its best batch, measured before and after the load in a process with as many threads as the server has.
"by CPU" compares processor time per picture, which other work on the machine changes less. Ends with code 1 if an
answer is lost, wrong or none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from cloud_side import Sender, ServerProcess, embedded, options_of, real_streams

from spic.commands import Parser, guarded, positive
from spic.pipeline import Cloud
from spic.points import DICT_FILE, OperatingPoint
from spic.tasks import TASKS

BATCHES = (1, 2, 4, 8, 16, 32, 64)


@dataclass
class Load:
    """What the edges saw. classes: of each stream's answers, to see that all answers agree."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    wrong: int = 0
    answers: dict[int, bytes] = field(default_factory=dict)

    def count(self, stream: int, status: int, told: bytes, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status != 200:
            return
        self.seconds.append(seconds)
        said = said_of(told)
        self.wrong += self.answers.setdefault(stream, said) != said


def said_of(told: bytes) -> list:
    """What must be the same each time: the class, or the classes that occur (a map's edges may turn with the batch)."""
    return [
        answer["top"][0]["class"] if "top" in answer else answer["classes"][:1] for answer in json.loads(told)["answers"]
    ]


@torch.inference_mode()
def forward_rates(point: OperatingPoint, weights: Path | None, threads: int, seconds: float) -> dict[str, tuple[float, float]]:
    """What -> (pictures per second, pictures per second of processor time), each at its best batch.

    "half": decoder and back, what the cloud half computes from symbols. "back": the network's part alone.
    """
    torch.set_num_threads(threads)
    cloud = Cloud.load(point, "rans", weights=weights)
    batches = [batch for batch in BATCHES if batch <= 2 * TASKS[point.task].batch_size]
    best = {"half": (0.0, 0.0), "back": (0.0, 0.0)}
    for batch in batches:
        symbols = torch.zeros(batch, *cloud.expected.shape)
        feature = cloud.decoder.place(cloud.decoder(symbols))
        for what, work in (
            ("half", lambda: cloud.back(cloud.decoder.place(cloud.decoder(symbols)))),
            ("back", lambda: cloud.back(feature)),
        ):
            best[what] = max(best[what], _rate(work, batch, seconds / len(batches) / 2))
    return best


def _rate(work, batch: int, seconds: float) -> tuple[float, float]:
    work()
    start, busy, done = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - start) < seconds:
        work()
        done += batch
    return done / passed, done / (time.process_time() - busy)


def apart(work, *arguments):
    """The result of a function in a fresh process, which has no threads of ours."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


async def _edge(port: int, number: int, streams: list[bytes], end: float, load: Load) -> None:
    sender, sent = Sender(port), 0
    while time.perf_counter() < end:
        which = (number + sent) % len(streams)
        load.count(which, *await sender.send(streams[which], f"{number}/{sent}"))
        sent += 1
    sender.close()


async def _all(server: ServerProcess, edges: int, streams: list[bytes], seconds: float, load: Load) -> list[float]:
    memory, end = [], time.perf_counter() + seconds

    async def watch() -> None:
        while time.perf_counter() < end:
            memory.append(server.resident_mb())
            await asyncio.sleep(seconds / 40)

    await asyncio.gather(watch(), *(_edge(server.port, number, streams, end, load) for number in range(edges)))
    return memory


def run(args: argparse.Namespace) -> None:
    point = embedded(args.point, args.benchmark, args.points)
    weights = args.backbone_weights
    streams = real_streams(point, 16, pictures=args.pictures, valdir=args.valdir, weights=weights)
    before = apart(forward_rates, point, weights, args.threads, args.forward_seconds)
    options = options_of(point, batch_ms=args.batch_ms, connections=args.edges + 8, points=args.points,
                         **({"backbone_weights": weights} if weights else {}))
    with ServerProcess(options, threads=args.threads) as server:
        asyncio.run(_all(server, args.edges, streams, 2, Load()))
        load, start, busy = Load(), time.perf_counter(), server.cpu_seconds()
        memory = asyncio.run(_all(server, args.edges, streams, args.seconds, load))
        passed, busy = time.perf_counter() - start, server.cpu_seconds() - busy
    after = apart(forward_rates, point, weights, args.threads, args.forward_seconds)
    answered = load.statuses.get(200, 0)
    rate = answered * args.pictures / passed
    p50, p95, p99 = (1000 * np.quantile(load.seconds, share) for share in (0.5, 0.95, 0.99))
    row = {"point": args.point, "benchmark": args.benchmark, "edges": args.edges, "pictures/s": f"{rate:.0f}"}
    for what, alone in before.items():
        plain, of_cpu = ((one + other) / 2 for one, other in zip(alone, after[what]))
        row |= {
            f"{what}/s": f"{plain:.0f}",
            f"ratio to {what}": f"{rate / plain:.2f}",
            f"by CPU, to {what}": f"{answered * args.pictures / busy / of_cpu:.2f}",
        }
    row |= {
        "p50 ms": f"{p50:.0f}",
        "p95": f"{p95:.0f}",
        "p99": f"{p99:.0f}",
        "MB first, last": f"{np.mean(memory[:5]):.0f}, {np.mean(memory[-5:]):.0f}",
        "answered": answered,
        "others": sum(load.statuses.values()) - answered,
        "differing": load.wrong,
    }
    print("\n".join(f"{name:<20} {value}" for name, value in row.items()))
    if load.wrong or set(load.statuses) != {200}:
        raise SystemExit(1)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--point", default="classification/S3/1", help="TASK/SPLIT_POINT/COMPRESS_FACTOR")
    add("--benchmark", default="scenes")
    add("--valdir", type=Path, metavar="DIR", help="pictures of a benchmark that is not embedded")
    add("--points", type=Path, default=DICT_FILE)
    add("--backbone_weights", type=Path)
    add("--edges", type=positive, default=64)
    add("--seconds", type=positive, default=20)
    add("--pictures", type=positive, default=1, help="of one request")
    add("--threads", type=positive, default=1, help="of the server's network, and of the plain forward")
    add("--batch_ms", type=positive, default=5)
    add("--forward_seconds", type=positive, default=7)
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
