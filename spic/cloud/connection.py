"""One connection: how many there may be, and how long a request may take to arrive. uvicorn itself bounds neither."""

from __future__ import annotations

import json
import socket
from functools import partial

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from spic.cloud.limits import RETRY_SECONDS, Limits

_WORDS = {
    400: "this is no HTTP request",
    408: "the request took too long to arrive",
    503: "too many connections; try again later",
}
_DEAD_SECONDS = 60
"""A peer that acknowledges nothing for so long is gone."""


class Connection(H11Protocol):
    """uvicorn's, with two clocks: to the end of a request's headers, and to the end of its body."""

    def __init__(self, *arguments, limits: Limits, **options):
        super().__init__(*arguments, **options)
        self.limits = limits
        self._clock, self._waits_for = None, None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        _set_up(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(503)
        else:
            self._set_clock()

    def connection_lost(self, exc) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._set_clock()

    def on_response_complete(self) -> None:
        self._stop_clock()
        super().on_response_complete()
        self._set_clock()  # the next request may have begun to arrive already

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is no HTTP; as JSON, like all others."""
        self._refuse(400)

    def _set_clock(self) -> None:
        """One clock runs from the first byte of a request; that of a whole request, or of none, is stopped."""
        state = self.conn.their_state
        idle = state is h11.IDLE and self.cycle is not None and not self.conn.trailing_data[0]
        waits_for = None if idle or state not in (h11.IDLE, h11.SEND_BODY) or self.transport.is_closing() else state
        if waits_for is not self._waits_for:
            self._stop_clock()
            self._waits_for = waits_for
            if waits_for is not None:
                seconds = self.limits.header_seconds if waits_for is h11.IDLE else self.limits.read_seconds
                self._clock = self.loop.call_later(seconds, self._refuse, 408)

    def _stop_clock(self) -> None:
        if self._clock:
            self._clock.cancel()
        self._clock, self._waits_for = None, None

    def _refuse(self, status: int) -> None:
        """The last answer of this connection, unless one has begun already."""
        if not self.transport.is_closing() and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(_last_words(status))
        self.transport.close()


def _last_words(status: int) -> bytes:
    body = json.dumps({"error": _WORDS[status]})
    retry = f"Retry-After: {RETRY_SECONDS}\r\n" if status == 503 else ""
    return (
        f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{retry}"
        f"Connection: close\r\n\r\n{body}"
    ).encode()


def _set_up(transport) -> None:
    """Head and body of an answer leave at once: asyncio sees to that only where a socket names its protocol, and one that listens
    does not; the body would wait for a round trip and 40 ms more. And a peer that vanished, or never reads its answer, is given up;
    where the system can (Linux)."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _DEAD_SECONDS)


def protocol(limits: Limits):
    """What uvicorn makes for each connection."""
    return partial(Connection, limits=limits)
