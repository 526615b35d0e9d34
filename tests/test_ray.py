"""On a Ray cluster of two nodes, one of which is killed: every stream is answered, every picture coded, as on one machine."""

import asyncio
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

from ray.exceptions import ActorDiedError  # noqa: E402
from test_encode import draw, point, rows  # noqa: E402

from spic.cloud import command, fleet  # noqa: E402
from spic.cloud.batches import QueueFull  # noqa: E402
from spic.cloud.limits import Limits  # noqa: E402
from spic.cloud.service import Refused  # noqa: E402
from spic.coding.stream import StreamHeader  # noqa: E402
from spic.encode import encode, stream_of  # noqa: E402
from spic.protocol import IDEMPOTENCY_KEY, PREDICT, STREAM  # noqa: E402

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_enable_worker_prestart": "0",
               "RAY_prestart_worker_first_driver": "0", "OMP_NUM_THREADS": "1"}
SECONDS = 600
"""Until a test gives up; a replica starts in half a minute, on a very busy machine in minutes."""


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
    pictures = draw(tmp_path, 40)
    encode([point()], pictures, tmp_path / "alone", batch_size=2, answers=True)
    out = tmp_path / "cluster"
    with spic("encode", pictures, "--split_point", "S1", "--compress_factor", 1, "--batch_size", 2, "--answers", "--ray",
              "--replicas", 2, "--output", out) as process:
        until(lambda: list(tmp_path.glob(".cluster.unfinished/.part-*/*.parquet")) and grown.works("MapWorker"), process)
        assert not out.exists()
        grown.kill()
        told, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert "40 pictures" in told
    assert len(list(out.glob("part-00000/*.parquet"))) > 2
    assert rows(out) == rows(tmp_path / "alone") and len(rows(out)) == 40
    assert not list(tmp_path.glob(".cluster.*"))


def test_streams_are_answered_while_a_node_dies(grown, tmp_path):
    encode([point()], draw(tmp_path, 6), tmp_path / "coded", answers=True)
    streams = [stream_of(row["header"], row["payload"]) for row in rows(tmp_path / "coded")]
    expected = [json.loads(row["answer"])["top"][0]["class"] for row in rows(tmp_path / "coded")]
    (tmp_path / "token").write_text("a-secret-of-this-test")
    with spic("cloud", "--ray", "--replicas", "2:3", "--task", "classification", "--split_point", "S1", "--compress_factor", 1,
              "--coder", "rans", "--port", 0, "--token_file", tmp_path / "token") as process:
        said = process.stdout.readline()
        assert "answers streams of 1 operating point at http://127.0.0.1:" in said, process.communicate()
        port = int(said.rpartition(":")[2])
        assert grown.works("ServeReplica:spic-replicas"), "both nodes compute"
        assert Load(port, "").ask(streams[0], "key")[0] == 401
        load = Load(port, "a-secret-of-this-test")
        load.start(streams)
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

    def __init__(self, port, token):
        self.port, self.token = port, token
        self.statuses, self.failed, self.answered, self._end = [], [], 0, threading.Event()

    def start(self, streams, senders=3):
        self.streams, self.answers = streams, {number: set() for number in range(len(streams))}
        self._threads = [threading.Thread(target=self._send, args=(which,)) for which in range(senders)]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._end.set()
        for thread in self._threads:
            thread.join(SECONDS)

    def ask(self, stream, key):
        """(status, the answer's JSON)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("POST", PREDICT, stream, {"Content-Type": STREAM, IDEMPOTENCY_KEY: key,
                                                         "Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def _send(self, which):
        sent = 0
        while not self._end.is_set():
            number = (which + sent) % len(self.streams)
            for _ in range(100):
                status, told = self.ask(self.streams[number], f"{which}/{sent}")
                self.statuses.append(status)
                if status == 200:
                    self.answers[number].add(told["answers"][0]["top"][0]["class"])
                    self.answered += 1
                    break
                time.sleep(0.2)
            else:
                self.failed.append(told)
            sent += 1


# ---- without a cluster ----------------------------------------------------------------------------------------------

KNOWN = fleet.Known(StreamHeader("classification/mine/S1/0", "rans", "0" * 64, (1, 2, 2), (8, 8)), {}, None)


class Handle:
    """As Ray's, to replicas that do what ``outcomes`` say, one after the other."""

    def __init__(self, *outcomes):
        self.outcomes, self.asked = list(outcomes), []
        self.answer = self

    async def remote(self, *arguments):
        self.asked.append(arguments)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def answered(handle, payloads=(b"1", b"2"), limits=Limits(), seen=lambda size: None):
    job = fleet.Fleet(handle, limits, seen).submit(KNOWN, list(payloads))
    return await job.done, job


def test_a_lost_replica_is_replaced_by_another_and_its_batches_are_counted():
    sizes, handle = [], Handle(ActorDiedError(), ActorDiedError(), ([{"top": 1}, {"top": 2}], {"back": 0.5}, [2, 3]))
    replies, job = asyncio.run(answered(handle, seen=sizes.append))
    assert replies == [{"top": 1}, {"top": 2}] and job.seconds["back"] == 0.5 and sizes == [2, 3]
    assert handle.asked == [(KNOWN.header.point, "rans", [b"1", b"2"])] * 3


def test_where_no_replica_is_left_the_sender_is_told_to_come_again(monkeypatch):
    monkeypatch.setattr(fleet, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(fleet, "_PAUSE", 0.05)
    with pytest.raises(Refused, match="send it again later") as refused:
        asyncio.run(answered(Handle(*[ActorDiedError()] * 50)))
    assert refused.value.status == 503


def test_an_error_of_the_network_fails_the_request_and_is_not_repeated():
    handle = Handle(MemoryError("no room"), ([], {}, []))
    with pytest.raises(MemoryError):
        asyncio.run(answered(handle))
    assert len(handle.asked) == 1


def test_a_door_takes_no_more_than_may_wait():
    with pytest.raises(QueueFull):
        asyncio.run(answered(Handle(), [b""] * 3, Limits(queue=2)))


@pytest.mark.parametrize("words, why", [
    (["--replicas", "2"], "with --ray"),
    (["--ray", "--replicas", "3:2"], "MIN at most MAX"),
    (["--ray", "--replicas", "0"], "above 0"),
    (["--ray", "--connections", "9"], "--connections"),
    (["--ray", "--read_seconds", "9"], "--read_seconds"),
    (["--ray", "--try"], "--try"),
    (["--ray", "--device", "cuda:1"], "cpu or cuda"),
    (["--ray", "--benchmark", "coco", "--task", "segmentation", "--split_point", "S1"], "split"),
])
def test_options_that_a_cluster_does_not_heed_are_refused(words, why, capsys):
    try:
        code = command.main(words)
    except SystemExit as end:
        code = end.code
    told = capsys.readouterr().err
    assert code == 2 and told.count("\n") == 1 and why in told


def test_without_ray_one_line_says_what_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert command.main(["--ray"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "pip install 'spic-split[ray]'" in told
