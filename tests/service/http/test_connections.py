"""Connections within bounds: real sockets against the service's own protocol."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sfsc_service.errors import STATUS
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import Live, running

START_TIMEOUT_S = 30.0
HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def strict(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """Looks at its connections every few milliseconds and is quick to close them; six at a time."""
    monkeypatch.setattr("sfsc_service.http.connections.CHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr("sfsc_service.http.connections.HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr("sfsc_service.http.connections.UNREAD_TIMEOUT_S", 0.3)
    with running(settings.model_copy(update={"threads": 1, "max_connections": 6})) as made:
        yield made


def connect(live: Live) -> socket.socket:
    host, port = live.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=START_TIMEOUT_S)


def until_refused(live: Live, cause: str) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while live.metric("sfsc_refused_connections_total", cause=cause) != 1.0:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("sent", "answered"),
    [(b"", 0), (HEAD, 0), (HEAD, 1)],
    ids=["nothing", "half a first one", "half a second one"],
)
def test_a_connection_whose_head_never_ends_is_closed(strict: Live, sent: bytes, answered: int) -> None:
    with connect(strict) as connection:
        for _ in range(answered):
            connection.sendall(HEAD + b"\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(sent)
        assert connection.recv(65_536) == b""
    until_refused(strict, "no_head")


def test_a_connection_that_is_kept_open_between_requests_is_not_closed(strict: Live) -> None:
    with connect(strict) as connection:
        for _ in range(2):
            connection.sendall(HEAD + b"\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
            time.sleep(0.6)
    assert strict.metric("sfsc_refused_connections_total", cause="no_head") == 0.0


def test_a_head_without_end_takes_no_memory(strict: Live) -> None:
    with connect(strict) as connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
        connection.sendall(HEAD + b"x-and-so-on: on\r\n" * 10_000_000)
    until_refused(strict, "long_head")


def test_a_client_that_reads_nothing_is_disconnected(strict: Live) -> None:
    large = draw_image(1, size=1200, format="BMP")
    assert strict.put_image("/items/large", large, width="0.25").status_code == 200
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = strict.url.removeprefix("http://").split(":")
        connection.connect((host, int(port)))
        connection.sendall(b"GET /items/large/image HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        until_refused(strict, "unread")


def test_a_connection_too_many_gets_a_problem_of_the_table_of_codes(strict: Live) -> None:
    assert strict.http.get("/livez").status_code == 200  # the client's own connection, kept open
    with ExitStack() as opened:
        others = [opened.enter_context(connect(strict)) for _ in range(5)]
        for connection in others:
            connection.sendall(HEAD + b"\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        for path in (b"/livez", b"/readyz?verbose"):
            with connect(strict) as health:
                health.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = health.recv(65_536)
                assert answer.startswith(b"HTTP/1.1 200")
                assert b"connection: close" in answer
        with connect(strict) as refused:
            refused.sendall(b"GET /widths HTTP/1.1\r\nHost: x\r\n\r\n")
            response = http.client.HTTPResponse(refused)
            response.begin()
            assert response.status == STATUS["too_many_connections"][0]
            assert (response.getheader("Connection"), response.getheader("Retry-After")) == ("close", "1")
            assert response.getheader("Content-Type") == "application/problem+json"
            assert response.getheader("X-Request-ID")
            assert json.loads(response.read()) == {
                "type": "urn:sfsc:problem:too_many_connections",
                "title": STATUS["too_many_connections"][1],
                "status": 503,
                "detail": "connections: at most 6 may be open",
                "code": "too_many_connections",
                "parameter": None,
            }
        assert strict.http.get("/livez").status_code == 200
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        with connect(strict) as again:
            again.sendall(HEAD + b"\r\n")
            if again.recv(65_536).startswith(b"HTTP/1.1 200"):
                break
        assert time.monotonic() < end


def test_a_body_that_arrives_too_slowly_is_refused(strict: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.http.bounded_request.STALL_TIMEOUT_S", 0.5)
    with connect(strict) as connection:
        connection.sendall(
            b"PUT /items/x HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\n"
        )
        connection.settimeout(0.1)
        heard, end = b"", time.monotonic() + START_TIMEOUT_S
        while not heard and time.monotonic() < end:
            connection.sendall(b"x")
            try:
                heard = connection.recv(65_536)
            except TimeoutError:
                continue
        assert heard.startswith(b"HTTP/1.1 408 ")
        assert b"bytes a second" in heard


def test_one_address_has_no_more_connections_than_it_may(settings: Settings) -> None:
    with running(settings.model_copy(update={"threads": 1, "max_connections_per_address": 2})) as live:
        assert live.http.get("/livez").status_code == 200  # the client's own connection
        with connect(live) as second, connect(live) as third:
            answers = []
            for connection, path in ((second, b"/widths"), (third, b"/widths")):
                connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                answers.append(connection.recv(65_536)[:12])
        assert answers == [b"HTTP/1.1 200", b"HTTP/1.1 503"]
