"""Damaged requests and streams thrown at a running `spic cloud`: no crash, no hang, no 5xx but 503.

    python bench/http_fuzz.py --cases 20000
    python bench/http_fuzz.py --seed 7 --first 1234 --cases 1        one case again

A case depends on --seed and its number alone. It is an offence if the server dies, if it neither answers nor closes
the connection within 20 s of a whole request, if it answers with 5xx but 503, with what is no HTTP or no JSON, or if
an answer names a file or a version. At the end the server must still answer an undamaged stream as it did at the
beginning. Ends with code 1 if there is an offence.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cloud_side import ServerProcess, embedded, head, real_streams
from tqdm import tqdm

from spic.coding.fuzz import damage
from spic.commands import guarded, natural, positive
from spic.protocol import HEALTH, METRICS, POINTS, PREDICT, STREAM

SECONDS = 20.0
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


def one(port: int, streams: list[bytes], seed: int, number: int) -> tuple[int, str]:
    """(status, offence or nothing) of one case."""
    try:
        return judge(ask(port, make(streams, random.Random(f"{seed}/{number}"))))
    except TimeoutError:
        return -1, "neither an answer nor an end"


def run(args: argparse.Namespace) -> None:
    point = embedded(POINT)
    streams = real_streams(point, 3) + real_streams(point, 1, "huffman", 4)
    options = [
        "--task",
        point.task,
        "--split_point",
        "S1",
        "--compress_factor",
        "1",
        "--header_seconds",
        "1",
        "--read_seconds",
        "2",
        "--idle_seconds",
        "1",
        "--body_mb",
        "1",
        "--pictures",
        "16",
        "--queue",
        "16",
    ]
    seen, offences = collections.Counter(), []
    with ServerProcess(options) as server:
        whole = Case([head(streams[0], "first", "Connection: close\r\n") + streams[0]], False)
        expected = ask(server.port, whole).partition(b"\r\n\r\n")[2]
        with ThreadPoolExecutor(args.at_once) as pool:
            outcomes = pool.map(
                lambda number: one(server.port, streams, args.seed, number), range(args.first, args.first + args.cases)
            )
            for number, (status, offence) in enumerate(tqdm(outcomes, "requests", args.cases, disable=None), args.first):
                seen[status] += 1
                if offence:
                    offences.append(f"seed {args.seed}, case {number}: {offence}")
                    print(offences[-1], file=sys.stderr)
                if not server.alive:
                    raise SystemExit(f"seed {args.seed}, about case {number}: the server died")
        again = ask(server.port, whole).partition(b"\r\n\r\n")[2]
        memory = server.resident_mb()
    if again != expected:
        offences.append("in the end an undamaged stream is answered otherwise")
    told = ", ".join(f"{status or 'closed'}: {count}" for status, count in sorted(seen.items()))
    print(f"{args.cases} requests, {len(offences)} offences; statuses {told}; server's memory at the end {memory:.0f} MB")
    if offences:
        raise SystemExit(1)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--cases", type=positive, default=2000)
    parser.add_argument("--first", type=natural, default=0, help="number of the first case")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--at_once", type=positive, default=48, help="requests at a time")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
