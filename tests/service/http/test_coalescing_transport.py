"""A response's head leaves together with its body: one system call, one packet."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from sfsc_service.http.connections import BoundedConnection
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running


@pytest.fixture
def sent(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Live, list[bytes]]]:
    """A service, and what it gives to its sockets, a system call each."""
    calls: list[bytes] = []

    class Watched(asyncio.Transport):
        def __init__(self, transport: asyncio.Transport) -> None:
            super().__init__()
            self._transport = transport

        def write(self, data: Any) -> None:
            calls.append(bytes(data))
            self._transport.write(data)

        def writelines(self, parts: Iterable[Any]) -> None:
            given = list(parts)
            calls.append(b"".join(given))
            self._transport.writelines(given)

        def __getattribute__(self, name: str) -> Any:
            own = ("write", "writelines", "_transport", "__dict__")
            return object.__getattribute__(self, name) if name in own else getattr(self._transport, name)

    made = BoundedConnection.connection_made
    monkeypatch.setattr(
        BoundedConnection, "connection_made", lambda self, transport: made(self, Watched(transport))
    )
    with running(settings) as live:
        calls.clear()
        yield live, calls


def test_a_response_is_one_write(sent: tuple[Live, list[bytes]]) -> None:
    live, calls = sent
    calls.clear()
    response = live.http.post("/embed", content=draw_image(0), headers=JPEG)
    (call,) = calls
    assert call.startswith(b"HTTP/1.1 200 OK\r\n")
    assert call.endswith(response.content)


def test_a_response_without_a_body_is_sent(
    sent: tuple[Live, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not only when an idle connection is closed, which sends what is held back."""
    monkeypatch.setattr(BoundedConnection, "timeout_keep_alive_handler", lambda _: None)
    live, calls = sent
    calls.clear()
    assert live.http.head("/").status_code == 200
    assert len(calls) == 1
    assert calls[0].count(b"\r\n\r\n") == 1


def test_100_continue_is_sent_at_once(sent: tuple[Live, list[bytes]]) -> None:
    live, calls = sent
    calls.clear()
    response = live.http.post("/embed", content=draw_image(0), headers=JPEG | {"Expect": "100-continue"})
    assert response.status_code == 200
    assert calls[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert len(calls) == 2


def test_bytes_that_are_not_http_get_one_400_response(sent: tuple[Live, list[bytes]]) -> None:
    live, calls = sent
    calls.clear()
    host, port = live.url.removeprefix("http://").split(":")

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"nonsense\r\n\r\n")
        response = await reader.read()
        writer.close()
        return response

    assert asyncio.run(ask()).startswith(b"HTTP/1.1 400 ")
    assert len(calls) == 1
