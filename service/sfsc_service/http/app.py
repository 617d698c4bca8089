"""The ASGI application, built by a function of its settings."""

import asyncio
import contextlib
import importlib.metadata
from collections.abc import AsyncIterator, Container
from urllib.parse import unquote

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from sfsc_service.http.edge import Edge, Room
from sfsc_service.http.fast_path import FastPath
from sfsc_service.http.openapi import describe
from sfsc_service.http.problems import add_problems
from sfsc_service.http.routes.bulk import add_bulk
from sfsc_service.http.routes.embed import add_embed
from sfsc_service.http.routes.items import add_items
from sfsc_service.http.routes.samples import add_samples
from sfsc_service.http.routes.search import add_search
from sfsc_service.http.routes.status import add_about
from sfsc_service.http.routes.swagger import add_docs
from sfsc_service.http.routes.ui import add_page
from sfsc_service.lifecycle.service import Service, open_service
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings

__all__ = ["create_app"]

DESCRIPTION = "Visual search in which model size is a per-request decision: several widths, one gallery."


def create_app(settings: Settings, service: Service | None = None) -> FastAPI:
    """Build the application; starting it opens bundle and store, ending it closes them.

    Args:
        service: opened already (the caller then knows why it could not be); closed by the app all the same.

    Starting raises what `open_service` raises.
    """

    metrics = Metrics() if service is None else service.metrics

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = service if service is not None else await asyncio.to_thread(open_service, settings, metrics)
        app.state.service = running
        watch = asyncio.create_task(running.health.watch())
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.to_thread(running.close)

    app = _App(
        title="sfsc",
        version=importlib.metadata.version("sfsc"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.router.route_class = _RouteBySentPath
    room = Room(settings.max_body_bytes)
    app.add_middleware(Edge, metrics=metrics, room=room)
    add_problems(app)
    for add in (add_embed, add_search, add_items, add_bulk, add_about, add_samples, add_docs, add_page):
        add(app)
    describe(app)
    direct = FastPath(app)
    app.hot, app.direct = direct.calls, Edge(direct, metrics, room)
    return app


class _App(FastAPI):
    """Sends hot calls past FastAPI's own layers, which take longer than a narrow network computes."""

    hot: Container[tuple[str, bytes]] = ()
    direct: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["method"], scope.get("raw_path")) in self.hot:
            await self.direct(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _RouteBySentPath(APIRoute):
    """Matches the path as it was sent, before percent-decoding, so that an id may hold an encoded slash."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raw: bytes | None = scope.get("raw_path")
        sent = scope if raw is None else {**scope, "path": raw.split(b"?")[0].decode("latin-1")}
        match, found = super().matches(sent)
        for name, value in found.get("path_params", {}).items():
            # What is no UTF-8 becomes surrogates, which the rules for ids refuse with a sentence.
            found["path_params"][name] = unquote(value, errors="surrogateescape") if raw else value
        return match, found
