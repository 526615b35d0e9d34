"""On a Ray cluster of two nodes, one of which is killed: every stream is answered, every picture coded, as on one machine."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

for package in ("ray", "pyarrow", "starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason=f"needs {package}: pip install '.[ray,cloud]'")

from test_encode import draw, point, rows  # noqa: E402

from spic.encode import encode, stream_of  # noqa: E402
from spic.protocol import IDEMPOTENCY_KEY, PREDICT, STREAM  # noqa: E402

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
SECONDS = 240
"""Until a test gives up; a busy machine needs half a minute to start a replica."""


class Nodes:
    """A cluster of this machine: a head, and one more node that can be killed."""

    def __init__(self, cluster, args):
        self.cluster, self.args = cluster, args
        self.other = None

    def grow(self):
        self.other = self.cluster.add_node(**self.args)
        self.cluster.wait_for_nodes()

    def kill(self):
        self.cluster.remove_node(self.other, allow_graceful=False)
        self.other = None

    def works(self, what):
        """Whether the node to be killed runs a process of this name."""
        raylet = self.other.all_processes["raylet"][0].process.pid
        return any(what in _command(child) for child in _children(raylet))


def _children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@pytest.fixture(scope="module")
def nodes():
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 2, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    os.environ["RAY_ADDRESS"] = cluster.address
    yield Nodes(cluster, small)
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def grown(nodes):
    nodes.grow()
    yield nodes
    if nodes.other:
        nodes.kill()


@contextmanager
def spic(*words):
    """The command, while it runs."""
    process = subprocess.Popen([sys.executable, "-m", "spic", *map(str, words)], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition, process):
    end = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)


def test_encoding_survives_the_death_of_a_node_with_the_rows_of_one_process(grown, tmp_path):
    pictures = draw(tmp_path, 100)
    encode([point()], pictures, tmp_path / "alone", batch_size=2, answers=True)
    out = tmp_path / "cluster"
    with spic("encode", pictures, "--split_point", "S1", "--compress_factor", 1, "--batch_size", 2, "--answers", "--ray",
              "--replicas", 2, "--output", out) as process:
        until(lambda: list(tmp_path.glob(".cluster.*/*.parquet")) and grown.works("MapWorker"), process)
        assert not out.exists()
        grown.kill()
        told, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert "100 pictures" in told
    assert len(list(out.iterdir())) > 2
    assert rows(out) == rows(tmp_path / "alone") and len(rows(out)) == 100
    assert not list(tmp_path.glob(".cluster.*"))


def test_streams_are_answered_while_a_node_dies(grown, tmp_path):
    encode([point()], draw(tmp_path, 6), tmp_path / "coded", answers=True)
    streams = [stream_of(row["header"], row["payload"]) for row in rows(tmp_path / "coded")]
    expected = [json.loads(row["answer"])["top"][0]["class"] for row in rows(tmp_path / "coded")]
    with spic("cloud", "--ray", "--replicas", 2, "--task", "classification", "--split_point", "S1", "--compress_factor", 1,
              "--coder", "rans", "--port", 0) as process:
        said = process.stdout.readline()
        assert "answers streams of 1 operating point at http://127.0.0.1:" in said, process.communicate()
        port = int(said.rpartition(":")[2])
        assert grown.works("ServeReplica:spic-replicas"), "both nodes compute"
        load = Load(port, streams)
        until(lambda: load.answered > 20, process)
        grown.kill()
        killed_at = load.answered
        until(lambda: load.answered > killed_at + 60, process)
        load.stop()
        process.terminate()
        assert process.wait(SECONDS) == 0
    assert not load.failed, load.failed[:3]
    assert set(load.statuses) <= {200, 503}
    for number, answers in load.answers.items():
        assert answers == {expected[number]}


class Load:
    """Sends streams one after the other, each until it is answered, over a few connections."""

    def __init__(self, port, streams, senders=3):
        self.port, self.streams = port, streams
        self.answers = {number: set() for number in range(len(streams))}
        self.statuses, self.failed, self.answered, self._end = [], [], 0, threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(which,)) for which in range(senders)]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._end.set()
        for thread in self._threads:
            thread.join(SECONDS)

    def _send(self, which):
        sent = 0
        while not self._end.is_set():
            number = (which + sent) % len(self.streams)
            for _ in range(100):
                status, told = self._ask(self.streams[number], f"{which}/{sent}")
                self.statuses.append(status)
                if status == 200:
                    self.answers[number].add(told["answers"][0]["top"][0]["class"])
                    self.answered += 1
                    break
                time.sleep(0.2)
            else:
                self.failed.append(told)
            sent += 1

    def _ask(self, stream, key):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("POST", PREDICT, stream, {"Content-Type": STREAM, IDEMPOTENCY_KEY: key})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()
