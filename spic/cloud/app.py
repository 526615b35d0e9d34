"""The paths of the service, as a Starlette application."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spic.cloud.gate import Gate
from spic.cloud.intake import Intake, require_type, source_of
from spic.cloud.limits import RETRY_SECONDS
from spic.cloud.openapi import document
from spic.cloud.page import PATHS, Page
from spic.cloud.service import Refused, Service
from spic.cloud.trial import Trials
from spic.errors import StreamError
from spic.protocol import HEALTH, IDEMPOTENCY_KEY, METRICS, POINTS, PREDICT, STREAM


def make_app(service: Service, token: str | None = None, hosts: Collection[str] | None = None,
             trials: Trials | None = None) -> Starlette:
    """The application. token, hosts: see Gate. trials: what runs the edge half for the page's "try it", None for nothing."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await service.batcher.stop()

    def seen(status: int) -> None:
        service.metrics.requests.labels(status).inc()

    intake = Intake(service.limits)
    paths, page = Paths(service, intake), Page(service, intake, trials)
    return Starlette(routes=[*paths.routes(), *page.routes()], lifespan=lifespan, exception_handlers=_ERRORS,
                     middleware=[Middleware(Gate, token=token, hosts=hosts, open_paths=PATHS, seen=seen)])


class Paths:
    """What edges and their keepers ask for."""

    def __init__(self, service: Service, intake: Intake):
        self.service, self.intake = service, intake

    def routes(self) -> list[Route]:
        return [Route(PREDICT, self.predict, methods=["POST"]), Route(POINTS, self.points), Route(HEALTH, self.health),
                Route(METRICS, self.metrics), Route("/openapi.json", self.openapi)]

    async def predict(self, request: Request) -> Response:
        require_type(request, STREAM)
        start = time.perf_counter()
        key, source = request.headers.get(IDEMPOTENCY_KEY), source_of(request)

        async def answer(body: bytes) -> bytes:
            return await self.service.predict(body, key, source, time.perf_counter() - start)

        return Response(await self.intake.use_body(request, answer), media_type="application/json")

    async def points(self, request: Request) -> Response:
        return JSONResponse({"points": self.service.points()})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return Response(self.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(document(self.service.limits))


def _refused(request: Request, error: Refused) -> Response:
    return _error(error.status, str(error))


def _damaged(request: Request, error: StreamError) -> Response:
    return _error(400, str(error))


def _not_found(request: Request, error: HTTPException) -> Response:
    return _error(error.status_code, error.detail, dict(error.headers or {}))


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return _error(400, "the connection ended before the request did")


def _failed(request: Request, error: Exception) -> Response:
    return _error(500, "the server failed at this request; its own log says why")


def _error(status: int, why: str, headers: dict | None = None) -> Response:
    retry = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    return JSONResponse({"error": " ".join(why.split())}, status, {**(headers or {}), **retry})


_ERRORS = {Refused: _refused, StreamError: _damaged, HTTPException: _not_found, ClientDisconnect: _gone, Exception: _failed}
