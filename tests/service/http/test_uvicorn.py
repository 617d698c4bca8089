"""What http/connections.py and http/server.py use of uvicorn beyond its documentation is still there.

A release of uvicorn that changes one of these must fail here, by name, not as a connection that is never closed.
"""

import asyncio
import inspect
import socket
import time

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from sfsc_service.http.connections import BoundedConnection
from sfsc_service.settings import Settings
from tests.service.live import Live, running

UNFINISHED = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n"
OVERRIDDEN = ("connection_made", "connection_lost", "data_received", "on_headers_complete")


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_overridden_methods_are_called_as_they_were() -> None:
    for name in OVERRIDDEN:
        ours, theirs = getattr(BoundedConnection, name), getattr(HttpToolsProtocol, name)
        assert parameters(ours) == parameters(theirs), name
    assert parameters(uvicorn.Server.on_tick) == ["self", "counter"]
    assert inspect.iscoroutinefunction(uvicorn.Server.on_tick)
    assert parameters(uvicorn.Server.handle_exit) == ["self", "sig", "frame"]


def test_a_status_line_is_the_whole_line() -> None:
    assert STATUS_LINE[503] == b"HTTP/1.1 503 Service Unavailable\r\n"


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
