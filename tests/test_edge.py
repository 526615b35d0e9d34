"""`spic edge` against a server: every picture is answered once, or reported with its reason, whatever happens on the way."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from edge_cases import Server, draw, free_port, say, serving, stub
from PIL import Image

from spic.coding.stream import read_stream
from spic.datasets.images import Preparation
from spic.datasets.pictures import read_rgb
from spic.edge import client as client_module
from spic.edge import sources
from spic.edge import sender as sender_module
from spic.edge.bundle import Bundle
from spic.edge.client import Away, Client, Denied, Refused
from spic.edge.command import main
from spic.errors import SpicError
from spic.pipeline import Cloud, Edge
from spic.points import load_points

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install '.[edge]'")
pytest.importorskip("urllib3", reason="needs urllib3: pip install '.[edge]'")
LATE = ["--split_point", "late", "--compress_factor", "1"]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(sender_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(sender_module, "LONGEST_PAUSE", 0.05)


@pytest.fixture(scope="module")
def headers(exported):
    bundle = Bundle.open(exported)
    return [bundle.header(point) for point in bundle.points]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder, 9, first=20)
    return folder


def run(capsys, *words):
    """(exit code, lines for pictures, summary or None, stderr)."""
    try:
        code = main([*map(str, words), "--json"])
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    summary = rows.pop()["summary"] if rows and "summary" in rows[-1] else None
    return code, rows, summary, said.err


def cloud_answers(points):
    """Answers of the real clouds, by point."""
    clouds = {point.name: Cloud.load(point, "rans") for point in points}

    @torch.inference_mode()
    def answer(header, payloads):
        cloud = clouds[header.point]
        logits = cloud.answer(torch.as_tensor(cloud.coder.decode(payloads, header.shape)))
        return [{"top": [{"class": int(row.argmax()), "name": "x", "score": float(row.softmax(0).max())}]}
                for row in logits]
    return answer


@torch.inference_mode()
def expected_classes(point, paths):
    """What edge and cloud of torch answer, all in this process."""
    edge, cloud = Edge.load(point, "rans"), Cloud.load(point, "rans")
    cloud.open(edge.header)
    images = torch.stack([Preparation(72, 64)(read_rgb(path)) for path in paths])
    return cloud(edge(images).frames).argmax(1).tolist()


# ---- end to end ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 4])
def test_the_answers_are_those_of_torch_on_both_sides(exported, headers, pictures, capsys, batch):
    points = load_points(exported.parent / "dict.yaml")
    server = Server(headers, cloud_answers(points.values()))
    with serving(server) as address:
        code, rows, summary, _ = run(capsys, exported, address, pictures, *LATE, "--batch", batch)
    assert code == 0 and summary["answered"] == 9 and summary["failed"] == 0
    paths = sorted(pictures.iterdir())
    assert [row["picture"] for row in rows] == [str(path) for path in paths]
    expected = expected_classes(points["classification", "mine", "late", 1], paths)
    assert [row["answer"]["top"][0]["class"] for row in rows] == expected
    assert len(server.counted) == -(-9 // batch) and summary["payload_bytes"] == sum(map(len, server.payloads))
    assert set(summary["milliseconds"]) == {"prepare", "network", "code", "wait", "answer", "cloud"}


def test_from_torch_without_a_bundle(exported, headers, pictures, capsys):
    server = Server(headers, stub)
    with serving(server) as address:
        code, rows, _, _ = run(capsys, exported.parent / "dict.yaml", address, pictures, "--benchmark", "mine", *LATE)
        through_onnx = len(server.payloads)
        assert code == 0 and through_onnx == len(rows) == 9
        run(capsys, exported, address, pictures, *LATE)
    same = sum(a == b for a, b in zip(server.payloads[:9], server.payloads[9:]))
    assert same >= 8, "the same bytes, but for a symbol on the edge of two"


BLOCKED = """
import sys
for name in ("torch", "torchvision", "scipy", "matplotlib", "yaml", "omegaconf", "pycocotools", "safetensors", "onnx"{more}):
    sys.modules[name] = None  # an import of it fails, as where it is not installed
