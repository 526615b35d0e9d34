"""What goes wrong between edges and a `spic cloud`: each picture must be answered exactly once, or be reported failed.

    python bench/faults.py --pictures 400 --kills 3
    python bench/faults.py --pictures 20000 --kills 20 --spooled 300

Edges of this program send pictures one by one and send again what got no answer, with the same key and the backoff of
docs/deploy.md, while by chance

    killed     the server is killed (kill -9) under load, and started again
    cut        the connection is closed in the middle of a frame
    half-open  the edge goes away without a word, the connection stays
    slow       one byte a second
    corrupted  a frame arrives damaged: 400, and the picture is sent again as it is
    repeated   the answer is thrown away and the request sent again: the same answer must come, and be counted once

Then, with --spooled N, `spic edge` sends N pictures while the server is away and the disk of its spool is full (a small
tmpfs, which takes root to mount; without, this part is left out and said so).

Told at the end: pictures answered once, failed, lost (neither), answered twice or otherwise than at first, and what
the server itself counted since it was last started, beside the pictures that its edges had answers to (some of them
may be of the server before, on their way when it was killed). Ends with code 1 if one is lost, twice or otherwise, or
if the server counted more than those.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cloud_side import Sender, ServerProcess, embedded, head, options_of, real_streams
from serve import said_of

from spic.coding.fuzz import damage
from spic.commands import Parser, guarded, natural, positive
from spic.datasets.scenes.kinds import KINDS
from spic.points import DICT_FILE, OperatingPoint

TRIES = 40
SPOOL_KB = 256
FAULTS = ("cut", "half-open", "slow", "corrupted", "repeated")


@dataclass
class Ledger:
    """Every picture and what became of it."""

    answers: collections.Counter = field(default_factory=collections.Counter)
    failed: dict[str, str] = field(default_factory=dict)
    faults: collections.Counter = field(default_factory=collections.Counter)
    otherwise: int = 0
    expected: dict[int, list] = field(default_factory=dict)
    keys_of_this_server: set[str] = field(default_factory=set)

    def answered(self, key: str, which: int, told: bytes) -> None:
        self.answers[key] += 1
        said = said_of(told)
        self.otherwise += self.expected.setdefault(which, said) != said
        self.keys_of_this_server.add(key)


class Edge:
    """Sends pictures, and does to them what the chance of each fault says."""

    def __init__(self, port: int, streams: list[bytes], chance: float, rng: random.Random, ledger: Ledger):
        self.port, self.streams, self.chance, self.rng, self.ledger = port, streams, chance, rng, ledger
        self.sender, self.left_open = Sender(port), []

    async def send(self, key: str, which: int) -> None:
        """One picture, until it is answered or given up."""
        why = ""
        for attempt in range(TRIES):
            try:
                fault = self.rng.choice(FAULTS) if self.rng.random() < self.chance else None
                status, told = await asyncio.wait_for(self._once(key, which, fault), 60)
                if status == 200:
                    return self.ledger.answered(key, which, told)
                why = f"{status} {told[:100]!r}"
            except (OSError, EOFError, TimeoutError) as error:
                self.sender.close()
                why = type(error).__name__
            await asyncio.sleep(min(2.0, 0.05 * 2 ** min(attempt, 6)) * self.rng.uniform(0.5, 1.5))
        self.ledger.failed[key] = why

    async def _once(self, key: str, which: int, fault: str | None) -> tuple[int, bytes]:
        body = self.streams[which]
        self.ledger.faults[fault] += fault is not None
        match fault:
            case None:
                return (await self.sender.send(body, key))[:2]
            case "corrupted":
                damaged = damage(body, self.rng)
                return (await self.sender.send(damaged, key))[:2] if damaged != body else (0, b"")
            case "repeated":
                first, again = [await self.sender.send(body, key) for _ in range(2)]
                self.ledger.otherwise += first[0] == again[0] == 200 and first[1] != again[1]
                return again[:2]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        request = head(body, key) + body
        part = request[: len(request) - self.rng.randrange(1, len(body))]
        if fault == "slow":
            for byte in part[: self.rng.randrange(1, 4)]:
                writer.write(bytes([byte]))
                await asyncio.sleep(1)
        else:
            writer.write(part)
            await writer.drain()
        if fault == "half-open":
            self.left_open.append(writer)
        else:
            writer.close()
        raise EOFError


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A folder on a disk of SPOOL_KB, None where this user may not mount one."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SPOOL_KB}k", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def spool_full(server: ServerProcess, point: OperatingPoint, count: int) -> bool:
    """`spic edge` while its spool's disk is full and the server away; whether each picture came out once."""
    with small_disk() as disk, tempfile.TemporaryDirectory() as pictures:
        if disk is None:
            print("spool on a full disk: left out, no small disk can be mounted here (needs root)")
            return True
        for number in range(count):
            Path(pictures, f"{number}.jpg").write_bytes(KINDS[point.task].jpeg(0, "val", number))
        server.kill()
        words = [DICT_FILE, f"localhost:{server.port}", pictures, "--task", point.task, "--split_point", point.split_point,
                 "--compress_factor", point.compress_factor, "--tables", point.tables, "--spool", disk / "spool.sqlite", "--patience", "600", "--json"]
        with subprocess.Popen([sys.executable, "-m", "spic", "edge", *map(str, words)], stdout=subprocess.PIPE, text=True) as edge:
            full_at = least = shutil.disk_usage(disk).free
            end = time.monotonic() + 120
            while time.monotonic() < end and (least == full_at or least > 16 << 10):
                time.sleep(0.5)
                least = min(least, shutil.disk_usage(disk).free)
            time.sleep(3)
            server.start()
            rows = [json.loads(line) for line in edge.communicate(timeout=600)[0].splitlines()]
    told = collections.Counter(row["picture"] for row in rows if "picture" in row)
    failed = sum("error" in row for row in rows)
    once = sum(number == 1 for number in told.values())
    print(f"spool on a full disk ({least >> 10} of {SPOOL_KB} KiB were left): of {count} pictures {once - failed} answered once, "
          f"{failed} failed and reported, {count - len(told)} lost, {len(told) - once} twice")
    return once == count


