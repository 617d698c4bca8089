"""Bytes that no client library sends: trailers without end, pipelined requests, half-closed connections."""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sfsc_service.http.http_protocol import (
    INTERIM,
    LINGER_BYTES,
    LINGER_S,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_PIPELINED,
    PIECE,
)
from tests.service.faulty import START_TIMEOUT_S, Held, until
from tests.service.live import Live
from tests.service.raw import CHUNKED, EMBED, IMAGE, LIVEZ, connect, final, hear, request_head, statuses


def flood(connection: socket.socket, text: bytes) -> None:
    """Send far more than any bound, and be cut off."""
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        connection.sendall(text * (2**27 // len(text)))


def refused(live: Live, cause: str) -> float:
    return live.metric("sfsc_refused_connections_total", cause=cause)


@pytest.mark.parametrize(
    "endless",
    [b"0\r\n" + b"x: y\r\n" * 10_000, b"0\r\nx: " + b"y" * 60_000, b"5;" + b"x=y;" * 15_000],
    ids=["trailers", "one trailer", "a chunk's extensions"],
)
def test_what_surrounds_chunks_is_bounded(weak: Live, endless: bytes) -> None:
    with connect(weak) as connection:
        connection.sendall(request_head("POST", "/nowhere", Transfer_Encoding="chunked"))
        connection.sendall(endless)
        flood(connection, endless[4:])
    until(lambda: refused(weak, "long_head") == 1.0)


def test_trailers_of_a_usual_size_are_accepted(live: Live) -> None:
    with connect(live) as connection:
        head = request_head("POST", "/embed?width=0.5", Content_Type="image/jpeg", Transfer_Encoding="chunked")
        connection.sendall(head + b"%x\r\n%b\r\n0\r\nx-checksum: 1\r\n\r\n" % (len(IMAGE), IMAGE) + LIVEZ)
        connection.shutdown(socket.SHUT_WR)
        assert statuses(hear(connection)) == [b"200", b"200"]


@pytest.mark.parametrize(
    "trailer", [b"Content-Type: image/jpeg", b"Host: evil.example", b"Origin: http://evil.example"]
)
def test_trailers_are_no_headers(live: Live, trailer: bytes) -> None:
    """Else they would be the key, the media type or the address that a trusted proxy has checked in the head."""
    with connect(live) as connection:
        head = request_head("POST", "/embed?width=0.5", Transfer_Encoding="chunked")
        connection.sendall(head + b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(IMAGE), IMAGE, trailer) + LIVEZ)
        connection.shutdown(socket.SHUT_WR)
        heard = hear(connection)
    assert statuses(heard) == [b"415", b"200"]
    assert b"Content-Type: must be" in heard


def test_http_1_0_gets_no_interim_response(live: Live) -> None:
    with connect(live) as connection:
        head = b"POST /embed?width=0.5 HTTP/1.0\r\nContent-Type: image/jpeg\r\nExpect: 100-continue\r\n"
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE)
        assert statuses(hear(connection)) == [b"200"]


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES - 200, MAX_HEAD_BYTES + 200])
def test_a_head_in_one_piece_is_bounded(weak: Live, size: int) -> None:
    with connect(weak) as connection:
        connection.sendall(request_head("GET", "/livez", x="y" * size))
        heard = connection.recv(65_536)
    assert heard.startswith(b"HTTP/1.1 200" if size < MAX_HEAD_BYTES else b"HTTP/1.1 431")
    assert refused(weak, "long_head") == (size > MAX_HEAD_BYTES)


@pytest.mark.parametrize("count", [MAX_HEADERS - 1, MAX_HEADERS])
def test_headers_are_counted(live: Live, count: int) -> None:
    with connect(live) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * count + b"\r\n")
        expected = b"200" if count < MAX_HEADERS else b"431"
        assert connection.recv(65_536).startswith(b"HTTP/1.1 " + expected)


@pytest.mark.parametrize("place", ["url", "one header", "many headers"])
def test_a_client_that_writes_a_long_head_first_reads_the_problem(live: Live, place: str) -> None:
    """httpx writes all of the head before it reads; what it sends behind the bound must not cost the response."""
    long = "y" * 8_000_000
    headers = {f"x-{n}": "y" * 8_000 for n in range(1_000)} if place == "many headers" else {"x": long}
    found = (
        live.http.get(f"/widths?{long[:60_000]}", headers={"y": "z" * 8_000})
        if place == "url"
        else live.http.get("/widths", headers=headers)
    )
    assert found.status_code == 431
    assert found.json()["code"] == "head_too_large"
    assert str(MAX_HEAD_BYTES) in found.json()["detail"]
    assert live.http.get("/livez").status_code == 200


