"""What tests of the cloud share: a server on a free port of this machine, streams for it, and a client."""

import http.client
import json
import threading
import time
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import torch

pytest.importorskip("starlette", reason="needs the extra `cloud`")
pytest.importorskip("uvicorn", reason="needs the extra `cloud`")
pytest.importorskip("prometheus_client", reason="needs the extra `cloud`")

from spic.cloud.app import make_app  # noqa: E402
from spic.cloud.limits import Limits  # noqa: E402
from spic.cloud.served import load_served  # noqa: E402
from spic.cloud.server import listen, make_server  # noqa: E402
from spic.cloud.service import Service  # noqa: E402
from spic.coding.stream import write_stream  # noqa: E402
from spic.points import load_points  # noqa: E402
from spic.protocol import PREDICT, STREAM  # noqa: E402


def point(task="classification", split_point="S1", factor=1):
    return load_points()[task, "scenes", split_point, factor]


@cache
def served(*names):
    """The embedded points of these names (split points of classification if none), loaded once for all tests."""
    points = [
        load_points()[task, "scenes", split, factor]
        for task, split, factor in names or (("classification", "S1", 1), ("classification", "US1", 1))
    ]
    return load_served(points, ["rans", "huffman"], torch.device("cpu"))


@contextmanager
def running(points=None, limits=Limits(), token=None, hosts=None, trials=None, tls=None):
    """A real server in a thread; gives a Client."""
    service = Service(points or served(), limits)
    with listen("127.0.0.1", 0) as listening:
        begun = threading.Event()
        server = make_server(make_app(service, token, hosts, trials), limits, tls, begun.set)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            assert begun.wait(30)
            yield Client(listening.getsockname()[1], service, server, token)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server does not end"


class Client:
    def __init__(self, port, service, server, token):
        self.port, self.service, self.server, self.token = port, service, server, token

    def ask(self, method, path, body=None, headers=(), token=True):
        """(status, headers, body) on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = dict(headers) | ({"Authorization": f"Bearer {self.token}"} if self.token and token else {})
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path):
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def predict(self, stream, key=None):
        """(status, the answer's JSON)."""
        headers = {"Content-Type": STREAM} | ({"Idempotency-Key": key} if key else {})
        status, _, body = self.ask("POST", PREDICT, stream, headers)
        return status, json.loads(body)

    def metric(self, line):
        """The value of a line of /metrics, 0 where it is not there."""
        _, _, text = self.ask("GET", "/metrics")
        found = [float(row.rpartition(" ")[2]) for row in text.decode().splitlines() if row.startswith(line)]
        return sum(found)


def some_stream(one, pictures=1, seed=0):
    """A valid stream of likely symbols for a point that is served."""
    rng = np.random.default_rng(seed)
    symbols = rng.poisson(0.5, (pictures, *one.header.shape)).astype(np.int32)
    return write_stream(one.header, one.cloud.coder.encode(symbols))


def until(condition, seconds=10):
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)
