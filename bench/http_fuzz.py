"""Damaged requests and streams thrown at `spic cloud`: no crash, no hang, no 5xx but 503.

    python bench/http_fuzz.py --cases 1000000                        some 20 minutes on one core
    python bench/http_fuzz.py --seed 7 --first 1234 --cases 1        one case again

A case depends on --seed and its number alone. Each --socket_every-th goes over a socket to a running `spic cloud`. The others
go, byte for byte and with the same clocks, to the same server in this process: its protocol, gate, application and network,
only without a socket of the system below them, which is what most of the time would go to.

It is an offence if the server dies, if it neither answers nor closes the connection within 20 s of a whole request, if it
answers with 5xx but 503, with what is no HTTP or no JSON, if an answer names a file or a version, or if an exception ends in
the event loop. At the end an undamaged stream must be answered as at the beginning. Ends with code 1 if there is an offence.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import re
import resource
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import h11
import torch
from cloud_side import ServerProcess, embedded, head, options_of, real_streams
from tqdm import tqdm
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from spic.cloud import command as cloud
from spic.cloud.app import make_app
from spic.cloud.gate import LOOPBACK_NAMES
from spic.cloud.served import load_served
from spic.cloud.server import make_server
from spic.cloud.service import Service
from spic.coding.fuzz import damage
from spic.commands import Parser, guarded, natural, positive
from spic.points import OperatingPoint
from spic.protocol import HEALTH, METRICS, POINTS, PORT, PREDICT, STREAM

SECONDS = 20.0
AT_ONCE = 300
"""Connections at a time in this process: most of them wait for a clock of the server."""
LIMITS = {"header_seconds": 1, "read_seconds": 2, "idle_seconds": 1, "body_mb": 1, "pictures": 16, "queue": 16}
POINT = "classification/S1/1"
PATHS = (
    PREDICT,
    POINTS,
    HEALTH,
    METRICS,
    "/",
    "/openapi.json",
    "/page/about",
    "/page/arrivals",
    "/page/arrivals/1",
    "/page/try",
    "/nowhere",
    "/../etc/passwd",
    "/%2e%2e/%00",
    "//",
    "*",
    "http://localhost/health",
    "/page/arrivals/" + "9" * 400,
    "/" + "a" * 9000,
)
METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "A" * 300)
TYPES = (STREAM, STREAM.upper(), "", "text/plain", "application/json", "image/png", STREAM + ";a=b", "\xff")
HEADERS = (
    "Content-Length: 5",
    "Content-Length: -1",
    "Content-Length: 99999999999999999999",
    "Content-Length: 1, 2",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Expect: 100-continue",
    "Connection: close",
    "Connection: upgrade",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Idempotency-Key: ",
    "Idempotency-Key: " + "k" * 300,
    "Idempotency-Key: \xe9",
    "Host: evil",
    "Host:",
    "Host: [",
    "Authorization: Bearer x",
    "Authorization: \xff\xfe",
    "X: " + "y" * 70_000,
    "Range: bytes=0-1",
    "Accept: a/b",
    "Content-Encoding: gzip",
    "Origin: null",
    "Cookie: a=b",
    ": novalue",
    "No colon",
    " folded",
    "X-Forwarded-For: 1.2.3.4",
)
QUERIES = (
    "",
    "",
    "?after=1",
    "?after=-1",
    "?after=" + "9" * 30,
    "?after=%00",
    "?point=classification/scenes/S1/1&coder=rans",
    "?point=&coder=",
    "?a=" + "b" * 5000,
    "?after=1&after=2",
    "?%ff",
    "?after=\xb2",
)
TELLTALE = re.compile(rb"Traceback|site-packages|uvicorn|starlette|\.py\b|/home/|/root/|/usr/|Python/", re.IGNORECASE)


@dataclass
class Case:
    """What is sent, in pieces, and whether it ends the sender's side."""

    parts: list[bytes]
    shut: bool


def make(streams: list[bytes], rng: random.Random) -> Case:
    """One damaged request."""
    kind = rng.random()
    body = rng.choice(streams)
    if kind < 0.45:  # a proper request with a damaged stream
        body = damage(body, rng)
        data = head(body, str(rng.random())) + body
    elif kind < 0.75:  # odd methods, paths, headers
        data = _odd(body, rng)
    elif kind < 0.9:  # damaged as bytes, head and all
        data = damage(head(body, "k") + body, rng)
    else:  # chunked, rightly or wrongly
        data = _chunked(body, rng)
    parts = [data] if rng.random() < 0.8 else _cut(data, rng)
    return Case(parts, rng.random() < 0.3)


def _odd(body: bytes, rng: random.Random) -> bytes:
    path = rng.choice(PATHS) + rng.choice(QUERIES)
    lines = [
        f"{rng.choice(METHODS)} {path} HTTP/{rng.choice(('1.1', '1.1', '1.1', '1.0', '2.0', '9'))}",
        "Host: localhost",
        f"Content-Type: {rng.choice(TYPES)}",
        *rng.sample(HEADERS, rng.randrange(4)),
    ]
    if rng.random() < 0.6:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body if rng.random() < 0.7 else b"")


