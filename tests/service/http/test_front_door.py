"""One front door: whatever layer is added, every request passes it, hot or not, known path or not."""

import asyncio
import re
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sfsc_service.errors import Problem
from sfsc_service.http.app import create_app
from sfsc_service.http.auth import Authentication
from sfsc_service.http.collection import collection_of
from sfsc_service.http.fast_path import FAST_PATHS, FastPath
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import JPEG, running

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW")
UNROUTED = ("/nowhere", "/embed/", "//search", "/items/a%2Fb", "/items/", "/docs/..%2Fapp.py")


class Refusing:
    """Middleware that lets no request in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def paths(app: FastAPI) -> list[str]:
    """Every path of the route table, its parameters filled in, and some that no route has."""
    routed = [re.sub(r"\{\w+\}", "x", route.path) for route in app.routes if isinstance(route, APIRoute)]
    fast = {path.format(collection="x") for path in FAST_PATHS}
    assert fast | {"/items/x/image", "/metrics", "/livez", "/", "/docs"} <= set(routed)
    return [*routed, *UNROUTED]


def responses(app: FastAPI) -> dict[tuple[str, str], httpx.Response]:
    """What every method on every path is answered, by an application that has opened no bundle and no store."""

    async def ask() -> dict[tuple[str, str], httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return {
                (method, path): await client.request(method, path) for path in paths(app) for method in METHODS
            }

    return asyncio.run(ask())


def test_every_request_passes_middleware_that_is_added(settings: Settings) -> None:
    app = create_app(settings)
    app.add_middleware(Refusing)
    for call, response in responses(app).items():
        assert response.status_code == 401, call
        assert "default-src" in response.headers["content-security-policy"], f"{call}: the edge is outside"


def test_every_request_passes_authentication(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule in its place needs no more than to raise a problem."""

    async def refuse(*_: object) -> None:
        raise Problem("invalid_request", "a test lets nobody in")

    monkeypatch.setattr(Authentication, "__call__", refuse)
    app = create_app(settings)
    seen: list[str] = []
    app.add_middleware(_noting(seen))
    for call, response in responses(app).items():
        assert response.status_code == 400, call
        assert response.headers["content-type"] == "application/problem+json", call
    assert seen == [], "added middleware is inside authentication"


def test_middleware_sees_the_fast_paths_of_a_real_server(settings: Settings) -> None:
    seen: list[str] = []
    with running(settings, lambda app: app.add_middleware(_noting(seen))) as live:
        seen.clear()
        for path in FAST_PATHS:
            path = path.format(collection="default")
            assert live.http.post(path, content=draw_image(1), headers=JPEG).status_code == 200
        assert live.http.post("/nowhere").status_code == 404
        assert live.http.get("/embed").status_code == 405
    assert seen == ["/embed", "/search", "/collections/default/search", "/nowhere", "/embed"]


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("POST", "/search", "default"),
        ("POST", "/collections/bikes/search", "bikes"),
        ("POST", "/collections/b%69kes/search", "passed on"),
        ("POST", "/collections/bikes/items/search", "passed on"),
        ("GET", "/collections/bikes/search", "passed on"),
    ],
)
def test_the_fast_path_knows_the_collection_of_a_search(method: str, path: str, answer: str) -> None:
    routes = FastAPI()

    @routes.post("/search")
    @routes.post("/collections/{collection}/search")
    async def search(request: Request) -> PlainTextResponse:
        return PlainTextResponse(collection_of(request))

    async def ask() -> str:
        transport = httpx.ASGITransport(FastPath(PlainTextResponse("passed on"), routes.routes))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return (await client.send(client.build_request(method, httpx.URL(f"http://service{path}")))).text

    assert asyncio.run(ask()) == answer


def _noting(seen: list[str]) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware that notes the path of every request and lets it through."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                seen.append(scope["path"])
            await app(scope, receive, send)

        return call

    return middleware