def test_a_head_without_end_behind_a_running_call_is_bounded(weak: Live, held: Held) -> None:
    """Nothing more is read, however much is sent; the running call's response is not lost."""
    with connect(weak) as connection:
        connection.sendall(EMBED)
        assert held.entered.wait(30)
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.sendall(b"x-and-so-on: on\r\n" * 8_000_000)
        assert refused(weak, "long_head") == 1.0
        held.release()
        connection.settimeout(30)
        assert final(hear(connection)) == [b"200", b"431"]


def test_a_client_that_sends_much_behind_a_long_head_and_reads_meanwhile_gets_every_response(
    weak: Live, held: Held, callers: ThreadPoolExecutor
) -> None:
    with connect(weak) as connection:
        connection.sendall(EMBED)
        assert held.entered.wait(30)

        def flood_it() -> None:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(request_head("GET", "/livez", x="y" * 70_000) + bytes(2**26))

        flooding = callers.submit(flood_it)
        until(lambda: refused(weak, "long_head") == 1.0)
        held.release()
        assert final(hear(connection)) == [b"200", b"431"]
        flooding.result()


def test_what_is_discarded_is_read_no_faster_than_it_needs_to_be(live: Live) -> None:
    """Who goes on sending behind the last response costs little; the connection ends all the same."""
    with connect(live) as connection:
        connection.sendall(request_head("GET", "/livez", x="y" * 70_000))
        assert connection.recv(12) == b"HTTP/1.1 431"
        began, sent = time.monotonic(), 0
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while sent < 16 * LINGER_BYTES:
                sent += connection.send(b"x: y\r\n" * 10_000)
        took = time.monotonic() - began
    in_buffers = 16 * 2**20  # what the system takes in without the service
    assert sent <= LINGER_BYTES + in_buffers
    assert LINGER_S / 2 < took < START_TIMEOUT_S


@pytest.mark.parametrize(
    "before", [LIVEZ, EMBED, CHUNKED, LIVEZ + EMBED], ids=["no body", "body", "chunks", "two requests"]
)
def test_a_head_that_begins_in_the_same_segment_as_a_whole_request_is_bounded(weak: Live, before: bytes) -> None:
    with connect(weak) as connection:
        connection.settimeout(8.0)  # far less than the head's time-out
        connection.sendall(before + b"GET /livez HTTP/1.1\r\nx: " + b"y" * (MAX_HEAD_BYTES + PIECE))
        assert statuses(hear(connection)) == [b"200"] * before.count(b" HTTP/1.1\r\n") + [b"431"]
    assert refused(weak, "long_head") == 1.0


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_head_too_long_behind_a_running_call_is_refused_after_its_response(
    weak: Live, held: Held, half_closed: bool
) -> None:
    with connect(weak) as connection:
        connection.sendall(EMBED)
        assert held.entered.wait(30)
        connection.sendall(request_head("GET", "/livez", x="y" * 70_000) + LIVEZ)
        until(lambda: refused(weak, "long_head") == 1.0)
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
            time.sleep(0.05)  # nothing else tells that the service knows
        held.release()
        assert final(hear(connection)) == [b"200", b"431"]


def test_a_head_behind_a_long_body_is_no_long_head(live: Live) -> None:
    body = IMAGE + bytes(100_000)
    head = request_head("POST", "/embed?width=0.25", Content_Type="image/jpeg", Content_Length=len(body))
    with connect(live) as connection:
        connection.sendall(head + body + LIVEZ[:-2])
        assert statuses(connection.recv(65_536)) == [b"200"]
        connection.sendall(LIVEZ[-2:])
        connection.shutdown(socket.SHUT_WR)
        assert statuses(hear(connection))[-1] == b"200"


@pytest.mark.parametrize("place", ["behind chunks", "behind a body"])
@pytest.mark.parametrize("over", [-200, 200])
def test_a_whole_head_behind_another_request_is_measured(live: Live, place: str, over: int) -> None:
    """However its bytes are split, and whatever the body before it looks like."""
    body = (IMAGE + b"\r\n\r\n" * 5_000)[:100_000]
    head = {"Content_Type": "image/jpeg"}
    if place == "behind chunks":
        before = request_head("POST", "/embed?width=0.25", **head, Transfer_Encoding="chunked")
        before += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        before = request_head("POST", "/embed?width=0.25", **head, Content_Length=len(body)) + body
    rest = MAX_HEAD_BYTES + over - len(request_head("GET", "/livez", x=""))
    with connect(live) as connection:
        connection.sendall(before + request_head("GET", "/livez", x="y" * rest))
        connection.shutdown(socket.SHUT_WR)
        assert final(hear(connection)) == [b"200", b"431" if over > 0 else b"200"]