def _chunked(body: bytes, rng: random.Random) -> bytes:
    lines = (
        f"POST {PREDICT} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {STREAM}",
        "Transfer-Encoding: chunked",
        "",
        "",
    )
    pieces = []
    for part in _cut(body, rng):
        size = (
            f"{len(part):x}"
            if rng.random() < 0.9
            else rng.choice(("-1", "zz", "ffffffffffffffff", "0", "1;a=" + "b" * 99, ""))
        )
        pieces.append(size.encode() + b"\r\n" + part + b"\r\n")
    return (
        "\r\n".join(lines).encode() + b"".join(pieces) + rng.choice((b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"0\r\n"))
    )


def _cut(data: bytes, rng: random.Random) -> list[bytes]:
    edges = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.randrange(4)))})
    return [data[a:b] for a, b in zip(edges, edges[1:])]


def ask(port: int, case: Case) -> bytes:
    """All that the server says until it closes; a hang is a TimeoutError, a reset ends it like a close."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
            try:
                for part in case.parts:
                    connection.sendall(part)
                if case.shut:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it refused already; what it said may still be read
            while piece := connection.recv(1 << 16):
                answer += piece
    except ConnectionError:
        pass
    return answer


def judge(answer: bytes) -> tuple[int, str]:
    """(status, offence or nothing) of what came back; 0: the connection was closed without a word."""
    if not answer:
        return 0, ""
    first = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    if not first:
        return 0, f"no HTTP: {answer[:60]!r}"
    statuses = [int(status) for status in re.findall(rb"(?:^|\r\n\r\n|\})HTTP/1\.1 (\d{3}) ", answer)] or [int(first[1])]
    if any(status >= 500 and status != 503 for status in statuses):
        return max(statuses), f"status {statuses}"
    if found := TELLTALE.search(answer):
        return statuses[-1], f"tells {found[0]!r}"
    head, _, body = answer.partition(b"\r\n\r\n")
    if statuses[0] >= 400 and len(statuses) == 1 and body:
        try:
            told = json.loads(body)
            if list(told) != ["error"] or "\n" in told["error"]:
                return statuses[0], f"another error than one line of JSON: {body[:80]!r}"
        except ValueError:
            return statuses[0], f"no JSON: {body[:80]!r}"
    return statuses[-1], ""


def over_socket(port: int, streams: list[bytes], seed: int, number: int) -> tuple[int, str]:
    """(status, offence or nothing) of one case."""
    try:
        return judge(ask(port, make(streams, random.Random(f"{seed}/{number}"))))
    except TimeoutError:
        return -1, "neither an answer nor an end"


# ---- the same server in this process --------------------------------------------------------------------------------


class Wire(asyncio.Transport):
    """The server's end of a connection that is none: keeps what is written."""

    def __init__(self, protocol: asyncio.Protocol, loop: asyncio.AbstractEventLoop):
        super().__init__({"peername": ("127.0.0.1", 9), "sockname": ("127.0.0.1", PORT)})
        self.protocol, self.loop, self.written, self.ended = protocol, loop, [], loop.create_future()

    def write(self, data: bytes) -> None:
        if not self.is_closing():
            self.written.append(bytes(data))

    def close(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
            self.loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.ended.done()

    def get_protocol(self) -> asyncio.Protocol:
        return self.protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """What was sent lies here already."""

    resume_reading = pause_reading


class Within:
    """A server without a socket."""

    def __init__(self, service: Service):
        self.config = make_server(make_app(service, hosts=LOOPBACK_NAMES), service.limits).config
        self.config.load()
        self.state = ServerState()
        self.errors: list[str] = []

    async def ask(self, case: Case) -> bytes:
        """As the function of this name, but that the sender hangs up once all is answered; a hang is a TimeoutError."""
        loop = asyncio.get_running_loop()
        protocol = self.config.http_protocol_class(config=self.config, server_state=self.state, app_state={}, _loop=loop)
        wire, told, left = Wire(protocol, loop), protocol.on_response_complete, list(case.parts)

        def hang_up() -> None:
            if not left and protocol.cycle and protocol.cycle.response_complete and not protocol.conn.trailing_data[0] \
                    and protocol.conn.their_state is h11.IDLE:
                wire.close()

        def complete() -> None:
            told()
            loop.call_soon(hang_up)

        protocol.on_response_complete = complete
        protocol.connection_made(wire)
        while left:
            part = left.pop(0)
            if part and not wire.is_closing():  # without bytes nothing is received
                protocol.data_received(part)
            await asyncio.sleep(0)
        if case.shut and not wire.is_closing() and not protocol.eof_received():
            wire.close()
        hang_up()
        async with asyncio.timeout(SECONDS):
            await wire.ended
        return b"".join(wire.written)

    async def all(self, streams: list[bytes], seed: int, numbers: list[int], tell: Callable) -> None:
        """Every case of these numbers; tell: what came of each."""
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, about: self.errors.append(f"{about.get('message')}: {about.get('exception')!r}"))
        lifespan = LifespanOn(self.config)
        await lifespan.startup()
        whole = Case([head(streams[0], "first", "Connection: close\r\n") + streams[0]], False)
        expected, left = answers_of(await self.ask(whole)), iter(numbers)

        async def work() -> None:
            for number in left:
                try:
                    outcome = judge(await self.ask(make(streams, random.Random(f"{seed}/{number}"))))
                except TimeoutError:
                    outcome = -1, "neither an answer nor an end"
                if self.errors:
                    outcome = outcome[0], f"about here, in the event loop: {self.errors.pop()}"
                tell(number, *outcome)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        if answers_of(await self.ask(replace(whole, parts=[whole.parts[0].replace(b"first", b"again")]))) != expected:
            tell(numbers[-1], 0, "in the end an undamaged stream is answered otherwise")
        await lifespan.shutdown()


