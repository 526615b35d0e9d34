"""How much of anything a cloud takes from outside before it refuses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bytes, counts and seconds; each has its option of ``spic cloud`` or is documented in docs/deploy.md.

    body_bytes, pictures, symbols: of one request. memory_bytes: bodies of all requests together that are not answered yet.
    queue: pictures that wait. connections: open at a time. header_seconds: from the first byte of a request to the end of
    its headers. read_seconds: to the end of its body. idle_seconds: of a connection without a request. drain_seconds: for
    the requests that are taken when the server is told to stop. batch_ms: how long a picture waits for others of its point.
    answer_bytes: of answers kept for repeated requests. arrivals, maps: how many the page can show.
    """

    body_bytes: int = 16 << 20
    pictures: int = 1024
    symbols: int = 1 << 26
    memory_bytes: int = 256 << 20
    queue: int = 1024
    connections: int = 256
    header_seconds: float = 10.0
    read_seconds: float = 60.0
    idle_seconds: float = 60.0
    drain_seconds: float = 60.0
    batch_ms: float = 5.0
    answer_bytes: int = 64 << 20
    arrivals: int = 10_000
    maps: int = 200


KEY_BYTES = 200
"""Longest Idempotency-Key."""
RETRY_SECONDS = 1
"""What a refused client is told to wait; it should add some jitter of its own."""
