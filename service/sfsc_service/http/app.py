"""The FastAPI application, built by a function of its settings, and the one stack that every request passes."""

import asyncio
import contextlib
import importlib.metadata
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from sfsc_service.http.access import needs
from sfsc_service.http.address_cap import AddressCap
from sfsc_service.http.auth import Authentication
from sfsc_service.http.bounded_request import BodyMemory
from sfsc_service.http.edge import Edge
from sfsc_service.http.fast_path import FastPath
from sfsc_service.http.keys import KeyEntry, KeyRing
from sfsc_service.http.openapi import add_head_problem, add_keys, shared_schemas
from sfsc_service.http.parsing import Parsing
from sfsc_service.http.problems import add_error_handlers
from sfsc_service.http.raw_path_route import RawPathRoute
from sfsc_service.http.request_log import RequestLog
from sfsc_service.http.routes import (
    align,
    bulk,
    collections,
    demo_load,
    duplicates,
    embed,
    items,
    maintenance,
    openai,
    quality,
    samples,
    search,
    status,
    swagger,
    ui,
)
from sfsc_service.http.traced import Traced, open_provider
from sfsc_service.lifecycle.service import Service, open_service
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings, listed

__all__ = ["create_app"]

DESCRIPTION = "Visual search in which model size is a per-request decision: several widths, one gallery."
ROUTES = (
    embed,
    search,
    duplicates,
    items,
    bulk,
    collections,
    openai,
    status,
    quality,
    align,
    maintenance,
    samples,
    swagger,
    ui,
)
"""Every module of routes/, in the order of the documentation; each has a function `add_routes(app)`."""

CORS_HEADERS = ("X-Request-ID", "Traceparent", "Tracestate", "If-None-Match")
"""What pages of other origins may send beside a key and the type of a body."""


def create_app(
    settings: Settings,
    service: Service | None = None,
    own_keys: Mapping[str, KeyEntry] | None = None,
    *,
    with_demo_load: bool = False,
) -> FastAPI:
    """Build the application. Starting it opens the bundle and the store, ending it closes them.

    Args:
        service: a service that is open already; the application closes it all the same.
        own_keys: keys of this process's own, beside those of the file.
        with_demo_load: whether there are routes that load the service, for a demo (see routes/demo_load.py).

    Raises:
        StartError: the keys cannot be read, or traces are wanted and the extra `otel` is not installed.

    Starting raises what `open_service` raises, and StartError for a route that declares no access.
    """

    metrics = Metrics() if service is None else service.metrics
    version = importlib.metadata.version("sfsc")
    bodies = BodyMemory(settings.max_body_bytes, settings.max_body_bytes)
    traces = None if settings.otlp_url is None else open_provider(settings.otlp_url, version)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = service if service is not None else await asyncio.to_thread(open_service, settings, metrics)
        app.state.service = running
        app.state.parsing = Parsing()
        bodies.max_bytes, bodies.total_bytes = running.settings.max_body_bytes, running.memory.bodies
        own_work = asyncio.create_task(running.run())
        load = await demo_load.open_load(running, app.state.samples.values()) if with_demo_load else None
        app.state.load = load
        try:
            yield
        finally:
            own_work.cancel()
            if load is not None:
                load.close()
            await asyncio.to_thread(app.state.parsing.close)
            await asyncio.to_thread(running.close)
            if traces is not None:
                await asyncio.to_thread(traces.shutdown)

    app = _App(
        title="sfsc",
        version=version,
        description=DESCRIPTION,
        servers=[{"url": ".", "description": "where this document was read, below a proxy's prefix, too"}],
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Looking for a provider of OpenTelemetry would cost every request 3 µs while there is none.
        telemetry={
            "tracing": traces is not None,
            "tracer_provider": traces,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
        },
    )
    app.state.tracer = None if traces is None else traces.get_tracer("sfsc", version)
    app.state.settings = settings
    app.state.bodies = bodies
    app.state.metrics = metrics
    app.state.keys = KeyRing(settings.keys, own_keys)
    app.router.route_class = RawPathRoute
    add_error_handlers(app)
    for module in ROUTES:
        module.add_routes(app)
    if with_demo_load:
        demo_load.add_routes(app)
    return app


class _App(FastAPI):
    """FastAPI with the service's own layers around added middleware, and its own schemas in the document."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, which FastAPI builds on first use."""
        document = super().openapi()
        document["components"]["schemas"] |= shared_schemas()
        add_head_problem(document)
        if self.state.keys.asked_for:
            add_keys(document, self.routes)
        return document

    def setup(self) -> None:
        """Add FastAPI's own route, which is that of the document."""
        super().setup()
        for route in self.routes:
            needs("open")(route.endpoint)  # type: ignore[attr-defined]

    def build_middleware_stack(self) -> ASGIApp:
        """Build what every request passes, from the outside to the inside.

        The request's id; what believes a trusted proxy's headers and what answers pages of other origins, where
        settings name some; tracing, where it is on; the edge; the bound of an address, where one is set;
        authentication; middleware that was added with `add_middleware`, the last one first; the fast path, which
        answers the hottest routes itself and passes the others to FastAPI's router.

        Raises:
            StartError: a route declares no access.
        """
        added = self.user_middleware
        settings: Settings = self.state.settings
        tracer = self.state.tracer
        most = settings.max_requests_per_address
        self.user_middleware = [
            Middleware(RequestLog),
            *_around_the_edge(settings),
            *([] if tracer is None else [Middleware(Traced, tracer=tracer)]),
            Middleware(Edge, metrics=self.state.metrics, memory=self.state.bodies),
            *([] if most is None else [Middleware(AddressCap, most=most)]),
            Middleware(Authentication, routes=self.routes, keys=self.state.keys, settings=settings),
            *added,
            Middleware(FastPath, routes=self.routes),
        ]
        try:
            return super().build_middleware_stack()
        finally:
            self.user_middleware = added


def _around_the_edge(settings: Settings) -> list[Middleware]:
    """Layers of libraries that only some settings need; preflight requests of browsers end in the second one."""
    layers = []
    if proxies := listed(settings.trusted_proxies):
        layers.append(Middleware(ProxyHeadersMiddleware, trusted_hosts=list(proxies)))
    if origins := listed(settings.cors_origins):
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["*"],
                allow_headers=["Authorization", "X-API-Key", "Content-Type", *CORS_HEADERS],
                expose_headers=["ETag", "Retry-After", "Server-Timing", "X-Request-ID"],
            )
        )
    return layers
