"""Request bodies: bounded together, freed once refused, refused when they stall."""

import base64
import contextlib
import gc
import json
import os
import select
import socket
import time
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_service.http.bounded_request import BodyMemory
from sfsc_service.settings import Settings
from tests.service.faulty import START_TIMEOUT_S, until
from tests.service.images import draw_image
from tests.service.live import Live, running
from tests.service.raw import connect, hear, request_head


def test_the_memory_of_waiting_bodies_is_bounded(settings: Settings) -> None:
    """Nine bodies of the largest size cannot be held at once where eight may."""
    small = settings.model_copy(update={"max_body_bytes": 100_000})
    with running(small) as live:
        host, port = live.url.removeprefix("http://").split(":")
        head = (
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        )
        half_sent = [socket.create_connection((host, int(port))) for _ in range(9)]
        try:
            for connection in half_sent:
                connection.sendall(head + b" " * 99_999)
            answered, _, _ = select.select(half_sent, [], [], START_TIMEOUT_S)
            heard = answered[0].recv(65_536)
            assert heard.startswith(b"HTTP/1.1 429 ")
            assert b"queue_full" in heard
        finally:
            for connection in half_sent:
                connection.close()
        end = time.monotonic() + START_TIMEOUT_S
        while live.post_image("/embed", draw_image(1)).status_code != 200:
            assert time.monotonic() < end, "what was held is given back"
            time.sleep(0.05)


def test_as_many_bodies_of_the_largest_size_as_allowed_are_held_at_once(settings: Settings) -> None:
    with running(settings.model_copy(update={"max_body_bytes": 100_000})) as live:
        host, port = live.url.removeprefix("http://").split(":")
        head = (
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        )
        with ExitStack() as opened:
            connections = [
                opened.enter_context(socket.create_connection((host, int(port)), START_TIMEOUT_S))
                for _ in range(8)
            ]
            for connection in connections:
                connection.sendall(head + b" " * 99_999)
            answered, _, _ = select.select(connections, [], [], 0.5)
            assert answered == []
            for connection in connections:
                connection.sendall(b" ")
                assert connection.recv(65_536).startswith(b"HTTP/1.1 400 "), "read to its end, and no JSON"


def test_large_bodies_refuse_each_other_and_not_the_small_ones(settings: Settings) -> None:
    """Eight bodies hold all the memory there is for them; further large ones are refused, an image is not."""
    with running(settings.model_copy(update={"max_body_bytes": 2_000_000})) as live, ExitStack() as opened:
        host, port = live.url.removeprefix("http://").split(":")
        head = (
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2000000\r\n\r\n"
        )
        for _ in range(8):
            connection = opened.enter_context(socket.create_connection((host, int(port)), START_TIMEOUT_S))
            connection.sendall(head + b" " * 1_999_999)
        memory = live.app.state.bodies
        until(lambda: memory.held_bytes == 8 * 1_999_999)
        image = draw_image(1)
        assert len(image) < memory.total_bytes // 64
        for _ in range(9):  # they would fill what is set aside, each of them small as long as it has just begun
            late = opened.enter_context(socket.create_connection((host, int(port)), START_TIMEOUT_S))
            late.sendall(head + b" " * 200_000)
            assert late.recv(65_536).startswith(b"HTTP/1.1 429 ")
        assert [live.post_image("/embed", image).status_code for _ in range(3)] == [200, 200, 200]
        refused = live.http.post("/embed", content=b" " * 1_999_999, headers={"Content-Type": "application/json"})
        assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
        assert live.post_image("/embed", image).status_code == 200


