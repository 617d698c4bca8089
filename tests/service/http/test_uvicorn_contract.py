"""What http_protocol.py, connections.py and server.py use of uvicorn and httptools, none of which is documented.

A release that changes any of it fails here, by name, before it fails in a way that is hard to understand.
"""

import asyncio
import inspect
import re
import socket
import time

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from sfsc_service.http.connections import BoundedConnection
from sfsc_service.http.upgrade import ParserWithoutUpgrade
from sfsc_service.settings import Settings
from tests.service.live import Live, running

UNFINISHED = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n"

OVERRIDDEN = {
    "connection_made",
    "connection_lost",
    "data_received",
    "eof_received",
    "on_message_begin",
    "on_header",
    "on_headers_complete",
    "on_body",
    "on_message_complete",
    "on_response_complete",
    "_start_asgi_task",
}


@pytest.mark.parametrize(
    "name",
    ["pipeline", "cycle", "flow", "scope", "headers", "connections", "timeout_keep_alive_task", "parser", "loop"],
)
def test_the_state_of_a_connection(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(HttpToolsProtocol.__init__)


@pytest.mark.parametrize(
    "name",
    [
        "more_body",
        "response_started",
        "response_complete",
        "keep_alive",
        "scope",
        "disconnected",
        "message_event",
        "waiting_for_100_continue",
    ],
)
def test_the_state_of_a_call(name: str) -> None:
    assert f"self.{name} = " in inspect.getsource(RequestResponseCycle.__init__)


@pytest.mark.parametrize("name", sorted(OVERRIDDEN))
def test_the_callbacks_that_are_overridden(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name))


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_overridden_methods_are_called_as_they_were() -> None:
    for name in OVERRIDDEN:
        ours, theirs = getattr(BoundedConnection, name), getattr(HttpToolsProtocol, name)
        assert parameters(ours) == parameters(theirs), name
    assert parameters(uvicorn.Server.on_tick) == ["self", "counter"]
    assert inspect.iscoroutinefunction(uvicorn.Server.on_tick)
    assert parameters(uvicorn.Server.handle_exit) == ["self", "sig", "frame"]


def test_uvicorn_asks_its_parser_for_nothing_else() -> None:
    """The parser in its place (http/upgrade.py) has these methods."""
    asked = set(re.findall(r"self\.parser\.(\w+)", inspect.getsource(HttpToolsProtocol)))
    asked -= {"set_dangerous_leniencies"}
    assert asked == {"feed_data", "get_http_version", "get_method", "should_keep_alive", "should_upgrade"}
    assert asked <= set(vars(ParserWithoutUpgrade))
    assert "self.parser.feed_data(" in inspect.getsource(HttpToolsProtocol.data_received)
    assert "self._unset_keepalive_if_required()" in inspect.getsource(HttpToolsProtocol.data_received)


def test_a_parser_ends_a_request_at_its_offer_of_another_protocol_and_says_where() -> None:
    class Told:
        def on_message_complete(self) -> None: ...

    offer = b"POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as found:
        httptools.HttpRequestParser(Told()).feed_data(offer + b"abc")
    assert found.value.args == (len(offer),)


def test_a_call_that_is_marked_as_disconnected_sends_nothing() -> None:
    source = inspect.getsource(RequestResponseCycle.send)
    assert source.index("if self.disconnected:") < source.index("self.transport.write(")


def test_bodies_are_read_by_way_of_the_flow_that_is_replaced() -> None:
    assert list(inspect.signature(FlowControl.__init__).parameters) == ["self", "transport"]
    assert "self.flow.resume_reading()" in inspect.getsource(RequestResponseCycle.receive)
    assert "self.flow.resume_reading()" in inspect.getsource(HttpToolsProtocol.on_response_complete)


def test_requests_behind_a_running_one_wait_in_the_pipeline() -> None:
    assert "self.pipeline.appendleft(" in inspect.getsource(HttpToolsProtocol.on_headers_complete)
    assert "self.pipeline.pop()" in inspect.getsource(HttpToolsProtocol.on_response_complete)


def test_the_status_lines() -> None:
    assert STATUS_LINE[503] == b"HTTP/1.1 503 Service Unavailable\r\n"


def test_an_error_in_a_callback_ends_the_parser_at_once() -> None:
    """It is what refuses the rest of a chunk once a bound is broken."""

    class Refusing:
        begun = 0

        def on_message_begin(self) -> None:
            self.begun += 1
            raise ValueError

    refusing = Refusing()
    with pytest.raises(httptools.HttpParserError):
        httptools.HttpRequestParser(refusing).feed_data(b"GET / HTTP/1.1\r\n\r\n" * 3)
    assert refusing.begun == 1


def test_a_connection_has_the_state_that_its_bounds_are_checked_by(settings: Settings) -> None:
    """cycle: None before the first request, then the last one; the keep-alive timer runs between two."""
    with running(settings) as live, socket.create_connection(address_of(live), timeout=30) as client:
        connection = until_there(live, client)
        assert state(live, connection) == (None, None, False)
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        assert state(live, connection) == (True, True, True)
        client.sendall(UNFINISHED)
        end = time.monotonic() + 30
        while state(live, connection)[0]:
            assert time.monotonic() < end
        assert state(live, connection) == (False, True, False)


def address_of(live: Live) -> tuple[str, int]:
    host, port = live.url.removeprefix("http://").split(":")
    return host, int(port)


def until_there(live: Live, client: socket.socket) -> BoundedConnection:
    """The service's side of a client's connection."""

    async def find() -> BoundedConnection:
        while True:
            for connection in live.server.server_state.connections:
                if connection.client == client.getsockname():
                    return connection
            await asyncio.sleep(0.01)

    return asyncio.run_coroutine_threadsafe(find(), live.loop).result(30)


def state(live: Live, connection: BoundedConnection) -> tuple[bool | None, bool | None, bool]:
    """Whether the response is complete, whether there is a scope, whether the keep-alive timer runs."""

    async def look() -> tuple[bool | None, bool | None, bool]:
        cycle = connection.cycle
        return (
            None if cycle is None else cycle.response_complete,
            None if cycle is None else connection.scope is not None,
            connection.timeout_keep_alive_task is not None,
        )

    return asyncio.run_coroutine_threadsafe(look(), live.loop).result(30)
