"""HTTP/1.1 on one connection: uvicorn's protocol, with what it lacks.

- Bytes that are no body are counted: heads, trailers, chunk sizes, whatever call is running meanwhile. So are
  headers and trailers, which take many times their bytes.
- At most MAX_PIPELINED requests wait behind a running one, and their bodies are not read until their turn comes.
- A client that has closed only its sending side (a half-closed connection) gets its responses. Whether it has gone
  altogether, nothing but writing tells: while a call runs for long, interim responses are written (100 Continue,
  which every client of HTTP/1.1 must skip), and the system then says if nobody is there.
- Once a connection is lost, the running call is told, though others wait behind it.
- What is no HTTP gets a problem response, but never within a running call's response. So does too long a head,
  once the calls before it have theirs.

It uses what uvicorn does not document: tests/service/http/test_uvicorn_contract.py names all of it.
"""

import asyncio
from typing import Literal

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sfsc_service.errors import Problem
from sfsc_service.http.problems import problem_response
from sfsc_service.http.request_log import HEADER, request_id

__all__ = ["ABORT", "INTERIM", "Cause", "HttpProtocol", "raw_response"]

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
"""Of one request, trailers included."""
HEAD_RULE = f"head: must have at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers, found more"
MAX_PIPELINED = 16
PROBES_S = (0.5, 0.05, 0.5, 1.0, 2.0, 4.0)
"""Seconds from one interim response to the next, the last of them again and again. Where the client has gone, the
first one makes its system say so, and the second one fails."""
LINGER_S, LINGER_BYTES = 1.0, 16 * 1024 * 1024
"""How long, and how much, of what still comes is discarded after the last response: closing at once would take it
from a client that writes first and reads then."""
EMPTY_LINE = b"\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"

Cause = Literal["too_many", "no_head", "long_head", "pipelined", "unread"]

ABORT = "sfsc.abort"
"""Key of the ASGI scope that holds a function which drops the connection at once, and what is not sent yet."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a new connection."""
        super().connection_made(transport)
        self._overhead = self._discarded = 0
        self._at_eof = False
        self._probes = 0
        self._next_probe: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._last: Problem | None = None
        """The response that follows those of the calls that run or wait, and is the last one."""
        self._head_is_open = False
        self._running: RequestResponseCycle | None = None
        self.flow = _Flow(transport, self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that is gone."""
        for timer in (self._next_probe, self._lingering):
            if timer is not None:
                timer.cancel()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes of a head, of a body, or of both."""
        if self._last is not None:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.transport.abort()
            return
        self._progress = False
        self._received = len(data)
        self._body_bytes = self._bytes_of_last_body = 0
        super().data_received(data)
        if not self._progress:
            self._overhead += len(data)
        else:
            self._overhead = self._begun_head_bytes(data) if self._head_is_open else 0
        if self._overhead > MAX_HEAD_BYTES and not self._is_closing:
            self.drop("long_head")

    def drop(self, cause: Cause) -> None:
        """Close the connection because a bound was broken; say so where it is a bound of a request's head."""
        if cause == "long_head" and (self._is_free or not self.cycle.more_body):
            self._respond_last(Problem("head_too_large", HEAD_RULE))
        else:
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Stay open for the responses to requests that have come whole."""
        if self._lingering is not None or self.cycle is None or self.cycle.more_body or self._is_idle:
            return False
        self._at_eof = True
        if self._last is None:
            self.cycle.keep_alive = False  # of the last request: its response is the last one
        self._probe_later()
        return True

    def on_message_begin(self) -> None:
        """Begin with a request."""
        if len(self.pipeline) >= MAX_PIPELINED:
            self.drop("pipelined")
            raise ValueError("too many pipelined requests")  # ends the parser
        self._head_is_open = True
        self._bytes_of_last_body, self._body_bytes = self._body_bytes, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin with a request's body."""
        self.note_progress()
        if self._overhead + self._received > MAX_HEAD_BYTES and self._head_bytes > MAX_HEAD_BYTES:
            self.drop("long_head")
            raise ValueError("the head is too long")
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]
        super().on_headers_complete()
        if not self.pipeline:
            self._running = self.cycle

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header or a trailer."""
        if len(self.headers) >= MAX_HEADERS:
            self.drop("long_head")
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Receive a piece of a body."""
        self.note_progress(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request, its trailers included."""
        self.note_progress()
        super().on_message_complete()

    def note_progress(self, body_bytes: int = 0) -> None:
        """Note that what comes is no head without end: one is complete, or bytes of a body have come."""
        self._progress, self._head_is_open = True, False
        self._body_bytes += body_bytes

    def on_response_complete(self) -> None:
        """End a call, and begin with the next one that waits."""
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()
        if self._last is not None:
            self._respond_last(self._last)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Respond to what is no HTTP; say nothing where a response is under way."""
        if self._is_closing:
            return
        if self._is_free:
            self._respond_last(Problem("invalid_request", "request: must be HTTP/1.1, found something else"))
        else:
            self.transport.close()

    def _respond_last(self, problem: Problem) -> None:
        """Respond, once nothing runs, and close the connection once the client has closed it, or after a while."""
        self._last = problem
        if not self._is_free or self.transport.is_closing():
            return
        self.transport.write(raw_response(problem))
        if self.transport.can_write_eof():
            self._lingering = self.loop.call_later(LINGER_S, self.transport.close)
            self.transport.write_eof()
        else:
            self.transport.close()

    @property
    def _is_closing(self) -> bool:
        return self.transport.is_closing() or self._last is not None

    @property
    def _is_free(self) -> bool:
        return self.cycle is None or self._is_idle

    @property
    def _is_idle(self) -> bool:
        return bool(self.cycle.response_complete) and not self.pipeline

    @property
    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _begun_head_bytes(self, data: bytes) -> int:
        """How many of the received bytes belong to a head that began among them, behind another request.

        It is preceded by an empty line and the body of that request. Where there is such a line in the body, they
        are taken for fewer.
        """
        before = data.rfind(EMPTY_LINE)
        return len(data) - (before + len(EMPTY_LINE) if before >= 0 else 0) - self._bytes_of_last_body

    def _probe_later(self) -> None:
        delay = PROBES_S[min(self._probes, len(PROBES_S) - 1)]
        self._probes += 1
        self._next_probe = self.loop.call_later(delay, self._probe)

    def _probe(self) -> None:
        if self.transport.is_closing():
            return
        is_running = not self.pipeline and not self.cycle.response_started
        if is_running and self.cycle.scope["http_version"] == "1.1":
            self.transport.write(INTERIM)
        self._probe_later()


class _Flow(FlowControl):
    """Reads no further while requests wait behind a running one, or once nothing can follow."""

    def __init__(self, transport: asyncio.Transport, protocol: HttpProtocol) -> None:
        super().__init__(transport)
        self._protocol = protocol

    def resume_reading(self) -> None:
        """Read on, unless there is a reason not to; uvicorn calls this whenever a body is wanted."""
        if not self._protocol.pipeline and not self._protocol._at_eof:
            super().resume_reading()


def raw_response(problem: Problem) -> bytes:
    """A whole response, after which the connection is closed."""
    response = problem_response(problem, {"Connection": "close", HEADER.decode(): request_id(()).decode()})
    headers = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    return STATUS_LINE[response.status_code] + headers + b"\r\n" + bytes(response.body)