@given(total=st.integers(1, 2**30), large=st.integers(0, 2**30), small=st.integers(0, 2**20))
def test_what_is_set_aside_is_for_small_requests(total: int, large: int, small: int) -> None:
    memory = BodyMemory(max_bytes=total, total_bytes=total, held_bytes=large + small)
    assert memory.is_full_for(total) == (large + small > total)
    assert memory.is_full_for(0) == (large + small > total + total // 8)
    if memory.is_full_for(min(large, small)):
        assert memory.is_full_for(max(large, small)), "who holds less is never refused in favour of who holds more"


def bare_call(live: Live, method: str, path: str, body: bytes, kind: str) -> bytes:
    """The status line of a call that leaves nothing of its own behind, as a client library does."""
    host, port = live.url.removeprefix("http://").split(":")
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=START_TIMEOUT_S) as connection:
        connection.sendall(head.encode() + body)
        return connection.recv(65_536).split(b"\r\n")[0]


def refused_calls(live: Live) -> list[bytes]:
    """Of every way that a large body can be refused after it was read."""
    junk = b"\xff\xd8" + bytes(2_000_000)
    encoded = base64.b64encode(junk).decode()
    many, one = json.dumps({"image": [encoded] * 3}), json.dumps({"image": encoded, "width": "0.3"})
    return [
        bare_call(live, "POST", "/embed", junk, "image/jpeg"),
        bare_call(live, "POST", "/search", junk, "image/jpeg"),
        bare_call(live, "PUT", "/items/x", junk, "image/jpeg"),
        bare_call(live, "POST", "/embed?width=0.3", draw_image(1, size=400, format="BMP"), "image/bmp"),
        bare_call(live, "POST", "/embed", many.encode(), "application/json"),
        bare_call(live, "POST", "/search", one.encode(), "application/json"),
    ]


def test_a_refused_body_is_not_kept_by_the_exception_that_refused_it(weak: Live) -> None:
    """A cycle of exception, traceback and frames lives until the collector looks at it, which may be long."""

    def large_garbage() -> list[object]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return [
                one
                for one in gc.garbage
                for held in gc.get_referents(one)
                if isinstance(held, bytes | bytearray | str) and len(held) > 100_000
            ]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()

    refused_calls(weak)
    gc.collect()
    gc.disable()
    try:
        assert {line.split()[1] for line in refused_calls(weak)} == {b"422"}
        until(lambda: weak.metric("sfsc_open_requests") == 1.0)
        assert large_garbage() == []
    finally:
        gc.enable()


