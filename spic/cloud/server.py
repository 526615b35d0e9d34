"""uvicorn around the application: a socket, TLS, limits, and an end that answers what was taken."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import uvicorn

from spic.cloud.connection import protocol
from spic.cloud.limits import Limits
from spic.errors import SpicError, reason


_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; uvicorn's own choice leaves only old ones. TLS 1.3 has its own."""


class Server(uvicorn.Server):
    """ready: called once requests are answered."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]):
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.ready()


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to this address; port 0 takes a free one. SpicError where it cannot be had."""
    try:
        ((family, _, _, _, address), *_) = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or reason(error)
        raise SpicError(
            f"--host {host} --port {port}: cannot listen there ({why}); choose another port or address of this machine"
        ) from None


def check_tls(certificate: Path, key: Path) -> None:
    """SpicError unless the files are a certificate (with its chain) and its key, without a password."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise SpicError(
            f"--tls_cert {certificate} --tls_key {key}: no certificate with its key, both PEM, the key without a "
            f"password ({reason(error)})"
        ) from None


def make_server(
    app, limits: Limits, tls: tuple[Path, Path] | None = None, ready: Callable[[], None] = lambda: None
) -> Server:
    """A server for the application, to be run on a socket. tls: files of the certificate and of the key."""
    certificate, key = tls or (None, None)
    return Server(
        uvicorn.Config(
            app,
            http=protocol(limits),
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=limits.drain_seconds,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            ssl_ciphers=_CIPHERS,
        ),
        ready,
    )


def address(listening: socket.socket, tls: bool) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http{'s' * tls}://{f'[{host}]' if ':' in host else host}:{port}"


def run(server: Server, listening: socket.socket) -> None:
    """Until the process is told to end (SIGINT, SIGTERM)."""
    try:
        asyncio.run(server.serve([listening]))
    except KeyboardInterrupt:
        pass  # uvicorn ends what it took first, and then passes the interruption on
