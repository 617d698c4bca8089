"""HTTP/1.1 on one connection: uvicorn's protocol, with what it lacks.

- Bytes that are no body are counted: heads, trailers, chunk sizes, whatever call is running meanwhile. So are
  headers and trailers, which take many times their bytes.
- At most MAX_PIPELINED requests wait behind a running one, and their bodies are not read until their turn comes.
- A bound that is broken, or what is no HTTP, costs no response to the requests before it: they get theirs first,
  and then a problem is the last response. It takes the place of the response to a request that cannot be read to
  its end, unless that one has begun. Nothing more is read meanwhile; afterwards it is discarded, for a while.
- A client that has closed only its sending side (a half-closed connection) gets its responses. Whether it has gone
  altogether, nothing but writing tells: while a call runs for long, interim responses are written (100 Continue,
  which every client of HTTP/1.1 must skip), and the system then says if nobody is there.
- Once a connection is lost, the running call is told, though others wait behind it.
- A request that offers another protocol is answered in this one (upgrade.py).

It uses what uvicorn does not document: tests/service/http/test_uvicorn_contract.py names all of it.
"""

import asyncio
from typing import Literal, assert_never

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sfsc_service.errors import Problem
from sfsc_service.http.problems import problem_response
from sfsc_service.http.request_log import HEADER, request_id
from sfsc_service.http.upgrade import ParserWithoutUpgrade

__all__ = ["ABORT", "INTERIM", "Cause", "HttpProtocol", "raw_response"]

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
"""Of one request, trailers included."""
HEAD_RULE = f"head: must have at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers, found more"
NO_HTTP = "request: must be HTTP/1.1, found something else"
PIECE = 16 * 1024
"""Bytes that are parsed at a time. A head that begins among them behind another request has this many at most
before they are counted; once it is complete, it is measured."""
LINE_BYTES = 4
"""Of a header beside name and value: a colon, a space, the line's end."""
MAX_PIPELINED = 16
PIPELINE_RULE = f"pipelined requests: at most {MAX_PIPELINED} may wait behind a running one, found more"
PROBES_S = (0.5, 0.05, 0.5, 1.0, 2.0, 4.0)
"""Seconds from one interim response to the next, the last of them again and again. Where the client has gone, the
first one makes its system say so, and the second one fails."""
LINGER_S, LINGER_BYTES = 1.0, 16 * 1024 * 1024
"""How long, and how much, of what still comes is discarded after the last response: closing at once would take it
from a client that writes first and reads then. It is read no faster than that, so that discarding costs little."""
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"

Cause = Literal["too_many", "no_head", "long_head", "pipelined", "unread"]

