"""How a request's body is taken: no more than is allowed, of this request and of all that are not answered yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request

from spic.cloud.limits import Limits
from spic.cloud.service import Refused


class Intake:
    """Counts the bytes of all bodies that are being received or answered."""

    def __init__(self, limits: Limits):
        self.limits, self.bytes = limits, 0

    async def use_body(self, request: Request, use: Callable[[bytes], Awaitable[bytes]]) -> bytes:
        """What ``use`` makes of the body, which counts until then; Refused where it is too large, or too many are."""
        body = bytearray()
        self._check(int(request.headers.get("content-length", "0")))
        try:
            async for part in request.stream():
                body += part
                self.bytes += len(part)
                self._check(len(body))
            return await use(bytes(body))
        finally:
            self.bytes -= len(body)

    def _check(self, size: int) -> None:
        if size > self.limits.body_bytes:
            raise Refused(413, f"a body of more than {self.limits.body_bytes} bytes; send several streams")
        if self.bytes > self.limits.memory_bytes:
            raise Refused(503, "too many requests arrive at once; send it again later")


def require_type(request: Request, *wanted: str) -> None:
    """Refuse another Content-Type, or none; no parameters are taken."""
    if request.headers.getlist("content-type") not in [[one] for one in wanted]:
        raise Refused(415, f"the Content-Type must be {' or '.join(wanted)}")


def source_of(request: Request) -> str:
    """Who sent it: the address of the connection; nothing that the sender says of itself."""
    return request.client.host if request.client else ""
