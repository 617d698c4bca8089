"""Around every request: a bound on its body, security headers, metrics, and an answer whatever happens."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfsc_service.errors import Problem
from sfsc_service.http.problems import as_problem, problem_response
from sfsc_service.metrics import Metrics

__all__ = ["Edge", "Room"]

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
STALLED_S = 30.0
SLOWEST = 4096
"""Bytes a second that a body must come at, on average, after the first `STALLED_S`."""
SILENCE_S = 1.0
BODIES = 8
"""How many bodies of the largest size all requests together may hold."""

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
SECURITY = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Edge:
    """The outermost layer of the app, plain ASGI."""

    def __init__(self, app: ASGIApp, metrics: Metrics, room: "Room") -> None:
        self._app, self._metrics, self._room = app, metrics, room
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        metrics.open_requests.set_function(lambda: room.open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        self._room.open += 1
        exchange = _Exchange(receive, send, self._room)
        try:
            exchange.check_announced(_header(scope, b"content-length"))
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            problem = as_problem(error)
            self._metrics.problems.labels(problem.kind).inc()
            if exchange.status is None:
                if _header(scope, b"expect") is None:  # who asks first has not begun to send
                    await exchange.drain()
                await problem_response(problem, exchange.farewell())(scope, receive, exchange.send)
        finally:
            exchange.leave()
            self._room.open -= 1
            self._observe(scope, exchange.status or 499, time.monotonic() - started)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in METHODS else "other"
        series = self._series.get((method, route, status))
        if series is None:  # looking series up by their labels costs more than counting
            count = self._metrics.http_requests.labels(method, route, str(status))
            series = self._series[method, route, status] = count, self._metrics.http_seconds.labels(route)
        series[0].inc()
        series[1].observe(seconds)


@dataclass(slots=True)
class Room:
    """What all edges of an app share.

    `limit`: bytes of one body. `open`: requests that are not answered yet. `held`: bytes of their bodies.
    """

    limit: int
    open: int = 0
    held: int = 0


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send, room: Room) -> None:
        self._receive, self._send, self._room = receive, send, room
        self._size = 0
        self._ended = False
        self._waited_s = 0.0
        self.status: int | None = None

    def check_announced(self, content_length: bytes | None) -> None:
        """Refuse by the header, before anything is read. Raises Problem: body_too_large."""
        if content_length is not None and content_length.isdigit() and int(content_length) > self._room.limit:
            raise self._too_large(content_length.decode())

    async def receive(self) -> Message:
        """The next part of the body, as long as it and all others are within bounds."""
        if self._ended:
            return await self._next()
        began = time.monotonic()
        try:
            async with asyncio.timeout(STALLED_S):
                message = await self._next()
        except TimeoutError:
            raise Problem("body_stalled", f"body: nothing came for {STALLED_S:g} s", "body") from None
        self._waited_s += time.monotonic() - began
        if self._waited_s > STALLED_S + self._size / SLOWEST:
            raise Problem("body_stalled", f"body: it came at less than {SLOWEST} bytes a second", "body")
        if self._size > self._room.limit:
            await self.drain()
            raise self._too_large(f"{self._size} or more")
        if self._room.held > BODIES * self._room.limit:
            raise Problem(
                "queue_full", "body: too many bytes of other requests are being worked on", retry_after_s=1.0
            )
        return message

    async def drain(self) -> None:
        """Read on into nothing, for as much again: who is still sending would not see the answer."""
        end = self._size + self._room.limit
        with contextlib.suppress(TimeoutError):
            while not self._ended and self._size < end:
                message = await asyncio.wait_for(self._next(), SILENCE_S)
                self._ended = self._ended or message["type"] != "http.request"

    def farewell(self) -> dict[str, str]:
        """Headers for an answer to a body that has not been read to its end."""
        return {} if self._ended else {"Connection": "close"}

    def leave(self) -> None:
        """The request is over; its body takes no room any more."""
        self._room.held -= self._size

    async def send(self, message: Message) -> None:
        """Add the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            given = {name for name, _ in headers}
            headers.extend(header for header in SECURITY if header[0] not in given)
        await self._send(message)

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._size += size
            self._room.held += size
            self._ended = not message.get("more_body", False)
        return message

    def _too_large(self, found: str) -> Problem:
        return Problem(
            "body_too_large", f"body: must have at most {self._room.limit} bytes, found {found}", "body"
        )


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for found, value in scope["headers"] if found == name), None)
