"""Requests that are refused when their head is complete, before a body is kept and a task is made.

A refusal must cost less than an answer: under overload most requests are refused, many of them again and again.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from sfsc_service.errors import Problem
from sfsc_service.http.bounded_request import SECURITY_HEADERS
from sfsc_service.http.problems import problem_response
from sfsc_service.lifecycle.service import Service

__all__ = ["Admission", "Refusal"]

EMBEDDING = {b"/embed": "/embed", b"/v1/embeddings": "/v1/embeddings"}
"""Routes that embed whatever they are sent, by their paths."""
SEARCH, ITEM = b"/search", b"/items/"
IN_COLLECTION = re.compile(rb"/collections/[^/]+(?=/)")
IMAGES = (b"image/", b"multipart/form-data")
"""How the media types of bodies begin that hold an image; JSON may hold a vector, which needs no network."""
CACHE_S = 0.05
"""For how long a refusal serves for further requests."""

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response that is ready to be written, but for headers of the connection."""

    problem: Problem
    head: bytes
    body: bytes

    @classmethod
    def of(cls, problem: Problem, path: str = "") -> "Refusal":
        """The response to a request for a path that meets a problem."""
        response = problem_response(problem, path=path)
        head = b"".join(
            name + b": " + value + b"\r\n" for name, value in (*response.raw_headers, *SECURITY_HEADERS)
        )
        return cls(problem, STATUS_LINE[problem.status] + head, bytes(response.body))

    def with_headers(self, headers: Headers) -> bytes:
        """The whole response."""
        return self.head + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n" + self.body


class Admission:
    """Asks the service of an application, once it is open, whether its networks take more work."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._cors = app.state.settings.cors_origins is not None
        self._ready: dict[str, _Ready] = {}
        """By route."""

    def refusal(self, method: str, url: bytes, headers: Headers, waited_ms: float) -> Refusal | None:
        """The response to a request that would be refused anyway; counted in the metrics.

        Args:
            waited_ms: for how long it may have waited to be read.
        """
        path, _, query = url.partition(b"?")
        route = _embedding_route(method, path, headers)
        # A page of another origin cannot read a response without the headers that the application adds.
        if self._cors and any(name == b"origin" for name, _ in headers):
            return None
        service: Service | None = getattr(self._app.state, "service", None)
        if route is None or service is None or not service.embedder.batcher.is_full(waited_ms=waited_ms):
            return None
        ready = self._ready.get(route)
        if ready is None or time.monotonic() >= ready.until:
            try:
                service.embedder.batcher.check_not_full(waited_ms=waited_ms)
            except Problem as problem:
                ready = self._ready[route] = _Ready.of(problem, method, route, service)
            else:
                return None  # since a moment ago
        for counter in ready.counters:
            counter.inc()
        ready.deadlines[b"deadline_ms=" in query].inc()
        return ready.refusal


@dataclass(frozen=True, slots=True)
class _Ready:
    """The refusal of a route, `until` a time in seconds, monotonic, and what counts it.

    `deadlines`: by whether the request has a hard limit.
    """

    until: float
    refusal: Refusal
    counters: tuple[Counter, ...]
    deadlines: tuple[Counter, Counter]

    @classmethod
    def of(cls, problem: Problem, method: str, route: str, service: Service) -> "_Ready":
        metrics, floor = service.metrics, service.embedder.catalog.floor
        counters = (
            metrics.problems.labels(problem.code),
            metrics.http_requests.labels(method, route, str(problem.status)),
        )
        # Options are not read: without a width that is known, a request counts as one of the narrowest.
        soft, hard = (metrics.deadlines.labels(floor, limit, "refused") for limit in ("soft", "hard"))
        return cls(time.monotonic() + CACHE_S, Refusal.of(problem, route), counters, (soft, hard))


def _embedding_route(method: str, path: bytes, headers: Headers) -> str | None:
    """The path template of a request that certainly needs a network; None for any other."""
    if method == "POST" and path in EMBEDDING:
        return EMBEDDING[path]
    prefix = ""
    if (collection := IN_COLLECTION.match(path)) is not None:
        prefix, path = "/collections/{collection}", path[collection.end() :]
    if (method == "POST" and path == SEARCH) or (method == "PUT" and path.startswith(ITEM)):
        kind = next((value for name, value in headers if name == b"content-type"), b"").lower()
        if kind.startswith(IMAGES):
            return prefix + ("/search" if method == "POST" else "/items/{id}")
    return None
