"""What one connection may take: time and bytes for a request's head, time to read an answer.

uvicorn itself bounds none of these. A connection that breaks a rule is closed without an answer, because who
sends no head or reads nothing would not read one; those above the greatest number are told 503.

One timer per connection looks at it now and then, so that requests pay for none of this.
"""

import asyncio
import time
from typing import Any, Literal

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sfsc_service.http.arrival import ARRIVED
from sfsc_service.metrics import Metrics

__all__ = ["BoundedConnection", "bounded_connections"]

HEAD_S = 10.0
HEAD_BYTES = 64 * 1024
UNREAD_S = 30.0
LOOK_S = 2.5
HEAD = b"HTTP/1.1 "

Cause = Literal["too_many", "no_head", "long_head", "unread"]


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's protocol within bounds; `most` connections are served at a time."""

    most: int
    metrics: Metrics

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(_Joining(transport))
        self._head_bytes = self._unread_bytes = 0
        self._headless_s = self._unread_s = 0.0
        self._seen = self.cycle
        self._look_again = self.loop.call_later(LOOK_S, self._look)
        if len(self.connections) > self.most:
            transport.write(_too_many(self.most))
            self._refuse("too_many")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._look_again.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of a head, or of a body, or both."""
        before = self.cycle
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if self.cycle is before and self._between_requests else 0
        if self._head_bytes > HEAD_BYTES:
            self._refuse("long_head")

    def on_headers_complete(self) -> None:
        """A request's head is there; where many are, its handler has to wait for its turn."""
        self.scope[ARRIVED] = time.monotonic()  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """An answer is over, perhaps without a body."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    @property
    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _look(self) -> None:
        # Between two requests uvicorn's own timer runs, and ends with the first byte of a head.
        headless = self.cycle is self._seen and self._between_requests and self.timeout_keep_alive_task is None
        self._headless_s = self._headless_s + LOOK_S if headless else 0.0
        unread = self.transport.get_write_buffer_size()
        self._unread_s = self._unread_s + LOOK_S if unread and unread == self._unread_bytes else 0.0
        self._seen, self._unread_bytes = self.cycle, unread
        self._look_again = self.loop.call_later(LOOK_S, self._look)
        if self._unread_s >= UNREAD_S:
            self.transport.abort()
            self.metrics.refused_connections.labels("unread").inc()
        elif self._headless_s >= HEAD_S and not unread:
            self._refuse("no_head")

    def _refuse(self, cause: Cause) -> None:
        self.metrics.refused_connections.labels(cause).inc()
        self.transport.close()


class _Joining(asyncio.Transport):
    """Sends an answer's head together with what follows it, because uvloop makes a packet of each write."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, unless it is a head."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data))
        elif data[: len(HEAD)] == HEAD and data[len(HEAD) : len(HEAD) + 1] != b"1":  # 100 asks for the body
            self._head = bytes(data)
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send a head that nothing follows."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)

    def close(self) -> None:
        """Send what is left, then close."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close without sending what is left."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it has been closed."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the socket."""
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Take nothing more from the client."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on taking from the client."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who is told of what comes."""
        self._transport.set_protocol(protocol)


def bounded_connections(most: int, metrics: Metrics) -> type[BoundedConnection]:
    """The protocol of one server."""
    return type("Connection", (BoundedConnection,), {"most": most, "metrics": metrics})


def _too_many(most: int) -> bytes:
    document = {
        "type": "urn:sfsc:problem:too_many_connections",
        "title": "Too many connections are open",
        "status": 503,
        "detail": f"connections: at most {most} may be open",
        "code": "too_many_connections",
    }
    body = orjson.dumps(document)
    head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    return f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