from spic.cli import main
sys.exit(main({words}))
"""


@pytest.mark.parametrize("more", ["", ', "numba"'])
def test_an_edge_runs_where_torch_is_not_installed(exported, headers, pictures, more):
    server = Server(headers, stub)
    with serving(server) as address:
        words = ["edge", str(exported), address, str(pictures / "020.jpg"), *LATE, "--json"]
        done = subprocess.run([sys.executable, "-c", BLOCKED.format(more=more, words=words)], capture_output=True,
                              text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["summary"]["answered"] == 1
    assert ("numba is not installed" in done.stderr) == bool(more) and len(done.stderr.splitlines()) <= 1


def test_a_dict_yaml_where_torch_is_not_installed_is_one_line(exported, pictures):
    words = ["edge", str(exported.parent / "dict.yaml"), "localhost:1", str(pictures)]
    done = subprocess.run([sys.executable, "-c", BLOCKED.format(more="", words=words)], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "give a bundle instead" in done.stderr


def test_the_point_is_chosen_for_each_picture(exported, headers, pictures, capsys):
    server = Server(headers, stub)
    with serving(server) as address:
        code, rows, summary, _ = run(capsys, exported, address, pictures, "--target_ms", 10_000)
        assert code == 0 and len(summary["points"]) == 1 and len(rows) == 9
        best = max(Bundle.open(exported).points, key=lambda p: (p.measured["agreement"], p.measured["payload_bytes"])).name
        assert set(summary["points"]) == {best}
        code, _, summary, _ = run(capsys, exported, address, pictures, "--budget_kbps", 1000)
        assert code == 0 and summary["answered"] == 9


# ---- faults -------------------------------------------------------------------------------------------------------


def cut_the_connection(handler, body):
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def half_an_answer(handler, body):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    cut_the_connection(handler, body)


def counted_but_not_told(handler, body):
    """The server did the work, and the answer was lost."""
    handler.server.spic.predict(body, handler.headers["Idempotency-Key"])
    cut_the_connection(handler, body)


def status(code, **headers):
    return lambda handler, body: say(handler, code, {"error": "for a reason"},
                                     {k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize("fault", [cut_the_connection, half_an_answer, counted_but_not_told, status(503, Retry_After="0"),
                                   status(503, Retry_After="x"),
                                   status(502), status(429)])
def test_a_fault_on_the_way_loses_nothing_and_counts_nothing_twice(exported, headers, pictures, capsys, fault):
    server = Server(headers, stub)
    server.faults = [fault, fault]
    with serving(server) as address:
        code, rows, summary, _ = run(capsys, exported, address, pictures, *LATE)
    assert code == 0 and summary["answered"] == 9 and summary["failed"] == 0
    assert len(server.counted) == 9 and [row["picture"] for row in rows] == sorted(map(str, pictures.iterdir()))


def test_a_stream_that_the_server_refuses_is_reported_and_the_others_go_on(exported, headers, pictures, capsys):
    server = Server(headers, stub)
    server.faults = [status(413), lambda handler, body: say(handler, 200, {"answers": []}),
                     lambda handler, body: say(handler, 200, b"<html>")]
    with serving(server) as address:
        code, rows, summary, error = run(capsys, exported, address, pictures, *LATE)
    assert code == 2 and summary["answered"] == 6 and summary["failed"] == 3 and len(error.splitlines()) == 1
    assert "3 of 9 pictures failed; the first: " in error
    reasons = [row["error"] for row in rows if "error" in row]
    for why, expected in zip(reasons, ("413 for a reason", "something else than 1 answers", "no JSON object"), strict=True):
        assert expected in why


def test_bad_pictures_are_reported_and_the_others_go_on(exported, headers, pictures, capsys, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    Image.fromarray(np.zeros((3, 50, 3), np.uint8)).save(tmp_path / "small.png")
    server = Server(headers, stub)
    with serving(server) as address:
        code, rows, summary, error = run(capsys, exported, address, tmp_path, pictures, *LATE, "--batch", 4)
    assert code == 2 and summary["answered"] == 9 and summary["failed"] == 2 and "2 of 11 pictures failed" in error
    reasons = {os.path.basename(row["picture"]): row["error"] for row in rows if "error" in row}
    assert "cannot read the image" in reasons["broken.jpg"] and "too small" in reasons["small.png"]


def test_pictures_wait_on_disk_while_the_server_is_away_and_go_in_order_when_it_is_back(exported, headers, pictures,
                                                                                        capsys, tmp_path):
    spool, port = tmp_path / "spool", free_port()
    address = f"http://127.0.0.1:{port}"
    code, rows, _, error = run(capsys, exported, address, pictures, *LATE, "--spool", spool, "--patience", "0.2")
    assert code == 2 and not rows and "9 pictures wait" in error and error.splitlines()[-1].startswith("error: ")
    server = Server(headers, stub)
    with serving(server, port):
        code, rows, summary, _ = run(capsys, exported, address, "--spool", spool)
    assert code == 0 and summary["answered"] == 9 and len(server.counted) == 9
    assert [row["picture"] for row in rows] == sorted(map(str, pictures.iterdir()))


def test_a_watched_folder_is_taken_once_over_restarts(exported, headers, capsys, tmp_path, monkeypatch):
    draw(tmp_path / "in", 2)
    server = Server(headers, stub)

    def until(wanted):
        """Looks until so many pictures are answered, then a person presses Ctrl-C."""
        def pause(seconds):
            if sum(server.counted.values()) >= wanted:
                time.sleep(0.2)
                raise KeyboardInterrupt
            time.sleep(0.02)
        return functools.partial(sources.watch, pause=pause)
    watch = sources.watch
    with serving(server) as address:
        for wanted, add in ((2, 0), (3, 1)):
            draw(tmp_path / "in", add, first=5)
            monkeypatch.setattr(sources, "watch", until(wanted))
            code, rows, _, _ = run(capsys, exported, address, tmp_path / "in", "--follow", *LATE, "--spool",
                                   tmp_path / "spool")
            assert code == 130 and len(rows) == (2, 1)[add]
            monkeypatch.setattr(sources, "watch", watch)
    assert sum(server.counted.values()) == 3


def test_a_server_that_goes_and_comes_back_in_the_middle(exported, headers, pictures, capsys):
    server, port = Server(headers, stub), free_port()
    stopping = threading.Event()

    def answer_and_go(handler, body):
        say(handler, 200, server.predict(body, handler.headers["Idempotency-Key"]))
        stopping.set()
    server.faults = [answer_and_go]

    def restart():
        with serving(server, port):
            stopping.wait(60)
        time.sleep(0.3)
        with serving(server, port):
            done.wait(60)
    done, thread = threading.Event(), threading.Thread(target=restart)
    thread.start()
    time.sleep(0.2)
    code, rows, summary, _ = run(capsys, exported, f"127.0.0.1:{port}", pictures, *LATE)
    done.set()
    thread.join()
    assert code == 0 and summary["answered"] == 9 and len(server.counted) == 9


def test_without_a_spool_what_cannot_be_sent_is_reported_picture_by_picture(exported, headers, pictures, capsys):
    server = Server(headers, stub)
    server.faults = [status(503)] * 10_000
    with serving(server) as address:
        code, rows, summary, error = run(capsys, exported, address, pictures, *LATE, "--patience", "0.2")
    assert code == 2 and summary["failed"] == 9 and all("given up after" in row["error"] for row in rows)


def test_a_killed_edge_goes_on_from_its_spool(exported, headers, pictures, capsys, tmp_path):
    """kill -9 while the server refuses: what was coded waits on disk."""
    server = Server(headers, stub)
    server.faults = [status(503, Retry_After="0")] * 100_000
    with serving(server) as address:
        words = [str(exported), address, str(pictures), *LATE, "--spool", str(tmp_path / "spool")]
        edge = subprocess.Popen([sys.executable, "-m", "spic", "edge", *words], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(server.faults) > 99_995 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        edge.send_signal(signal.SIGKILL)
        edge.wait()
        server.faults.clear()
        code, rows, summary, _ = run(capsys, exported, address, "--spool", tmp_path / "spool")
    assert code == 0 and 1 <= summary["answered"] <= 9 and len(server.counted) == summary["answered"]


# ---- what the other side may be -----------------------------------------------------------------------------------


def test_a_token_is_sent_and_a_wrong_one_is_refused(exported, headers, pictures, capsys, tmp_path, monkeypatch):
    server = Server(headers, stub, token="secret")
    (tmp_path / "token").write_text("secret\n")
    with serving(server) as address:
        code, _, _, error = run(capsys, exported, address, pictures, *LATE)
        assert code == 2 and "401 no such token: the server refuses this token" in error and error.count("\n") == 1
        assert run(capsys, exported, address, pictures, *LATE, "--token_file", tmp_path / "token")[0] == 0
        monkeypatch.setenv("SPIC_TOKEN", "secret")
        assert run(capsys, exported, address, pictures, *LATE)[0] == 0


def test_a_token_crosses_no_open_network_unless_told():
    with pytest.raises(SpicError, match="--insecure"):
        Client("http://cloud.example", "secret")
    assert Client("http://cloud.example", "secret", insecure=True).address == "http://cloud.example:80"
    assert Client("https://cloud.example", "secret").address == "https://cloud.example:443"
    assert Client("[::1]", "secret").address == "http://[::1]:8765"


@pytest.mark.parametrize("server", ["", "ftp://x", "http://", "http://a b", "http://x/path", "http://user:word@x",
                                    "http://x:99999", "::::"])
def test_what_is_no_address_is_refused(server):
    with pytest.raises(SpicError, match="no address"):
        Client(server)


def test_another_table_or_point_on_the_other_side_says_both(exported, headers, pictures, capsys):
    from dataclasses import replace

    late = headers[-1]
    for theirs, message in ((replace(late, table="0" * 64), f"another table there: {'0' * 64}, here {late.table}"),
                            (replace(late, coder="huffman"), "another coder there: huffman, here rans"),
                            (replace(late, point="other/point/S1/0"),
                             f"serves no point {late.point}; it serves other/point/S1/0")):
        with serving(Server([theirs], stub)) as address:
            code, _, _, error = run(capsys, exported, address, pictures, *LATE)
        assert code == 2 and message in error and error.count("\n") == 1
    with serving(Server([replace(late, coder="huffman"), late], stub)) as address:
        assert run(capsys, exported, address, pictures / "020.jpg",
                   *LATE)[0] == 0, "a point may be served with several coders"


def test_an_answer_that_trickles_or_never_ends_is_given_up(headers, monkeypatch):
    def trickle(handler, body):
        """All of a good answer, a byte at a time, within a minute."""
        answer = json.dumps({"answers": stub(None, [b""])}).encode()
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(answer) + 600))
        for byte in b" " * 600 + answer:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.1)

    def flood(handler, body):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(300_000))
        handler.close_connection = True

    monkeypatch.setattr(client_module, "MOST_ANSWER_BYTES", 100_000)
    server = Server(headers, stub)
    server.faults = [trickle, flood]
    with serving(server) as address:
        client = Client(address, timeout=1.5)
        for _ in range(2):
            with pytest.raises(Away, match="over|timed out"):
                client.predict(b"", "key", 1)


@pytest.mark.parametrize("code,kind", [(400, Refused), (404, Refused), (301, Refused), (401, Denied), (403, Denied),
                                       (500, Away), (503, Away)])
def test_what_each_status_means(headers, code, kind):
    server = Server(headers, stub)
    server.faults = [status(code, Retry_After="7", Location="http://127.0.0.1:1/")]
    with serving(server) as address, pytest.raises(kind) as error:
        Client(address).predict(b"", "key", 1)
    assert getattr(error.value, "retry_after", 7) == 7


@pytest.mark.parametrize("words,message", [
    (["nowhere.zip", "localhost:1", "."], "no such bundle"),
    (["BUNDLE", "localhost:1", "nowhere.jpg"], "no such picture"),
    (["BUNDLE", "localhost:1"], "no INPUT"),
    (["BUNDLE", "localhost:1", "."], "choose one with"),
    (["BUNDLE", "localhost:1", ".", "--split_point", "S9"], "no such point; it holds"),
    (["BUNDLE", "127.0.0.1:1", ".", *LATE], "is the server there?"),
    (["BUNDLE", "no.such.host.invalid", ".", *LATE], "is the server there?"),
    (["BUNDLE", "localhost:1", ".", *LATE, "--benchmark", "scenes"], "a bundle says that itself"),
    (["BUNDLE", "localhost:1", ".", "--target_ms", "5", "--budget_kbps", "5"], "give one of them"),
    (["BUNDLE", "localhost:1", ".", *LATE, "--target_ms", "nan"], "not a number above 0"),
    (["BUNDLE", "localhost:1", ".", *LATE, "--batch", "0"], "not a whole number above 0"),
    (["BUNDLE", "localhost:1", ".", *LATE, "--token_file", "/nowhere"], "no readable token"),
    (["BUNDLE", "https://localhost:1", ".", *LATE, "--ca", "/nowhere"], "no such file"),
    (["BUNDLE", "localhost:1", ".", *LATE, "--fps", "2"], "no INPUT is one"),
])
def test_bad_input_is_one_line(exported, pictures, capsys, words, message):
    words = [str(exported) if word == "BUNDLE" else str(pictures) if word == "." else word for word in words]
    code, rows, summary, error = run(capsys, *words)
    assert code == 2 and not rows and summary is None
    assert message in error and error.count("\n") == 1, error


def test_the_body_is_one_whole_stream(exported, headers, pictures, capsys):
    bodies, server = [], Server(headers, stub)
    keep = server.predict
    server.predict = lambda body, key: (bodies.append(body), keep(body, key))[1]
    with serving(server) as address:
        run(capsys, exported, address, pictures, *LATE, "--batch", 5)
    assert [len(read_stream(body, headers[-1])[1]) for body in bodies] == [5, 4]