def test_a_client_that_is_still_sending_reads_why_it_is_refused(
    weak: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing a connection with unread bytes resets it, and the response is lost."""
    monkeypatch.setattr("sfsc_service.http.bounded_request.DISCARD_TIMEOUT_S", START_TIMEOUT_S)
    size = weak.service.settings.max_body_bytes + 1
    host, port = weak.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=START_TIMEOUT_S) as connection:
        head = f"PUT /items/x HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        for _ in range(8):
            time.sleep(0.02)
            connection.sendall(bytes(size // 8))
        connection.sendall(bytes(size % 8))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("filename", [None, "v.json"])
def test_a_text_part_of_a_form_is_bounded_as_a_document_is(weak: Live, filename: str | None) -> None:
    limit = weak.service.settings.max_json_bytes + 32 * weak.service.manifest.dimension
    for size, told in ((limit, (422, "invalid_parameter")), (limit + 1, (400, "invalid_request"))):
        response = weak.http.post("/search", files={"filter": (filename, "[" + " " * (size - 2) + "]")})
        assert (response.status_code, response.json()["code"]) == told


def test_metadata_that_is_not_utf_8_is_refused(weak: Live) -> None:
    text = '{"city": "Köln"}'.encode("latin-1")
    for filename in (None, "m.json"):
        files = {"image": ("a.jpg", draw_image(1)), "metadata": (filename, text)}
        response = weak.http.put("/items/latin", files=files)
        assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
        assert "metadata: must be UTF-8" in response.json()["detail"]


def test_a_body_that_stalls_is_refused(weak: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.http.bounded_request.STALL_TIMEOUT_S", 0.1)
    host, port = weak.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=START_TIMEOUT_S) as connection:
        connection.sendall(
            b"PUT /items/x HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nabc"
        )
        assert connection.recv(65_536).startswith(b"HTTP/1.1 408 ")


def test_what_came_quickly_earns_no_time_to_keep_silent(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.http.bounded_request.STALL_TIMEOUT_S", 0.5)
    host, port = live.url.removeprefix("http://").split(":")
    head = b"PUT /items/x HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 90000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=START_TIMEOUT_S) as connection:
        connection.sendall(head + b"\x89PNG" * 12_000)  # at the least rate, twelve seconds of it
        connection.settimeout(0.2)
        for _ in range(20):
            connection.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                assert connection.recv(65_536).startswith(b"HTTP/1.1 408 ")
                return
    pytest.fail("the body may trickle")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/search"), ("PUT", "/items/x"), ("POST", "/items")])
def test_a_compressed_body_is_refused(live: Live, coding: str, method: str, path: str) -> None:
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    response = live.http.request(method, path, content=b"{}", headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert "Content-Encoding: must be identity" in response.json()["detail"]
    assert response.headers["accept-encoding"] == "identity"


def test_a_client_that_writes_everything_first_reads_an_early_response(weak: Live) -> None:
    """More than any buffer holds, to an address that nobody reads the body of."""
    body = bytes(8 * 2**20)
    with connect(weak) as connection:
        connection.sendall(request_head("POST", "/nowhere", Content_Length=len(body)) + body)
        assert hear(connection).startswith(b"HTTP/1.1 404 ")


def test_a_small_body_that_nobody_reads_does_not_close_the_connection(weak: Live) -> None:
    with connect(weak) as connection:
        for _ in range(2):
            connection.sendall(request_head("POST", "/nowhere", Content_Length=9) + b"x" * 9)
            response = connection.recv(65_536)
            assert response.startswith(b"HTTP/1.1 404 ")
            assert b"connection: close" not in response.lower()


def take_little_in(live: Live) -> None:
    """Bound what the system takes in of a response on its way, which differs from machine to machine."""
    for server in live.server.servers:
        for listening in server.sockets:
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # accepted sockets inherit it


def test_responses_that_nobody_reads_are_bounded(settings: Settings) -> None:
    """Of more than are allowed to be held at once, some are refused, and the memory is given back."""
    large = draw_image(1, size=1000, format="BMP")
    with running(settings.model_copy(update={"max_body_bytes": len(large)})) as live, ExitStack() as opened:
        assert live.put_image("/items/large", large, width="0.25").status_code == 200
        take_little_in(live)
        connections = [opened.enter_context(socket.socket()) for _ in range(9)]
        for connection in connections:
            connection.settimeout(START_TIMEOUT_S)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, port = live.url.removeprefix("http://").split(":")
            connection.connect((host, int(port)))
            connection.sendall(request_head("GET", "/items/large/image"))
        heard = [connection.recv(12) for connection in connections]
        assert sorted(heard) == [b"HTTP/1.1 200"] * 8 + [b"HTTP/1.1 429"]
        assert live.app.state.metrics.problems.labels("queue_full")._value.get() == 1.0
        opened.close()
        until(lambda: live.http.get("/items/large/image").status_code == 200)
        assert live.http.get("/items/large/image").content == large


def test_a_client_that_reads_too_slowly_is_cut_off(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.http.bounded_request.SLICE_TIMEOUT_S", 0.2)
    with running(settings) as live, socket.socket() as connection:
        large = draw_image(1, size=1500, format="BMP")
        assert live.put_image("/items/large", large, width="0.25").status_code == 200
        take_little_in(live)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = live.url.removeprefix("http://").split(":")
        connection.connect((host, int(port)))
        connection.sendall(request_head("GET", "/items/large/image"))
        connection.settimeout(START_TIMEOUT_S)
        until(lambda: live.metric("sfsc_open_requests") == 2.0)
        until(lambda: live.metric("sfsc_open_requests") == 1.0)
        assert len(hear(connection)) < len(large)
