"""What tests of the edge share: a bundle of the scenes, pictures, and a small server that can be made to fail."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from spic.coding.stream import StreamHeader, read_stream
from spic.datasets.scenes.kinds import KINDS
from spic.protocol import HEALTH, IDEMPOTENCY_KEY, POINTS, PREDICT

POINTS_EXPORTED = (("S1", 0), ("S1", 1), ("S3", 1))


def draw(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Pictures of the scenes as files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.jpg" for number in range(first, first + count)]
    for number, path in enumerate(paths, first):
        path.write_bytes(KINDS["classification"].jpeg(7, "train", number))
    return paths


class Server:
    """Speaks spic/protocol.py. answer: (header, payloads) → answers. faults: what to do with the next requests for
    predictions instead of answering; each is called with the handler. counted: id → pictures, each id once."""

    def __init__(self, headers: list[StreamHeader], answer: Callable, token: str | None = None):
        self.headers, self.answer, self.token = headers, answer, token
        self.faults: list[Callable] = []
        self.counted: dict[str, int] = {}
        self.received: list[str] = []
        self.payloads: list[bytes] = []

    def points(self) -> list[dict]:
        return [{"name": header.point, "coder": header.coder, "table": header.table, "shape": list(header.shape),
                 "image_size": list(header.image_size)} for header in self.headers]

    def predict(self, body: bytes, key: str) -> dict:
        header, payloads = read_stream(body)
        self.received.append(key)
        if key not in self.counted:
            self.payloads += payloads
        self.counted[key] = len(payloads)
        return {"point": header.point, "answers": self.answer(header, payloads), "milliseconds": {"back": 1.0, "total": 2.0}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words) -> None:
        """In silence."""

    def do_GET(self) -> None:
        server = self.server.spic
        if self.path != HEALTH and server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
            return say(self, 401, {"error": "no such token"})
        found = {HEALTH: {"status": "ok"}, POINTS: {"points": server.points()}}.get(self.path)
        say(self, 200 if found else 404, found or {"error": "no such path"})

    def do_POST(self) -> None:
        server = self.server.spic
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if server.faults:
            return server.faults.pop(0)(self, body)
        assert self.path == PREDICT
        say(self, 200, server.predict(body, self.headers[IDEMPOTENCY_KEY]))


def say(handler: BaseHTTPRequestHandler, status: int, content, headers: dict | None = None) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = {"Content-Type": "application/json", "Content-Length": len(body), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    handler.wfile.write(f"HTTP/1.1 {status} Something\r\n{head}\r\n".encode() + body)


@contextmanager
def serving(server: Server, port: int = 0):
    """The address while the server runs."""
    class _Http(ThreadingHTTPServer):
        daemon_threads, allow_reuse_address, spic = True, True, server

        def handle_error(self, request, address):
            """A test cut the connection."""

    http = _Http(("127.0.0.1", port), _Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stub(header: StreamHeader, payloads: list[bytes]) -> list[dict]:
    """Answers that say how long each payload is."""
    return [{"top": [{"class": 0, "name": f"{len(payload)} bytes", "score": 0.5}]} for payload in payloads]