def answers_of(answer: bytes) -> list:
    """What is said of the pictures, without how long it took."""
    return json.loads(answer.partition(b"\r\n\r\n")[2])["answers"]


# ---- both -----------------------------------------------------------------------------------------------------------


@dataclass
class Ledger:
    """What came of the cases."""

    seed: int
    bar: tqdm
    seen: collections.Counter = field(default_factory=collections.Counter)
    offences: list[str] = field(default_factory=list)

    def tell(self, number: int, status: int, offence: str) -> None:
        self.seen[status] += 1
        self.bar.update()
        if offence:
            self.offences.append(f"seed {self.seed}, case {number}: {offence}")
            print(self.offences[-1], file=sys.stderr)


def run_socket(point: OperatingPoint, streams: list[bytes], numbers: list[int], at_once: int, ledger: Ledger) -> float:
    """Against a server process; its memory in the end, in MB."""
    with ServerProcess(options_of(point, ("rans", "huffman"), **LIMITS)) as server:
        whole = Case([head(streams[0], "first", "Connection: close\r\n") + streams[0]], False)
        expected = ask(server.port, whole).partition(b"\r\n\r\n")[2]
        with ThreadPoolExecutor(at_once) as pool:
            outcomes = pool.map(lambda number: over_socket(server.port, streams, ledger.seed, number), numbers)
            for number, outcome in zip(numbers, outcomes):
                ledger.tell(number, *outcome)
                if not server.alive:
                    raise SystemExit(f"seed {ledger.seed}, about case {number}: the server died")
        if ask(server.port, whole).partition(b"\r\n\r\n")[2] != expected:
            ledger.tell(numbers[-1], 0, "in the end an undamaged stream is answered otherwise")
        return server.resident_mb()


def run_within(point: OperatingPoint, streams: list[bytes], numbers: list[int], ledger: Ledger) -> None:
    """Against the same server in this process."""
    args = cloud.parser().parse_args(options_of(point, ("rans", "huffman"), **LIMITS))
    limits = replace(cloud.limits_of(args), connections=2 * AT_ONCE)
    torch.set_num_threads(1)
    service = Service(load_served([point], args.coder, torch.device("cpu")), limits)
    asyncio.run(Within(service).all(streams, ledger.seed, numbers, ledger.tell))


def run(args: argparse.Namespace) -> None:
    point = embedded(POINT)
    streams = real_streams(point, 3) + real_streams(point, 1, "huffman", 4)
    numbers = range(args.first, args.first + args.cases)
    socket_ones = [number for number in numbers if number % args.socket_every == 0]
    others = [number for number in numbers if number % args.socket_every]
    memory = {}
    with tqdm(total=args.cases, desc="requests", disable=None) as bar:
        ledger = Ledger(args.seed, bar)
        if socket_ones:
            memory["server's"] = run_socket(point, streams, socket_ones, args.at_once, ledger)
        if others:
            run_within(point, streams, others, ledger)
            memory["own"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = ", ".join(f"{status or 'closed'}: {count}" for status, count in sorted(ledger.seen.items()))
    print(f"{args.cases} requests, {len(socket_ones)} of them over a socket, {len(ledger.offences)} offences; statuses {told}; "
          f"memory: {', '.join(f'{whose} {size:.0f} MB' for whose, size in memory.items())}")
    if ledger.offences:
        raise SystemExit(1)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=positive, default=2000)
    parser.add_argument("--first", type=natural, default=0, help="number of the first case")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--socket_every", type=positive, default=200, help="one in so many goes over a socket, 1 for all")
    parser.add_argument("--at_once", type=positive, default=48, help="requests at a time over sockets")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
