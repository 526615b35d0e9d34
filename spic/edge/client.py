"""The edge's side of spic/protocol.py: one connection that is kept, each answer checked, each failure of one of three kinds."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spic import __version__
from spic.coding.stream import StreamHeader
from spic.errors import SpicError, reason
from spic.protocol import HEALTH, IDEMPOTENCY_KEY, POINTS, PORT, PREDICT, STREAM

MOST_ANSWER_BYTES = 64 << 20
CONNECT_SECONDS = 5.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LATER = (408, 425, 429, 500, 502, 503, 504)


class Away(SpicError):
    """Not now: no connection, no answer in time, or an answer that says so. retry_after: seconds it asks for, or 0."""

    def __init__(self, message: str, retry_after: float = 0.0):
        super().__init__(message)
        self.retry_after = retry_after


class Refused(SpicError):
    """Not this stream, now or later; others may pass."""


class Denied(SpicError):
    """No stream of this edge: a refused token, or points that the server does not have."""


@dataclass(frozen=True)
class Answered:
    """What came back. answers: one for each picture. cloud_ms: what the server says it spent. seconds: from the first
    byte sent to the last one received."""

    answers: list[dict]
    cloud_ms: float
    seconds: float


class Client:
    """server: http://HOST[:PORT] or https://…; HOST[:PORT] alone means http, and PORT then is that of spic clouds.

    token: None for servers without. ca: a file with the certificates to believe, None for the system's. insecure: send the
    token over a connection that is not encrypted. SpicError: no such address, an unsafe one."""

    def __init__(self, server: str, token: str | None = None, timeout: float = 30.0, ca: Path | None = None,
                 insecure: bool = False):
        try:
            import urllib3
        except ImportError:
            raise SpicError("urllib3 is not installed, and the edge needs it: pip install urllib3") from None
        self._urllib3, self._timeout = urllib3, timeout
        self.address = _address(urllib3, server)
        here = urllib3.util.parse_url(self.address).host.strip("[]") in LOOPBACK
        if token and not insecure and not here and self.address.startswith("http:"):
            raise SpicError(f"{self.address}: the token would cross the network for all to read: use https, or --insecure")
        if ca is not None and not ca.is_file():
            raise SpicError(f"{ca}: no such file; --ca names certificates to believe, in PEM")
        self._headers = {"User-Agent": f"spic/{__version__}"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=1, retries=False, ca_certs=str(ca) if ca else None,
                                         timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=timeout))

    def predict(self, body: bytes, key: str, pictures: int) -> Answered:
        """One stream of so many pictures → its answers. Away, Refused or Denied where there are none."""
        start = time.perf_counter()
        found = self._ask("POST", PREDICT, body, {"Content-Type": STREAM, IDEMPOTENCY_KEY: key})
        seconds = time.perf_counter() - start
        answers, spent = found.get("answers"), found.get("milliseconds", {})
        known = isinstance(answers, list) and all(isinstance(answer, dict) for answer in answers)
        if not known or len(answers) != pictures:
            raise Refused(f"{self.address}: answered something else than {pictures} answers; is it a spic cloud?")
        return Answered(answers, _total(spent), seconds)

    def ping(self) -> float:
        """Seconds of the smallest question and answer."""
        start = time.perf_counter()
        self._ask("GET", HEALTH)
        return time.perf_counter() - start

    def require(self, headers: Sequence[StreamHeader]) -> None:
        """Denied where the server does not have these points, or not with this coder, table and shape: says both sides."""
        theirs = self._points()
        for header in headers:
            named = [entry for entry in theirs if entry["name"] == header.point]
            if not named:
                raise Denied(f"{self.address}: serves no point {header.point}; it serves "
                             f"{_some(dict.fromkeys(entry['name'] for entry in theirs))}")
            differences = [_difference(header, entry) for entry in named]  # a point may be served with several coders
            if all(differences):
                raise Denied(f"{self.address}: {header.point}: another {max(differences)[1]}; both sides need the same "
                             "point, coder and table")

    def _points(self) -> list[dict]:
        points = self._ask("GET", POINTS).get("points")
        if not isinstance(points, list) or not all(isinstance(p, dict) and isinstance(p.get("name"), str) for p in points):
            raise Denied(f"{self.address}: answered something else than its points; is it a spic cloud?")
        return points

    def _ask(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> dict:
        """The JSON object of a good answer."""
        try:
            response = self._pool.request(method, self.address + path, body=body, headers=self._headers | (headers or {}),
                                          redirect=False, preload_content=False)
            data = self._content(response)
        except self._urllib3.exceptions.LocationParseError as error:
            raise Denied(f"{self.address}: no address ({reason(error)})") from None
        except (self._urllib3.exceptions.HTTPError, OSError) as error:
            raise Away(f"{self.address}: {_cause(error)}") from None
        return self._judged(response, _parsed(data))

    def _content(self, response) -> bytes:
        """All of the answer, unless it is too long or takes too long: a byte now and then keeps no edge waiting."""
        deadline, parts, size = time.monotonic() + self._timeout, [], 0
        while part := response.read1(1 << 16):
            size += len(part)
            parts.append(part)
            if size > MOST_ANSWER_BYTES or time.monotonic() > deadline:
                response.close()
                raise Away(f"{self.address}: the answer is over {MOST_ANSWER_BYTES >> 20} MiB, or took over "
                           f"{self._timeout:g} s")
        response.release_conn()
        return b"".join(parts)

    def _judged(self, response, found) -> dict:
        said = found.get("error") if isinstance(found, dict) else None
        said = " ".join(str(said)[:300].split()) if said else response.reason or ""
        why = f"{self.address}: {response.status} {said}".rstrip()
        if response.status in (401, 403):
            raise Denied(f"{why}: the server refuses this token; give the right one in a file with --token_file, or in "
                         "SPIC_TOKEN")
        if response.status in _LATER:
            raise Away(why, self._retry_after(response))
        if response.status != 200:
            raise Refused(why)
        if not isinstance(found, dict):
            raise Refused(f"{self.address}: answered no JSON object; is it a spic cloud?")
        return found

    def _retry_after(self, response) -> float:
        """Seconds that the answer asks to wait (a number, or until a date), 0 where it says nothing readable."""
        try:
            return self._urllib3.Retry().get_retry_after(response) or 0.0
        except self._urllib3.exceptions.HTTPError:
            return 0.0


def _difference(header: StreamHeader, entry: dict) -> tuple[int, str] | None:
    """The first thing in which a point of the server is another one (how far down the list, and both sides' words)."""
    mine = (("coder", header.coder), ("table", header.table), ("shape", list(header.shape)),
            ("image_size", list(header.image_size)))
    return next(((place, f"{what.replace('_', ' ')} there: {str(entry.get(what))[:80]}, here {value}")
                 for place, (what, value) in enumerate(mine) if entry.get(what) != value), None)


def _address(urllib3, server: str) -> str:
    """scheme://host:port."""
    try:
        url = urllib3.util.parse_url(server if "://" in server else f"http://{server}")
    except urllib3.exceptions.HTTPError:
        raise SpicError(f"{server!r}: no address of a server; such as http://localhost:{PORT}") from None
    if url.scheme not in ("http", "https") or not url.host or url.path not in (None, "/") or url.query or url.auth:
        raise SpicError(f"{server!r}: no address of a server; such as http://localhost:{PORT} or https://HOST")
    default = PORT if "://" not in server else 443 if url.scheme == "https" else 80
    return f"{url.scheme}://{url.host}:{url.port or default}"


def _parsed(data: bytes):
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _cause(error: BaseException) -> str:
    """Why there was no answer, without the library's words about itself."""
    inner = error.args[-1] if error.args else None
    text = reason(inner if isinstance(inner, BaseException) else error)
    return text.rpartition(": ")[2] if "object at 0x" in text or "HTTPConnection" in text else text


def _total(spent) -> float:
    """Milliseconds of all stages that the server names, or what it calls their total."""
    named = spent.items() if isinstance(spent, dict) else ()
    numbers = {name: value for name, value in named if isinstance(value, (int, float))}
    return float(numbers.get("total", sum(numbers.values())))


def _some(names) -> str:
    known = list(names)
    return ", ".join(known[:6]) + (f" and {len(known) - 6} more" if known[6:] else "") or "none"

