"""Requests that cannot be read, or not to their end: each gets a problem, and costs no other one its response."""

import json
import socket
import time

import pytest

from sfsc_service.http.http_protocol import (
    INTERIM,
    MAX_HEADERS,
)
from tests.service.faulty import Held, until
from tests.service.live import Live
from tests.service.raw import CHUNKED, EMBED, IMAGE, LIVEZ, connect, final, hear, request_head, statuses


def send_behind_a_running_call(connection: socket.socket, held: Held, text: bytes) -> None:
    """Nothing is heard while the call runs; then it goes on."""
    connection.sendall(EMBED)
    assert held.entered.wait(30)
    connection.sendall(text)
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    held.release()
    connection.settimeout(30)


def test_what_is_no_http_gets_a_problem(live: Live) -> None:
    with connect(live) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        head, _, body = hear(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "invalid_request"


NONSENSE = b"nonsense\r\n\r\n"
BROKEN = (
    request_head("POST", "/embed?width=0.25", Content_Type="image/jpeg", Transfer_Encoding="chunked") + b"zz\r\n"
)
ENDLESS = BROKEN[:-4] + b"1\r\nx\r\n0\r\n" + b"x: y\r\n" * MAX_HEADERS
TWICE = request_head("POST", "/embed", Content_Length=1, content_length=2)
"""Requests that end nowhere; the last one could be read in two ways (RFC 9112, section 6.3)."""


@pytest.mark.parametrize("before", [LIVEZ, EMBED, CHUNKED, LIVEZ + EMBED + LIVEZ])
@pytest.mark.parametrize(
    ("wrong", "status"),
    [(NONSENSE, b"400"), (BROKEN, b"400"), (TWICE, b"400"), (ENDLESS, b"431"), (b"\x16\x03\x01\x02\x00", b"400")],
    ids=["nonsense", "no chunk", "two lengths", "trailers", "TLS"],
)
def test_what_cannot_be_read_costs_no_response_before_it(
    live: Live, before: bytes, wrong: bytes, status: bytes
) -> None:
    with connect(live) as connection:
        connection.sendall(before + wrong)
        assert final(hear(connection)) == [b"200"] * before.count(b" HTTP/1.1\r\n") + [status]
    assert live.http.get("/livez").status_code == 200


@pytest.mark.parametrize("wrong", [NONSENSE, BROKEN, ENDLESS], ids=["nonsense", "no chunk", "trailers"])
def test_nothing_is_written_into_the_response_of_a_running_call(weak: Live, held: Held, wrong: bytes) -> None:
    with connect(weak) as connection:
        send_behind_a_running_call(connection, held, wrong)
        heard = hear(connection)
    assert final(heard)[0] == b"200"
    assert final(heard)[1:] == [b"431" if wrong == ENDLESS else b"400"]
    json.loads(heard.rpartition(b"\r\n\r\n")[2])


def test_a_body_that_cannot_be_read_on_gets_a_problem_for_its_response(live: Live) -> None:
    with connect(live) as connection:
        connection.sendall(BROKEN[:-4] + b"1\r\nx\r\n")
        until(lambda: live.metric("sfsc_open_requests") == 2.0)  # this one and the one that asks
        connection.sendall(b"no chunk\r\n")
        heard = hear(connection)
    assert statuses(heard) == [b"400"]
    assert json.loads(heard.rpartition(b"\r\n\r\n")[2])["code"] == "invalid_request"
    until(lambda: live.metric("sfsc_open_requests") == 1.0)


def test_a_body_with_too_many_trailers_gets_a_problem_for_its_response(live: Live) -> None:
    with connect(live) as connection:
        connection.sendall(ENDLESS)
        assert final(hear(connection)) == [b"431"]


@pytest.mark.parametrize(
    "rest", [b"", EMBED[:-1], b"GET /livez HTT"], ids=["nothing", "half a body", "half a head"]
)
def test_a_half_closed_client_gets_the_responses_before_what_it_did_not_end(
    weak: Live, held: Held, rest: bytes
) -> None:
    with connect(weak) as connection:
        connection.sendall(EMBED)
        assert held.entered.wait(30)
        connection.sendall(rest)
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.05)  # nothing else tells that the service knows
        held.release()
        assert final(hear(connection)) == [b"200"]


@pytest.mark.parametrize("path", ["/embed", "/search", "/items/x", "/items"])
def test_a_body_that_cannot_be_read_is_not_asked_for(
    weak: Live, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its last response is written already when the application begins to read."""
    method = "PUT" if path == "/items/x" else "POST"
    for kind in ("image/jpeg", "application/json", "multipart/form-data; boundary=B", "application/x-ndjson"):
        head = request_head(method, path, Content_Type=kind, Transfer_Encoding="chunked", Expect="100-continue")
        with connect(weak) as connection:
            connection.sendall(head + b"no size of a chunk\r\n")
            assert final(hear(connection)) == [b"400"]
    assert weak.http.get("/livez").status_code == 200
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


def test_a_body_that_waits_for_100_continue_is_asked_for_in_its_turn(weak: Live, held: Held) -> None:
    head = request_head(
        "POST", "/embed?width=0.25", Content_Type="image/jpeg", Content_Length=len(IMAGE), Expect="100-continue"
    )
    with connect(weak) as connection:
        send_behind_a_running_call(connection, held, head)
        heard = b""
        while not heard.endswith(INTERIM):
            heard += connection.recv(65_536)
        assert statuses(heard) == [b"200", b"100"]
        connection.sendall(IMAGE + NONSENSE)
        assert statuses(hear(connection)) == [b"200", b"400"]
