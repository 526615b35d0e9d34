"""Before any path is looked at: whose request it is, and what every answer carries; after it: no trace in any answer."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Callable, Collection
from pathlib import Path

from spic.errors import SpicError
from spic.protocol import HEALTH

MIN_TOKEN = 16
_DRAINED = 1 << 20
_HEADERS = {
    "x-content-type-options": "nosniff", "cache-control": "no-store", "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin", "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach a server at this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: Path) -> str:
    """The secret in a file, its line end apart."""
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise SpicError(f"{path}: cannot be read as a token; make one: python3 -c 'import secrets; "
                        f"print(secrets.token_urlsafe())' > {path}") from None
    if len(token) < MIN_TOKEN or not token.isprintable() or " " in token:
        raise SpicError(f"{path}: a token is one word of at least {MIN_TOKEN} printable characters")
    return token


class Gate:
    """ASGI middleware. token: None lets everyone in. hosts: the names by which the server may be called, None for any:
    a page in a browser must not reach a server of this machine under a name of its own (DNS rebinding).

    open_paths: answered without a token. seen: told the status of each answer.
    """

    def __init__(self, app, token: str | None, hosts: Collection[str] | None, open_paths: Collection[str],
                 seen: Callable[[int], None]):
        self.app, self.hosts, self.seen = app, hosts, seen
        self.open_paths = {HEALTH, *open_paths}
        self.expected = None if token is None else b"Bearer " + token.encode()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body = _Body(scope, receive)
        status, why = self._refusal(scope)

        async def send_on(message) -> None:
            if message["type"] == "http.response.start":
                self.seen(message["status"])
                await body.drain()
                own = {name for name, _ in message["headers"]}
                extra = _HEADERS | ({} if body.ended else {"connection": "close"})
                message["headers"] = [*message["headers"], *((name.encode(), value.encode()) for name, value in extra.items()
                                                             if name.encode() not in own)]
            await send(message)

        if status:
            return await _say(send_on, status, why)
        await self.app(scope, body.receive, send_on)

    def _refusal(self, scope) -> tuple[int, str]:
        """(status, why) of a request that goes no further, else (0, "")."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if self.hosts is not None and name.lower() not in self.hosts:
            return 421, "this server is called by another name; use localhost"
        given = headers.get(b"authorization", b"")
        if self.expected and scope["path"] not in self.open_paths and not hmac.compare_digest(given, self.expected):
            return 401, "the token is missing or wrong: Authorization: Bearer TOKEN"
        return 0, ""


async def _say(send, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Body:
    """The body of a request; before an answer that did not need it, a moderate rest of it is taken in and forgotten, so
    that the sender gets to read the answer. What is left then ends the connection."""

    def __init__(self, scope, receive):
        headers = dict(scope["headers"])
        self._receive = receive
        self.ended = b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0"
        self._asks = b"expect" in headers

    async def receive(self):
        message = await self._receive()
        self.ended = self.ended or not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        taken = 0
        while not self.ended and not self._asks and taken < _DRAINED:
            taken += len((await self.receive()).get("body", b""))
