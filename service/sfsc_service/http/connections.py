"""Bounds of a connection: how many there are, time for a request's head, time to read a response.

uvicorn bounds none of these. A connection that breaks a bound is closed without a response, because a client that
sends no head or reads nothing would not read one. Connections above the greatest number get a 503 response; some
are read as far as their first head before, so that health checks are answered. Calls begin a few at a time
(starts.py).

A request that would be refused for a full queue is refused here (admission.py). After a refusal its connection is
not read for a while, longer each time: clients that repeat at once would keep the event loop busy with refusals.
A trusted proxy's connections never rest, because they carry the requests of others, too.

One timer per connection checks the bounds now and then, so that requests do not pay for it.
"""

import asyncio
import functools
import ipaddress
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence

from fastapi import FastAPI
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from sfsc_service.errors import Problem
from sfsc_service.http.access import HEALTH_PATHS
from sfsc_service.http.admission import Admission, Refusal
from sfsc_service.http.arrival import ARRIVED, READ_AT, WAITED_MS
from sfsc_service.http.http_protocol import INTERIM, Cause, HttpProtocol
from sfsc_service.http.request_log import HEADER, OVERLOADED, request_id
from sfsc_service.http.starts import Starts
from sfsc_service.metrics import Metrics
from sfsc_service.settings import listed

__all__ = ["HAS_GONE", "BoundedConnection", "bounded_connections"]