async def _go(args: argparse.Namespace, server: ServerProcess, streams: list[bytes]) -> Ledger:
    ledger, numbers = Ledger(), iter(range(args.pictures))
    edges = [
        Edge(server.port, streams, args.chance, random.Random(f"{args.seed}/{number}"), ledger)
        for number in range(args.edges)
    ]

    async def work(edge: Edge) -> None:
        for number in numbers:
            await edge.send(f"{args.seed}/{number}", number % len(streams))

    async def kill_sometimes() -> None:
        rng = random.Random(args.seed)
        for place in range(args.kills):
            goal = args.pictures * (place + rng.uniform(0.3, 0.9)) / args.kills
            while len(ledger.answers) < goal:
                await asyncio.sleep(0.05)
            server.kill()
            ledger.faults["killed"] += 1
            ledger.keys_of_this_server.clear()
            await asyncio.to_thread(server.start)

    await asyncio.gather(kill_sometimes(), *map(work, edges))
    return ledger


def counted(port: int) -> tuple[int, float]:
    """(pictures that the server says it answered, its resident bytes)."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    pictures = sum(float(value) for value in re.findall(r"^spic_pictures_total\{.*\} (\S+)$", text, re.MULTILINE))
    return int(pictures), float(re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)[1])


def run(args: argparse.Namespace) -> None:
    point = embedded("classification/S1/1")
    streams = real_streams(point, 16)
    options = options_of(point, header_seconds=3, read_seconds=5)
    with ServerProcess(options) as server:
        start = time.perf_counter()
        ledger = asyncio.run(_go(args, server, streams))
        passed = time.perf_counter() - start
        pictures, memory = counted(server.port)
        spooled = not args.spooled or spool_full(server, point, args.spooled)
    keys = [f"{args.seed}/{number}" for number in range(args.pictures)]
    once = sum(ledger.answers[key] == 1 for key in keys)
    lost = sum(not ledger.answers[key] and key not in ledger.failed for key in keys)
    twice = sum(ledger.answers[key] > 1 for key in keys)
    answered = len(ledger.keys_of_this_server)
    faults = ", ".join(f"{count} {name}" for name, count in ledger.faults.items() if name)
    print(f"{args.pictures} pictures in {passed:.0f} s; faults: {faults}")
    print(
        f"answered once {once}, failed and reported {len(ledger.failed)}, lost {lost}, "
        f"twice {twice}, otherwise {ledger.otherwise}; "
        f"since its last start the server counted {pictures} pictures, its edges {answered}; {memory / 1e6:.0f} MB"
    )
    for key, why in list(ledger.failed.items())[:5]:
        print(f"failed: {key}: {why}")
    if lost or twice or ledger.otherwise or pictures > answered or not spooled:
        raise SystemExit(1)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--pictures", type=positive, default=400)
    add("--edges", type=positive, default=16)
    add("--kills", type=natural, default=2)
    add("--spooled", type=natural, default=0, help="pictures of an edge whose spool's disk is full")
    add("--chance", type=share, default=0.1, help="of a fault, each time a picture is sent")
    add("--seed", type=natural, default=0)
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


def share(text: str) -> float:
    """A number from 0 to 0.9."""
    number = float(text)
    if not 0 <= number <= 0.9:
        raise argparse.ArgumentTypeError(f"{text}: choose 0 to 0.9")
    return number


if __name__ == "__main__":
    sys.exit(main())
