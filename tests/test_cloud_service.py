"""Queue, batches, repeated requests, and an end that answers what was taken."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from cloud_cases import Limits, running, served, some_stream, until
from spic.cloud import connection
from spic.cloud.server import listen
from spic.errors import StreamError


@pytest.fixture
def client():
    with running() as client:
        yield client


@pytest.fixture
def one():
    return served()[0]


def slow(monkeypatch, one, gate=None, seconds=0.0):
    """Computing waits for a gate, or takes longer."""
    compute = type(one).compute
    calls = []

    def slowly(self, parts):
        calls.append([len(part) for part in parts])
        gate and gate.wait(20)
        time.sleep(seconds)
        return compute(self, parts)

    monkeypatch.setattr(type(one), "compute", slowly)
    return calls


def test_a_stream_of_no_pictures_has_no_answers(client, one):
    status, told = client.predict(some_stream(one, 0))
    assert (status, told["answers"]) == (200, [])


def test_a_stream_longer_than_a_batch_is_answered_whole_and_in_order(client, one):
    status, told = client.predict(some_stream(one, 2 * one.batch + 3))
    single = [client.predict(some_stream(one, 2 * one.batch + 3))[1]["answers"] for _ in range(2)]
    assert status == 200 and len(told["answers"]) == 2 * one.batch + 3
    assert [answer["top"][0]["class"] for answer in told["answers"]] == [
        answer["top"][0]["class"] for answer in single[0]
    ]


def test_while_one_batch_is_computed_the_next_gathers(client, one, monkeypatch):
    gate = threading.Event()
    calls = slow(monkeypatch, one, gate)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(client.predict, some_stream(one))
        until(lambda: calls)
        rest = [pool.submit(client.predict, some_stream(one, seed=number)) for number in range(8)]
        until(lambda: client.service.batcher.pictures == 9)
        gate.set()
        assert [future.result()[0] for future in (first, *rest)] == [200] * 9
    assert calls == [[1], [1] * 8]


def test_a_long_request_lets_others_have_their_turn(client, one, monkeypatch):
    gate = threading.Event()
    calls = slow(monkeypatch, one, gate)
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(client.predict, some_stream(one, 3 * one.batch))
        until(lambda: calls)
        short = pool.submit(client.predict, some_stream(one))
        until(lambda: client.service.batcher.pictures == 3 * one.batch + 1)
        gate.set()
        assert short.result()[0] == long.result()[0] == 200
    assert [1, one.batch - 1] in calls, "the short request came before the end of the long one"


def test_a_full_queue_says_when_to_come_again(one, monkeypatch):
    gate = threading.Event()
    calls = slow(monkeypatch, one, gate)
    with running(limits=Limits(queue=4, pictures=4)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.predict, some_stream(one, 3))
        until(lambda: calls)
        status, headers, body = client.ask(
            "POST", "/v1/predict", some_stream(one, 2), {"Content-Type": "application/vnd.spic.stream"}
        )
        gate.set()
        assert (status, headers["Retry-After"]) == (503, "1") and b"wait already" in body
        assert first.result()[0] == 200
        assert client.predict(some_stream(one, 2))[0] == 200, "later there is room again"
        assert client.predict(some_stream(one, 5))[0] == 413, "and what never fits is told so"


def test_a_repeated_request_gets_the_first_answer_and_counts_once(client, one):
    stream = some_stream(one, 3)
    first, again = (client.predict(stream, key="edge-7/1") for _ in range(2))
    assert first == again and first[0] == 200
    assert client.metric("spic_pictures_total") == 3 and client.metric("spic_repeated_total") == 1
    assert client.get("/page/arrivals")["last"] == 3


def test_the_same_key_with_another_body_is_another_request(client, one):
    first, second = (client.predict(some_stream(one, pictures), key="1") for pictures in (1, 2))
    assert [len(told["answers"]) for _, told in (first, second)] == [1, 2]


def test_concurrent_repeats_share_one_computation(client, one, monkeypatch):
    gate = threading.Event()
    calls = slow(monkeypatch, one, gate)
    stream = some_stream(one)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(client.predict, stream, "same") for _ in range(4)]
        until(lambda: calls)
        time.sleep(0.2)
        gate.set()
        told = [future.result() for future in futures]
    assert told.count(told[0]) == 4 and calls == [[1]]
    assert client.metric("spic_pictures_total") == 1 and client.metric("spic_repeated_total") == 3


def test_kept_answers_are_bounded(one):
    with running(limits=Limits(answer_bytes=2000)) as client:
        for number in range(8):
            client.predict(some_stream(one, seed=number), key=str(number))
        assert 0 < client.service.answers.bytes <= 2000
        assert client.predict(some_stream(one, seed=0), key="0")[0] == 200
        assert client.metric("spic_pictures_total") == 9, "the oldest answer was forgotten, so it is computed anew"


def test_a_failed_request_is_no_answer_to_keep(client, one, monkeypatch):
    stream = some_stream(one)
    with monkeypatch.context() as patch:
        patch.setattr(type(one), "compute", lambda self, parts: 1 / 0)
        status, told = client.predict(stream, key="k")
        assert status == 500 and "ZeroDivision" not in str(told)
    assert client.predict(stream, key="k")[0] == 200


def test_told_to_stop_it_answers_what_it_took(one, monkeypatch):
    gate = threading.Event()
    calls = slow(monkeypatch, one, gate)
    with ThreadPoolExecutor(3) as pool:
        with running() as client:
            futures = [pool.submit(client.predict, some_stream(one, seed=number)) for number in range(3)]
            until(lambda: calls and client.service.batcher.pictures == 3)
            client.server.should_exit = True
            time.sleep(0.3)
            gate.set()
        assert [future.result()[0] for future in futures] == [200] * 3


def test_what_a_damaged_payload_spoils_is_its_own_request(client, one, monkeypatch):
    """Behind a lucky checksum: the coder refuses it, and those in the same batch are answered."""
    from spic.coding.stream import write_stream

    gate = threading.Event()
    calls = slow(monkeypatch, one, gate)
    damaged = write_stream(one.header, [b"\xff" * 900])
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(client.predict, some_stream(one))
        until(lambda: calls)
        futures = [pool.submit(client.predict, stream) for stream in (some_stream(one), damaged)]
        until(lambda: client.service.batcher.pictures == 3)
        gate.set()
        good, bad = (future.result() for future in futures)
    assert first.result()[0] == good[0] == 200
    assert bad[0] == 400 and "damaged" in bad[1]["error"]


def test_points_that_are_cut_at_one_place_share_one_back_in_memory():
    first, second = (one for one in served() if one.header.coder == "rans")
    assert first.point.split_point == "S1" and second.point.split_point == "US1"
    assert first.cloud.back is second.cloud.back and first.cloud.decoder is not second.cloud.decoder


def test_an_answer_leaves_at_once_and_a_dead_peer_is_given_up():
    """asyncio sets TCP_NODELAY only on sockets that name their protocol; those that a listening socket accepts do not."""
    class Transport:
        def get_extra_info(self, name):
            return {"socket": accepted}[name]

    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert not accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            connection._set_up(Transport())
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_answer_that_is_no_number_is_refused(one, value):
    logits = torch.zeros(one.benchmark.num_classes)
    logits[3] = value
    assert isinstance(one._reply(logits), StreamError)


def test_an_answer_of_numbers_whose_sum_is_none_is_answered(one):
    logits = torch.full((one.benchmark.num_classes,), 3e38)
    assert torch.isinf(logits.sum()) and one._reply(logits)["top"]