HEAD_TIMEOUT_S = 10.0
UNREAD_TIMEOUT_S = 30.0
CHECK_INTERVAL_S = 2.5
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
"""How long a connection is not read after its first refusal, doubled with each further one, and at most; half of
SFSC_QUEUE_MS where that is less."""
WAITED_S = 0.25
"""What is read within this time after a pause had been sent before its end."""
HEALTH_CONNECTIONS = 32
"""Connections above the greatest number that are open for health checks at a time."""
HEALTH_HEAD_TIMEOUT_S = 1.0
CLOSE = (b"connection", b"close")
MAPPED = "::ffff:"
"""How a socket of IPv6 writes an address of IPv4 (RFC 4291, section 2.5.5.2)."""
HAS_GONE = "sfsc.has_gone"
"""Key of the ASGI scope that holds a function: whether the client has closed the connection."""
TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8
"""States of a connection in Linux's tcp_info: closed, and closed by the client for sending."""
FIRST_INTERIM_S = 0.15
"""Seconds between two interim responses to an upload, doubled each time: some clients take only a few."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BoundedConnection(HttpProtocol):
    """HTTP within bounds; at most `max_connections` are open at a time."""

    max_connections: int
    max_per_address: int | None
    per_address: Counter[str]
    metrics: Metrics
    admission: Admission
    too_many: Refusal
    longest_pause_s: float
    proxies: Sequence[Network]
    starts: Starts

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it where too many are open."""
        super().connection_made(transport)
        if self.client is not None:
            self.client = (self.client[0].removeprefix(MAPPED), self.client[1])
        self._unread_bytes = self._heads = self._checked_heads = self._refusals = 0
        self._headless_s = self._unread_s = 0.0
        self._refusal: Refusal | None = None  # of the request that is being read
        self._interim_at, self._interim_s = 0.0, FIRST_INTERIM_S
        self._next_check = self.loop.call_later(CHECK_INTERVAL_S, self._check)
        self._pause: asyncio.TimerHandle | None = None
        self._pause_s = self._read_again = 0.0
        self._first_head: asyncio.TimerHandle | None = None
        # uvicorn's limit_concurrency refuses requests, not connections: those that send nothing would pile up.
        above = len(self.connections) - self.max_connections
        self._address = self.client[0] if self.client else ""
        self._longest_pause_s = 0.0 if _is_within(self._address, self.proxies) else self.longest_pause_s
        self.per_address[self._address] += 1
        if self.max_per_address is not None and self.per_address[self._address] > self.max_per_address:
            above = max(above, 1)
        if above > HEALTH_CONNECTIONS:
            self._refuse_connection()
        elif above > 0:
            self._first_head = self.loop.call_later(HEALTH_HEAD_TIMEOUT_S, self._refuse_connection)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timers of a connection that is gone."""
        for timer in (self._next_check, self._pause, self._first_head):
            if timer is not None:
                timer.cancel()
        self.per_address[self._address] -= 1
        if not self.per_address[self._address]:
            del self.per_address[self._address]
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Note when a request's head was complete, as its handler may run much later; or refuse the request."""
        self.end_head()
        self._heads += 1
        self.scope[ARRIVED] = time.monotonic()  # type: ignore[literal-required]
        self.scope[HAS_GONE] = self.has_gone  # type: ignore[literal-required]
        if self._first_head is not None and self._is_above(self.url):
            return
        if self._between_requests:
            method = self.parser.get_method().decode("ascii")
            waited_ms = 1000 * self._pause_s if time.monotonic() - self._read_again < WAITED_S else 0.0
            self.scope[WAITED_MS] = waited_ms  # type: ignore[literal-required]
            self._refusal = self.admission.refusal(method, self.url, self.headers, waited_ms)
        if self._refusal is None:
            super().on_headers_complete()
            if self._first_head is not None:
                self.cycle.keep_alive = False
            return
        self.note_progress()
        if self.expect_100_continue:
            self._send_refusal(close=True)

    def on_body(self, body: bytes) -> None:
        """Receive a part of a body; that of a refused request is discarded."""
        if self._refusal is None:
            super().on_body(body)
        else:
            self.note_progress()

    def on_message_complete(self) -> None:
        """Note when a request has come whole; answer a refused one, whose client may not read before."""
        if self._refusal is None:
            if not self.pipeline:  # one that waits behind its own client's begins to wait for the service later
                self.scope[READ_AT] = time.monotonic()  # type: ignore[literal-required]
            super().on_message_complete()
        else:
            self._send_refusal(close=not self.parser.should_keep_alive())

    def on_response_complete(self) -> None:
        """Read the next request, after a while where the application has refused this one because of load."""
        overloaded = OVERLOADED in self.cycle.scope
        super().on_response_complete()
        if not overloaded:
            self._refusals = 0
        elif not self.pipeline and not self._is_closing:
            self._pause_reading()

    def has_gone(self) -> bool:
        """Whether the client has closed the connection, which unread bytes of a body hide; on Linux only.

        A client that has closed its sending side may still wait for the response. An interim response makes the
        system of one that does not say so, in time for the next call.
        """
        if self.transport.is_closing() or sys.platform != "linux":
            return self.transport.is_closing()
        state = self.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state == TCP_CLOSE_WAIT and time.monotonic() >= self._interim_at and self._may_write_interim:
            self._interim_at, self._interim_s = time.monotonic() + self._interim_s, 2 * self._interim_s
            self.transport.write(INTERIM)
        return bool(state == TCP_CLOSE)

    @property
    def _may_write_interim(self) -> bool:
        return not self.cycle.response_started and self.cycle.scope["http_version"] == "1.1"

    @property
    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_above(self, url: bytes) -> bool:
        """Refuse the first request of a connection above the greatest number unless it is a health check."""
        assert self._first_head is not None
        self._first_head.cancel()
        if url.partition(b"?")[0].decode("latin-1") in HEALTH_PATHS:
            return False
        self._refusal = self.too_many
        self._refuse_connection()
        return True

    def _refuse_connection(self) -> None:
        own = (HEADER, request_id(self.headers or ()))
        self.transport.write(self.too_many.with_headers([*self.server_state.default_headers, own, CLOSE]))
        self.drop("too_many")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.starts.begin(self.loop, functools.partial(super()._start_asgi_task, cycle, app))

    def _send_refusal(self, *, close: bool) -> None:
        assert self._refusal is not None
        if self.transport.is_closing():
            return
        own = [*self.server_state.default_headers, (HEADER, request_id(self.headers))]
        self.transport.write(self._refusal.with_headers([*own, CLOSE] if close else own))
        self._refusal = None
        if close:
            self.transport.close()
        else:
            self._pause_reading()

    def _pause_reading(self) -> None:
        self._unset_keepalive_if_required()
        self.flow.pause_reading()
        self._pause_s = min(FIRST_PAUSE_S * 2**self._refusals, self._longest_pause_s)
        self._refusals = min(self._refusals + 1, 10)
        self._pause = self.loop.call_later(self._pause_s, self._resume_reading)

    def _resume_reading(self) -> None:
        self._pause, self._read_again = None, time.monotonic()
        if not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            self.flow.resume_reading()

    def _check(self) -> None:
        # Between two requests uvicorn's keep-alive timer runs; the first byte of a head ends it.
        headless = (
            self._heads == self._checked_heads and self._between_requests and not self.timeout_keep_alive_task
        )
        self._headless_s = self._headless_s + CHECK_INTERVAL_S if headless else 0.0
        unread = self.transport.get_write_buffer_size()
        self._unread_s = self._unread_s + CHECK_INTERVAL_S if unread and unread == self._unread_bytes else 0.0
        self._checked_heads, self._unread_bytes = self._heads, unread
        self._next_check = self.loop.call_later(CHECK_INTERVAL_S, self._check)
        if self._unread_s >= UNREAD_TIMEOUT_S:
            self.transport.abort()
            self.metrics.refused_connections.labels("unread").inc()
        elif self._headless_s >= HEAD_TIMEOUT_S and not unread:
            if self._refusal is not None:  # the rest of its body does not come
                self._send_refusal(close=True)
            else:
                self.drop("no_head")

    def drop(self, cause: Cause) -> None:
        """Close the connection because a bound was broken, and count it."""
        self.metrics.refused_connections.labels(cause).inc()
        super().drop(cause)


def bounded_connections(app: FastAPI) -> type[BoundedConnection]:
    """Make the protocol class of the server of an application, by its settings."""
    most = app.state.settings.max_connections
    per_address = app.state.settings.max_connections_per_address
    detail = f"connections: at most {most} may be open"
    if per_address is not None:
        detail += f", {per_address} of one address"
    bounds = {
        "max_connections": most,
        "max_per_address": per_address,
        "per_address": Counter(),
        "metrics": app.state.metrics,
        "admission": Admission(app),
        "proxies": [ipaddress.ip_network(one) for one in listed(app.state.settings.trusted_proxies)],
        "longest_pause_s": min(LONGEST_PAUSE_S, app.state.settings.queue_ms / 2000),
        "too_many": Refusal.of(Problem("too_many_connections", detail, retry_after_s=0.0)),
        "starts": Starts(),
    }
    return type("Connection", (BoundedConnection,), bounds)


def _is_within(address: str, networks: Sequence[Network]) -> bool:
    return bool(address and networks) and any(ipaddress.ip_address(address) in one for one in networks)