ABORT = "sfsc.abort"
"""Key of the ASGI scope that holds a function which drops the connection at once, and what is not sent yet."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a new connection."""
        super().connection_made(transport)
        self.parser = ParserWithoutUpgrade(self)  # type: ignore[assignment]
        self._overhead = self._discarded = self._trailers = 0
        self._is_in_head = True
        self._at_eof = False
        self._probes = 0
        self._next_probe: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._next_discard: asyncio.TimerHandle | None = None
        self._last: Problem | None = None
        """The response that follows those of the calls that run or wait, and is the last one."""
        self._running: RequestResponseCycle | None = None
        self.flow = _Flow(transport, self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that is gone."""
        for timer in (self._next_probe, self._lingering, self._next_discard):
            if timer is not None:
                timer.cancel()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes of a head, of a body, or of both."""
        self._unset_keepalive_if_required()
        for at in range(0, len(data), PIECE):
            if self._is_closing:
                self._discard(len(data) - at)
                return
            self._parse(data[at : at + PIECE])

    def _parse(self, piece: bytes) -> None:
        self._progress = False
        self._received = len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserError:
            self._respond_last(Problem("invalid_request", NO_HTTP))
        self._overhead = 0 if self._progress else self._overhead + len(piece)
        if self._overhead > MAX_HEAD_BYTES and not self._is_closing:
            self.drop("long_head")

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > LINGER_BYTES:
            self.transport.close()
        elif self._lingering is not None and not self.transport.is_closing():
            self.flow.pause_reading()
            self._next_discard = self.loop.call_later(LINGER_S * count / LINGER_BYTES, self.flow.resume_reading)

    def drop(self, cause: Cause) -> None:
        """Close the connection because a bound was broken; say so where it is a bound of requests."""
        match cause:
            case "long_head":
                self._respond_last(Problem("head_too_large", HEAD_RULE))
            case "pipelined":
                self._respond_last(Problem("queue_full", PIPELINE_RULE))
            case "too_many" | "no_head" | "unread":
                self.transport.close()
            case _:
                assert_never(cause)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Stay open for the responses to requests that have come whole; TLS knows no half-closed connections."""
        is_over = self._lingering is not None or self._is_free or self.scheme == "https"
        if is_over or not self._give_up_unfinished():
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
        super().on_message_begin()
        self._is_in_head, self._trailers = True, 0

    def on_headers_complete(self) -> None:
        """Begin with a request's body."""
        self.end_head()
        self.note_progress()
        if self._overhead + PIECE + self._received > MAX_HEAD_BYTES and self._head_bytes > MAX_HEAD_BYTES:
            self.drop("long_head")
            raise ValueError("the head is too long")
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]
        super().on_headers_complete()
        if not self.pipeline:
            self._running = self.cycle

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header, or a trailer, which only counts: it is no header (RFC 9110, section 6.5.1)."""
        if len(self.headers) + self._trailers >= MAX_HEADERS:
            self.drop("long_head")
            raise ValueError("too many headers")
        if self._is_in_head:
            super().on_header(name, value)
        else:
            self._trailers += 1

    def end_head(self) -> None:
        """Note that a head is complete; HTTP/1.0 knows no interim responses (RFC 9110, section 10.1.1)."""
        self._is_in_head = False
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False

    def on_body(self, body: bytes) -> None:
        """Receive a piece of a body."""
        self.note_progress()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request, its trailers included."""
        self.note_progress()
        super().on_message_complete()

    def note_progress(self) -> None:
        """Note that what comes is no head without end: one is complete, or bytes of a body have come."""
        self._progress = True

    def on_response_complete(self) -> None:
        """End a call, and begin with the next one that waits."""
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()
        self._write_last()

    def _respond_last(self, problem: Problem) -> None:
        """Respond behind the calls that run or wait, or in the place of one whose request cannot be read on.

        The connection is closed once the client has closed it, or after a while.
        """
        if self._is_closing:
            return
        self._last = problem
        if not self._is_free and not self._give_up_unfinished() and not self._replace_running():
            self.transport.close()
        self._write_last()

    def _write_last(self) -> None:
        if self._last is None or self.transport.is_closing():
            return
        if not self._is_free:
            self.flow.pause_reading()
            if self._next_probe is None:
                self._probe_later()
            return
        self.transport.write(raw_response(self._last))
        if self._at_eof:
            self.transport.close()
            return
        self._lingering = self.loop.call_later(LINGER_S, self.transport.close)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def _give_up_unfinished(self) -> bool:
        """Forget the last request if its body has not come whole and it waits behind others.

        Whether what is left has come whole.
        """
        if self.cycle.more_body and self.pipeline:
            self.pipeline.popleft()
            assert self._running is not None
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
        return not self.cycle.more_body

    def _replace_running(self) -> bool:
        """End the running call, whose request cannot be read on, so that another response takes its place.

        False where its own has begun.
        """
        call = self.cycle
        if call.response_started:
            return False
        call.disconnected = call.response_started = call.response_complete = True
        call.waiting_for_100_continue = False  # what reads on would ask for a body behind the last response
        call.message_event.set()
        return True

    @property
    def is_ending(self) -> bool:
        """Whether the last response is known and has to wait for others."""
        return self._last is not None and self._lingering is None

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
        fields = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.url) + fields + LINE_BYTES * len(self.headers)

    def _probe_later(self) -> None:
        delay = PROBES_S[min(self._probes, len(PROBES_S) - 1)]
        self._probes += 1
        self._next_probe = self.loop.call_later(delay, self._probe)

    def _probe(self) -> None:
        if self.transport.is_closing() or self._lingering is not None:
            return
        is_running = not self.pipeline and not self.cycle.response_started
        if is_running and self.cycle.scope["http_version"] == "1.1":
            self.transport.write(INTERIM)
        self._probe_later()


class _Flow(FlowControl):
    """Reads no further while requests wait behind a running one, or where nothing can follow."""

    def __init__(self, transport: asyncio.Transport, protocol: HttpProtocol) -> None:
        super().__init__(transport)
        self._protocol = protocol

    def resume_reading(self) -> None:
        """Read on, unless there is a reason not to; uvicorn calls this whenever a body is wanted."""
        if not self._protocol.pipeline and not self._protocol._at_eof and not self._protocol.is_ending:
            super().resume_reading()


def raw_response(problem: Problem) -> bytes:
    """A whole response, after which the connection is closed."""
    response = problem_response(problem, {"Connection": "close", HEADER.decode(): request_id(()).decode()})
    headers = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    return STATUS_LINE[response.status_code] + headers + b"\r\n" + bytes(response.body)
