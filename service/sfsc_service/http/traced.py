"""Traces for an OTLP receiver: FastAPI makes the span of a request, its steps become spans inside of it."""

import importlib.util
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from opentelemetry.trace import Tracer, get_current_span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfsc_bundle.extras import installing
from sfsc_service.engine.tracing import trace_steps
from sfsc_service.errors import StartError
from sfsc_service.http.query_source import LIMITS

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["Traced", "check_extra", "open_provider"]

EXPORT_TIMEOUT_S = 2.0
"""Of one batch of spans; short, because the end of the service waits for the last one."""
SHOWN_OPTIONS = (*LIMITS, "k", "crop", "encoding", "limit", "vectors")
HIDDEN = "REDACTED"
"""In place of the value of every other option: metadata, filters and vectors are the caller's data."""


def check_extra() -> None:
    """Raise StartError where the extra `otel` is not installed."""
    if not all(importlib.util.find_spec(f"opentelemetry.{module}") for module in ("sdk", "exporter")):
        raise StartError(f"otlp_url: needs the extra otel: {installing('otel')}")


def open_provider(url: str, version: str) -> "TracerProvider":
    """A provider whose spans go to the OTLP receiver (HTTP, protobuf) at `url`; to be shut down.

    Raises StartError as `check_extra`.
    """
    check_extra()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "sfsc", "service.version": version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class Traced:
    """ASGI layer around every request, only there while tracing is on: its steps are recorded, its span is named.

    FastAPI's router names the span by itself, but the fast path goes past it. Its query loses the caller's data.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace_steps(self._tracer)
        span = get_current_span()
        if scope["query_string"]:
            span.set_attribute("url.query", _without_data(scope["query_string"]))

        async def name_and_send(message: Message) -> None:
            if message["type"] == "http.response.start" and (route := scope.get("route")) is not None:
                span.update_name(f"{scope['method']} {route.path}")
                span.set_attribute("http.route", route.path)
            await send(message)

        await self._app(scope, receive, name_and_send)


def _without_data(query: bytes) -> str:
    """A query string with the values of `SHOWN_OPTIONS` alone."""
    options = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return urlencode([(name, value if name in SHOWN_OPTIONS else HIDDEN) for name, value in options])
