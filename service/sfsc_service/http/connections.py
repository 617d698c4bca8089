"""Bounds of a connection: how many there are, time for a request's head, time to read a response.

uvicorn bounds none of these. A connection that breaks a bound is closed without a response, because a client that
sends no head or reads nothing would not read one; a connection above the greatest number gets a 503 response.

One timer per connection checks the bounds now and then, so that requests do not pay for it.
"""

import asyncio
import time

from sfsc_service.errors import Problem
from sfsc_service.http.arrival import ARRIVED
from sfsc_service.http.http_protocol import Cause, HttpProtocol, raw_response
from sfsc_service.metrics import Metrics

__all__ = ["BoundedConnection", "bounded_connections"]

HEAD_TIMEOUT_S = 10.0
UNREAD_TIMEOUT_S = 30.0
CHECK_INTERVAL_S = 2.5


class BoundedConnection(HttpProtocol):
    """HTTP within bounds; at most `max_connections` are open at a time."""

    max_connections: int
    metrics: Metrics

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it where too many are open."""
        super().connection_made(transport)
        self._unread_bytes = 0
        self._headless_s = self._unread_s = 0.0
        self._checked_cycle = self.cycle
        self._next_check = self.loop.call_later(CHECK_INTERVAL_S, self._check)
        # uvicorn's limit_concurrency refuses requests, not connections: those that send nothing would pile up.
        if len(self.connections) > self.max_connections:
            transport.write(raw_response(_refusal(self.max_connections)))
            self.drop("too_many")

    def connection_lost(self, exc: Exception | None) -> None:
        """End the checks of a connection that is gone."""
        self._next_check.cancel()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Note when a request's head was complete; under load its handler runs much later."""
        self.scope[ARRIVED] = time.monotonic()  # type: ignore[literal-required]
        super().on_headers_complete()

    @property
    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _check(self) -> None:
        # Between two requests uvicorn's keep-alive timer runs; the first byte of a head ends it.
        headless = (
            self.cycle is self._checked_cycle and self._between_requests and not self.timeout_keep_alive_task
        )
        self._headless_s = self._headless_s + CHECK_INTERVAL_S if headless else 0.0
        unread = self.transport.get_write_buffer_size()
        self._unread_s = self._unread_s + CHECK_INTERVAL_S if unread and unread == self._unread_bytes else 0.0
        self._checked_cycle, self._unread_bytes = self.cycle, unread
        self._next_check = self.loop.call_later(CHECK_INTERVAL_S, self._check)
        if self._unread_s >= UNREAD_TIMEOUT_S:
            self.transport.abort()
            self.metrics.refused_connections.labels("unread").inc()
        elif self._headless_s >= HEAD_TIMEOUT_S and not unread:
            self.drop("no_head")

    def drop(self, cause: Cause) -> None:
        """Close the connection because a bound was broken, and count it."""
        self.metrics.refused_connections.labels(cause).inc()
        super().drop(cause)


def bounded_connections(max_connections: int, metrics: Metrics) -> type[BoundedConnection]:
    """Make the protocol class of one server."""
    return type("Connection", (BoundedConnection,), {"max_connections": max_connections, "metrics": metrics})


def _refusal(max_connections: int) -> Problem:
    """What a connection that is one too many is answered."""
    return Problem(
        "too_many_connections", f"connections: at most {max_connections} may be open", retry_after_s=0.0
    )