def test_a_head_without_end_behind_chunks_is_bounded(live: Live) -> None:
    body = IMAGE + bytes(150_000)
    before = request_head("POST", "/embed?width=0.25", Content_Type="image/jpeg", Transfer_Encoding="chunked")
    before += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with connect(live) as connection:
        connection.settimeout(8.0)  # far less than the head's time-out
        connection.sendall(before + b"GET /livez HTTP/1.1\r\nx: " + b"y" * (MAX_HEAD_BYTES + PIECE))
        assert final(hear(connection)) == [b"200", b"431"]


def test_too_many_pipelined_requests_get_a_problem_behind_the_responses(weak: Live, held: Held) -> None:
    with connect(weak) as connection:
        connection.sendall(EMBED + LIVEZ * (MAX_PIPELINED + 5))
        until(lambda: refused(weak, "pipelined") == 1.0)
        held.release()
        assert final(hear(connection)) == [b"200"] * (1 + MAX_PIPELINED) + [b"429"]


def test_a_running_call_ends_quietly_when_its_connection_is_lost_with_others_behind_it(
    weak: Live, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    """uvicorn tells only the last of the calls; an earlier one would write to a connection that is closed."""
    with connect(weak) as connection:
        connection.sendall(EMBED)
        assert held.entered.wait(30)
        connection.sendall(LIVEZ * MAX_PIPELINED)
        own = connection.getsockname()
        until(lambda: any(len(one.pipeline) == MAX_PIPELINED for one in weak.server.server_state.connections))
        (lost,) = [one for one in weak.server.server_state.connections if one.client == own]
        weak.loop.call_soon_threadsafe(lost.transport.abort)
        assert hear(connection) == b""
    held.release()
    until(lambda: weak.metric("sfsc_open_requests") == 1.0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_the_body_of_a_pipelined_request_is_not_read_before_its_turn(weak: Live, held: Held) -> None:
    with connect(weak) as connection:
        connection.sendall(EMBED)
        assert held.entered.wait(30)
        body = bytes(64 * 2**20)
        connection.sendall(request_head("POST", "/nowhere", Content_Length=len(body)))
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.sendall(body)


def test_pipelined_requests_are_answered_in_their_order(live: Live) -> None:
    with connect(live) as connection:
        connection.sendall(EMBED + LIVEZ + request_head("GET", "/nowhere") + LIVEZ)
        connection.shutdown(socket.SHUT_WR)
        assert statuses(hear(connection)) == [b"200", b"200", b"404", b"200"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_half_closed_client_gets_its_answer(live: Live, method: str) -> None:
    with connect(live) as connection:
        connection.sendall(EMBED if method == "POST" else LIVEZ)
        connection.shutdown(socket.SHUT_WR)
        assert hear(connection).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_half_closed_client_is_told_to_wait_for_a_long_call(weak: Live, held: Held) -> None:
    with connect(weak) as connection:
        connection.sendall(EMBED)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(len(INTERIM)) == INTERIM
        held.release()
        heard = hear(connection).removeprefix(INTERIM)
    assert heard.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_of_http_1_0_gets_no_interim_response(weak: Live, held: Held) -> None:
    with connect(weak) as connection:
        connection.sendall(EMBED.replace(b"HTTP/1.1", b"HTTP/1.0"))
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        held.release()
        connection.settimeout(30)
        assert hear(connection).startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_work_for_a_client_that_has_gone_altogether_is_dropped(
    weak: Live, held: Held, callers: ThreadPoolExecutor
) -> None:
    busy = held.occupy(callers, "0.25")
    with connect(weak) as connection:
        connection.sendall(EMBED)
        held.until_waiting(1)
    until(lambda: weak.service.embedder.batcher.waiting == 0)
    held.release()
    assert busy.result().status_code == 200


def test_a_client_that_leaves_amid_its_body_is_gone(live: Live) -> None:
    with connect(live) as connection:
        connection.sendall(EMBED[:-1])
        connection.shutdown(socket.SHUT_WR)
        assert hear(connection) == b""
