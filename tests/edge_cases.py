"""What tests of the edge share: a small network with operating points, pictures, and a server that can be made to fail."""

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

NETWORK = """
from torch import nn
from spic.datasets.images import Preparation

CLASSES = tuple("abcdefghij")
PREPARATION = Preparation(72, 64)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 5, 4, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def make():
    return Net()
"""
CUTS = {"early": ("stem", (16, 16, 16)), "late": ("body", (32, 8, 8))}
CODED = (("early", 1), ("late", 0), ("late", 1))
"""Split point and compress factor of the points, in the order of the network."""


def write_points(folder: Path) -> Path:
    """The dict.yaml of CODED: bottlenecks with random weights, tables counted on the pictures of ``draw``."""
    import torch

    from spic.bottleneck import make_bottleneck
    from spic.coding import FrequencyTable
    from spic.datasets.pictures import read_rgb
    from spic.networks import cut, zoo
    from spic.quantize import quantize
    from spic.training.tables import write_point

    (folder / "net.py").write_text(NETWORK)
    entry = zoo.find(f"{folder / 'net.py'}:make")
    images = torch.stack([entry.preparation(read_rgb(path)) for path in draw(folder / "counted", 4)])
    for split, factor in CODED:
        after, shape = CUTS[split]
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(factor)
            bottleneck = make_bottleneck(shape, 4, 1 + factor)
            feature = cut(entry.build(), after, images)[0](images)
            bottleneck.train()(feature)
            bottleneck.encoder.norm1.momentum = bottleneck.encoder.norm2.momentum = 1.0
            bottleneck(feature)
            symbols = quantize(bottleneck.eval().encoder(feature), 0.25)
        write_point(bottleneck, FrequencyTable.from_symbols(symbols, 0.25), ("classification", "mine", split, factor),
                    folder,
                    {"network": f"{folder / 'net.py'}:make", "cut": after})
    return folder / "dict.yaml"


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
        return {"point": header.point, "answers": self.answer(header, payloads),
                "milliseconds": {"back": 1.0, "total": 2.0}}


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
