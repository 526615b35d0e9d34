"""Who is let in, what is refused, and what no answer tells."""

import argparse
import json
import socket
import ssl
import subprocess
import sys

import pytest

from cloud_cases import Limits, point, running, served, some_stream, until
from spic.cloud.command import chosen, main, parser
from spic.cloud.gate import LOOPBACK_NAMES, is_loopback, read_token
from spic.coding.stream import StreamHeader, write_stream
from spic.errors import SpicError
from spic.protocol import STREAM

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def client():
    with running(
        hosts=LOOPBACK_NAMES, limits=Limits(body_bytes=100_000, pictures=20, header_seconds=1, read_seconds=2)
    ) as client:
        yield client


@pytest.fixture
def one():
    return served()[0]


def raw(port, *parts, seconds=10):
    """What a server sends to these bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


# ---- access ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/points", "/metrics", "/openapi.json", "/page/about", "/page/arrivals", "/nowhere"])
def test_with_a_token_nothing_is_told_without_it(path):
    with running(token=TOKEN) as client:
        status, headers, body = client.ask("GET", path, token=False)
        assert status == 401 and headers["WWW-Authenticate"] == "Bearer" and list(json.loads(body)) == ["error"]
        for wrong in ("Bearer ", f"Bearer {TOKEN}x", f"bearer {TOKEN}", TOKEN, "Bearer \xe9"):
            assert client.ask("GET", path, headers={"Authorization": wrong}, token=False)[0] == 401
        assert client.ask("GET", path)[0] in (200, 404)
        assert client.ask("GET", "/health", token=False)[0] == client.ask("GET", "/", token=False)[0] == 200


def test_a_stream_without_the_token_is_refused_and_the_sender_gets_to_read_it(one):
    with running(token=TOKEN) as client:
        status, _, body = client.ask("POST", "/v1/predict", bytes(900_000), {"Content-Type": STREAM}, token=False)
        assert status == 401 and b"token" in body
        assert client.predict(some_stream(one))[0] == 200


def test_a_page_under_a_name_of_its_own_does_not_reach_a_server_of_this_machine(client):
    assert client.ask("GET", "/page/arrivals", headers={"Host": "evil.example"})[0] == 421
    for name in ("localhost", "127.0.0.1:8765", "[::1]:8765"):
        assert client.ask("GET", "/page/arrivals", headers={"Host": name})[0] == 200


@pytest.mark.parametrize(
    "host,local",
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.3.3.3", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("example.org", False),
        ("localhost.evil.org", False),
    ],
)
def test_what_counts_as_this_machine(host, local):
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    "words,message",
    [
        (["--host", "0.0.0.0"], "needs --token_file and --tls_cert and --tls_key"),
        (["--host", "0.0.0.0", "--token_file", "T"], "needs --tls_cert and --tls_key"),
        (["--tls_cert", "c.pem"], "belong together"),
        (["--token_file", "short"], "at least 16"),
        (["--token_file", "nowhere"], "cannot be read as a token"),
        (["--benchmark", "nothing"], "unknown benchmark 'nothing'"),
        (["--split_point", "S9"], "unknown split point 'S9'"),
        (["--port", "65536"], "no port"),
        (["--pictures", "50", "--queue", "10"], "never fits --queue 10"),
        (["--device", "tpu"], "choose cpu, cuda or cuda:N"),
        (["--tls_cert", "T", "--tls_key", "T"], "no certificate with its key"),
        (["--host", "203.0.113.7", "--insecure"], "cannot listen there"),
        (["--coder", "zip"], "zip"),
        (["--split_point", "S1", "--task", "segmentation", "--benchmark", "coco"], "is no split"),
    ],
)
def test_bad_options_end_in_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "T").write_text(TOKEN)
    (tmp_path / "short").write_text("secret")
    try:
        assert main(words) == 2
    except SystemExit as ended:
        assert ended.code == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0]


def test_without_its_packages_the_command_says_how_to_get_them(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main([]) == 2
    assert capsys.readouterr().err == "error: spic cloud needs uvicorn: pip install 'spic-split[cloud]'\n"


def test_a_token_file_may_end_in_a_line_end(tmp_path):
    (tmp_path / "t").write_text(TOKEN + "\n")
    assert read_token(tmp_path / "t") == TOKEN
    (tmp_path / "t").write_text(f"{TOKEN} {TOKEN}")
    with pytest.raises(SpicError, match="one word"):
        read_token(tmp_path / "t")


def test_all_points_of_both_tasks_are_chosen_unless_told():
    args = parser().parse_args([])
    assert isinstance(args, argparse.Namespace) and args.host == "127.0.0.1" and args.token_file is None
    points = chosen(args)
    assert {p.task for p in points} == {"classification", "segmentation"} and {p.benchmark for p in points} == {"scenes"}
    assert point().with_tables(None) in points and len(points) == len(set(points)) > 40


def test_over_tls(tmp_path, one):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    try:
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                key,
                "-out",
                cert,
                "-days",
                "1",
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs openssl to make a certificate ({error})")
    with running(token=TOKEN, tls=(cert, key)) as client:
        context = ssl.create_default_context(cafile=cert)
        with (
            socket.create_connection(("127.0.0.1", client.port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(
                f"GET /v1/points HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
            )
            assert secure.recv(12) == b"HTTP/1.1 200"
        assert raw(client.port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") == b"", "nothing is answered without TLS"


# ---- what a request may be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [None, "application/json", "application/octet-stream", STREAM + "; charset=x", "", "multipart/form-data; boundary=x"],
)
def test_another_content_type_is_refused(client, one, kind):
    status, _, body = client.ask(
        "POST", "/v1/predict", some_stream(one), {"Content-Type": kind} if kind is not None else {}
    )
    assert status == 415 and STREAM in json.loads(body)["error"]


def test_two_content_types_are_refused(client, one):
    head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n" + 2 * f"Content-Type: {STREAM}\r\n"
    head += "Content-Length: 0\r\nConnection: close\r\n\r\n"
    assert raw(client.port, head.encode()).startswith(b"HTTP/1.1 415")


def test_too_large_a_body_is_refused_before_it_is_there(client):
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {STREAM}\r\n"
    whole = client.ask("POST", "/v1/predict", bytes(100_001), {"Content-Type": STREAM})
    assert whole[0] == 413 and b"100000 bytes" in whole[2]
    assert raw(client.port, f"{head}Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n".encode()).startswith(
        b"HTTP/1.1 413"
    )
    chunks = [b"4000\r\n" + bytes(0x4000) + b"\r\n"] * 8
    assert raw(client.port, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), *chunks, b"0\r\n\r\n").startswith(
        b"HTTP/1.1 413"
    )


def test_too_many_pictures_are_refused(client, one):
    assert client.predict(some_stream(one, 20))[0] == 200
    status, told = client.predict(some_stream(one, 21))
    assert status == 413 and "more than 20 pictures" in told["error"]


def test_too_many_symbols_are_refused(one):
    with running(limits=Limits(symbols=128 * 3)) as client:
        assert client.predict(some_stream(one, 3))[0] == 200
        assert client.predict(some_stream(one, 4))[0] == 413


def test_all_bodies_together_are_bounded(one):
    with running(limits=Limits(memory_bytes=1000)) as client:
        status, headers, _ = client.ask("POST", "/v1/predict", bytes(2000), {"Content-Type": STREAM})
        assert (status, headers["Retry-After"]) == (503, "1")
        assert client.predict(some_stream(one))[0] == 200, "what was refused is forgotten"


@pytest.mark.parametrize("key", ["x" * 201, "a\tb"])
def test_a_key_that_is_none_is_refused(client, one, key):
    status, told = client.predict(some_stream(one), key)
    assert status == 400 and "Idempotency-Key" in told["error"]


@pytest.mark.parametrize(
    "change,status,message",
    [
        ({"point": "classification/scenes/S9/1"}, 422, "'classification/scenes/S9/1' is not served"),
        ({"coder": "zip"}, 422, "coder 'zip' for classification/scenes/S1/1 is not served"),
        ({"table": "0" * 64}, 422, "another frequency table: '0000"),
        ({"shape": (8, 4, 5)}, 422, "another symbol shape: (8, 4, 5), this receiver expects (8, 4, 4)"),
        ({"image_size": (225, 224)}, 422, "another image size"),
    ],
)
def test_another_point_or_table_is_refused_and_both_sides_are_named(client, one, change, status, message):
    fields = {name: getattr(one.header, name) for name in ("point", "coder", "table", "shape", "image_size")} | change
    got, told = client.predict(write_stream(StreamHeader(**fields), []))
    assert got == status and message in told["error"]


@pytest.mark.parametrize(
    "damage,message",
    [
        (lambda s: b"", "the stream is empty"),
        (lambda s: s[:-1], "truncated"),
        (lambda s: s + b"\0", "bytes after the end"),
        (lambda s: s[:-5] + bytes([s[-5] ^ 1]) + s[-4:], "damaged"),
        (lambda s: s[:4] + b"\2" + s[5:], "format version 2, this program reads version 1"),
        (lambda s: b"JFIF" + s, "not a spic stream"),
    ],
)
def test_a_damaged_stream_is_refused_in_one_line(client, one, damage, message):
    status, told = client.predict(damage(some_stream(one, 2)))
    assert status == 400 and message in told["error"] and "\n" not in told["error"]
    assert client.predict(some_stream(one))[0] == 200


# ---- time and connections ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /health HT", f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {STREAM}\r\n".encode()],
)
def test_headers_that_do_not_come_end_the_connection(client, begun):
    assert raw(client.port, begun).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("length", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_ends_the_connection(client, length):
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {STREAM}\r\n".encode() + length + b"\r\n\r\n"
    answer = raw(client.port, head, b"5\r\nSPIC")
    assert answer.startswith(b"HTTP/1.1 408") and answer.count(b"HTTP/1.1") == 1


def test_a_second_request_of_a_connection_has_its_clock_too(client):
    answer = raw(client.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /hea")
    assert answer.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 408" in answer


def test_more_connections_than_allowed_are_told_to_come_again():
    with running(limits=Limits(connections=3)) as client:
        held = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(3)]
        until(lambda: len(client.server.server_state.connections) == 3)
        answer = raw(client.port)
        assert answer.startswith(b"HTTP/1.1 503") and b"Retry-After" in answer
        for connection in held:
            connection.close()
        until(lambda: not client.server.server_state.connections)
        assert client.ask("GET", "/health")[0] == 200


# ---- what answers tell -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method,path,status",
    [
        ("GET", "/v1/predict", 405),
        ("POST", "/health", 405),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/page/arrivals?after=x", 400),
        ("GET", "/page/arrivals/777777", 404),
        ("POST", "/page/try", 404),
        ("PUT", "/", 405),
    ],
)
def test_every_error_is_one_line_of_json(client, method, path, status):
    got, headers, body = client.ask(method, path)
    assert got == status and headers["Content-Type"] == "application/json"
    told = json.loads(body)
    assert list(told) == ["error"] and "\n" not in told["error"]


def test_what_is_no_http_is_answered_as_json(client):
    answer = raw(client.port, b"\x16\x03\x01\x02\x00nonsense\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400") and answer.endswith(b'"this is no HTTP request"}')


def test_no_answer_names_versions_or_files(client, one):
    for method, path in (("GET", "/"), ("GET", "/health"), ("GET", "/nowhere"), ("POST", "/v1/predict")):
        _, headers, body = client.ask(method, path)
        assert (
            "Server" not in headers
            and headers["X-Content-Type-Options"] == "nosniff"
            and "Content-Security-Policy" in headers
        )
        assert b"uvicorn" not in body and b"site-packages" not in body and b"/home" not in body


def test_a_failure_of_the_server_tells_nothing_but_that(client, one, monkeypatch, caplog):
    def fails(self, parts):
        raise RuntimeError("/secret/path is out of memory")

    monkeypatch.setattr(type(one), "compute", fails)
    status, told = client.predict(some_stream(one))
    assert status == 500 and told == {"error": "the server failed at this request; its own log says why"}
