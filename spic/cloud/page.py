"""The page at /: what arrives, for a person. One file, nothing from outside; the page itself holds no data, so it needs no
token, and asks for it where the server has one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spic.cloud.intake import Intake, require_type, source_of
from spic.cloud.service import Refused, Service
from spic.cloud.trial import FORMATS, Trials

PATHS = ("/",)
"""Open without a token."""
MOST_ROWS = 2000
"""Arrivals of one answer; the page asks again for the rest."""


class Page:
    """The page and the paths that it asks."""

    def __init__(self, service: Service, intake: Intake, trials: Trials | None):
        self.service, self.intake, self.trials = service, intake, trials
        self.html = resources.files("spic.cloud").joinpath("page.html").read_text("utf-8")
        self.policy = content_policy(self.html)

    def routes(self) -> list[Route]:
        return [
            Route("/", self.show),
            Route("/page/about", self.about),
            Route("/page/arrivals", self.arrivals),
            Route("/page/arrivals/{number:int}", self.arrival),
            Route("/page/try", self.trial, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        return Response(
            self.html, media_type="text/html; charset=utf-8", headers={"content-security-policy": self.policy}
        )

    async def about(self, request: Request) -> Response:
        served = self.service.served.values()
        return JSONResponse(
            {
                "points": self.service.points(),
                "trial": self.trials is not None,
                "classes": {one.header.point: one.colours for one in served if one.colours},
            }
        )

    async def arrivals(self, request: Request) -> Response:
        after = _number(request.query_params.get("after", "0"))
        rows = self.service.arrivals.after(after, self.service.limits.arrivals)[:MOST_ROWS]
        return JSONResponse({"last": self.service.arrivals.last, "rows": rows})

    async def arrival(self, request: Request) -> Response:
        answer = self.service.arrivals.answer(request.path_params["number"])
        if answer is None:
            raise Refused(404, "this answer is kept no longer")
        return JSONResponse(answer)

    async def trial(self, request: Request) -> Response:
        if self.trials is None:
            raise Refused(404, "this server takes no pictures: it was started without --try")
        require_type(request, *FORMATS)
        served = self.service.find(request.query_params.get("point", ""), request.query_params.get("coder", ""))

        async def answer(body: bytes) -> bytes:
            stream, picture = await self.service.batcher.in_thread(
                self.trials.send, served, body, request.headers["content-type"]
            )
            said = json.loads(await self.service.predict(stream, source=f"{source_of(request)} (try it)"))
            return json.dumps({**said, "picture": picture, "sent_bytes": len(stream)}).encode()

        return Response(await self.intake.use_body(request, answer), media_type="application/json")


def content_policy(html: str) -> str:
    """Only what stands in the page itself may run or paint, and it may only ask this server."""

    def of(tag: str) -> str:
        digest = hashlib.sha256(re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)[1].encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    return (
        f"default-src 'none'; script-src {of('script')}; style-src {of('style')}; img-src data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Refused(400, "after: a whole number")
    return int(text)
