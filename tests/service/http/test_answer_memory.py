"""What a call holds while its upload goes on: its answer is counted, and what waits to be stored is small."""

import asyncio
import json
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.types import Message

from sfsc_service.errors import Problem
from sfsc_service.gallery.bulk_insert import FailedItem
from sfsc_service.gallery.gallery import NewItem
from sfsc_service.http.bounded_request import BodyMemory, BoundedRequest
from sfsc_service.http.routes import bulk, search_many
from sfsc_service.settings import Settings
from sfsc_service.store.protocol import MetadataJson
from tests.service.faulty import START_TIMEOUT_S, until
from tests.service.images import draw_image
from tests.service.live import Live, running
from tests.service.raw import connect, hear, request_head

TEXT = "x" * 15_000
EMPTY = [{}] * 5000
"""As JSON within 16 KiB; as objects 360 kB."""
REST = 1000
"""Bytes of a body that are announced and not sent."""


@pytest.fixture(scope="module")
def roomy(settings_of_module: Settings) -> Iterator[Live]:
    """A service that may hold 800 kB of bodies and responses, with an item of 15 kB of metadata."""
    with running(settings_of_module) as live:
        put = live.put_image("/items/long", draw_image(1), width="0.25", metadata=json.dumps({"a": TEXT}))
        assert put.status_code == 200, put.text
        yield live


@pytest.fixture(scope="module")
def settings_of_module(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        bundle=tiny.folder, data=tmp_path_factory.mktemp("data"), port=0, threads=1, max_body_bytes=100_000
    )


def upload(opened: ExitStack, live: Live, path: str, body: bytes) -> socket.socket:
    """A call that has sent all but the last bytes of its body."""
    connection = opened.enter_context(connect(live))
    head = request_head("POST", path, Content_Type="application/x-ndjson", Content_Length=len(body) + REST)
    connection.sendall(head + body)
    return connection


SEARCH = b'{"id":"long","include_self":true,"k":1}\n'


def test_answers_of_searches_are_counted_while_the_upload_goes_on(
    roomy: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_many, "WINDOW", 8)
    memory = roomy.app.state.bodies
    with ExitStack() as opened:
        first = upload(opened, roomy, "/search", SEARCH * 8)
        until(lambda: memory.held_bytes > 8 * len(TEXT))
        others = [upload(opened, roomy, "/search", SEARCH * 8) for _ in range(8)]
        until(lambda: roomy.metric("sfsc_problems_total", code="queue_full") >= 1)
        refused = []
        for connection in others:
            connection.settimeout(0.5)
            try:
                refused.append(connection.recv(65_536))
            except TimeoutError:
                continue
        assert refused, "nine answers of 120 kB are more than 800 kB and an eighth"
        assert all(heard.startswith(b"HTTP/1.1 429 ") and b"queue_full" in heard for heard in refused)
        first.sendall(b" " * REST)
        first.settimeout(START_TIMEOUT_S)
        heard = first.recv(12)
        assert heard == b"HTTP/1.1 200", "what it holds is not counted again"
    until(lambda: memory.held_bytes == 0)


@pytest.mark.parametrize("total", [10**9, 60_000])
def test_outcomes_of_a_bulk_call_are_counted_while_the_upload_goes_on(roomy: Live, total: int) -> None:
    memory = roomy.app.state.bodies
    body = b"{}\n" * 1024
    with ExitStack() as opened, pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "total_bytes", total)
        connection = upload(opened, roomy, "/items", body)
        if total > 10**6:
            until(lambda: memory.held_bytes > 100_000)
            connection.sendall(b" " * REST)
            assert connection.recv(12) == b"HTTP/1.1 200"
        else:
            assert hear(connection).startswith(b"HTTP/1.1 429 ")
    until(lambda: memory.held_bytes == 0)


def started(*, size: int) -> Message:
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", b"%d" % size)],
    }


@pytest.mark.parametrize(("made", "size"), [(100_000, 90_000), (100_000, 200_000), (100_000, 10), (10, 10)])
def test_a_response_is_counted_once_and_given_back(made: int, size: int) -> None:
    memory = BodyMemory(max_bytes=10**6, total_bytes=10**6)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: dict[str, Any] = {"type": "http", "headers": [], "path": "/search"}
    request = BoundedRequest(scope, receive, send, memory)
    request.hold_response(made // 2)
    request.hold_response(made - made // 2)
    assert memory.held_bytes == (made if made > 2**16 else 0)
    asyncio.run(request.send(started(size=size)))
    assert memory.held_bytes == (size if size > 2**16 else 0)
    request.release()
    assert (memory.held_bytes, request.status, len(sent)) == (0, 200, 1)


def test_a_response_that_is_too_much_is_refused_while_it_is_made() -> None:
    memory = BodyMemory(max_bytes=50_000, total_bytes=100_000)

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    request = BoundedRequest({"type": "http", "headers": [], "path": "/search"}, nothing, nothing, memory)
    request.hold_response(90_000)
    with pytest.raises(Problem) as refused:
        request.hold_response(90_000)
    assert refused.value.code == "queue_full"
    request.release()
    assert memory.held_bytes == 0


def item(line: dict[str, Any]) -> Any:
    return bulk._item_of_line(json.dumps(line).encode(), {}, 10**6, 10**6)


def query(line: dict[str, Any]) -> Any:
    return search_many._search_of_line(json.dumps(line).encode(), {}, 10**6, Settings())


ORIGIN = {"width": "0.25", "space": "tiny-space"}


@pytest.mark.parametrize(
    ("parse", "line"),
    [
        (item, {"id": "a", **ORIGIN, "vector": [1.0], "metadata": {"a": [{}] * 16_101}}),
        (item, {"id": "a", **ORIGIN, "vector": [1.0], "metadata": {"a": EMPTY}}),
        (item, {"id": "a", **ORIGIN, "vector": [0.5] * 8000}),
        (item, {"id": "a", "surprise": EMPTY}),
        (query, {"id": "a", "filter": {"a": [{}] * 16_101}}),
        (query, {"id": "a", "surprise": EMPTY}),
        (query, {**ORIGIN, "vector": [0.5] * 8000}),
    ],
)
def test_what_waits_for_its_window_takes_little_more_than_its_text(
    parse: Callable[[dict[str, Any]], Any], line: dict[str, Any]
) -> None:
    parse(line)
    lines = 20
    tracemalloc.start()
    try:
        kept = [parse(line) for _ in range(lines)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == lines
    assert held < 2 * lines * len(json.dumps(line)) + 50_000


def test_metadata_is_checked_when_its_line_is_parsed() -> None:
    good = item({"id": "a", **ORIGIN, "vector": [1.0], "metadata": {"n": 2**62 + 1, "ü": [1.5]}})
    assert isinstance(good, NewItem)
    assert good.metadata == MetadataJson('{"n":4611686018427387905,"ü":[1.5]}')
    bad = item({"id": "a", **ORIGIN, "vector": [1.0], "metadata": {"a": "x" * 20_000}})
    assert isinstance(bad, FailedItem)
    assert str(bad.error) == "metadata: must be at most 16384 bytes of JSON; found 20008"


def test_metadata_of_every_form_is_refused_with_one_message(roomy: Live) -> None:
    large = {"a": "x" * 20_000}
    text = json.dumps(large)
    given = {"id": "long", **ORIGIN, "vector": [1.0] + [0.0] * 15}
    assert roomy.http.post("/items", content=json.dumps(given), headers=NDJSON).json()["stored"] == 1
    image = ("a.jpg", draw_image(1), "image/jpeg")
    line = roomy.http.post("/items", content=json.dumps({**given, "metadata": large}), headers=NDJSON)
    part = roomy.http.post("/items", files={"image": image}, data={"id": "long", "metadata": text})
    told = [
        line.json()["results"][0],
        part.json()["results"][0],
        roomy.http.put("/items/long", json={**ORIGIN, "vector": given["vector"], "metadata": large}).json(),
        roomy.http.put("/items/long", files={"image": image}, data={"metadata": text}).json(),
        roomy.http.patch("/items/long", json={"metadata": large}).json(),
    ]
    assert {one["code"] for one in told} == {"metadata_invalid"}
    assert {one["detail"] for one in told} == {"metadata: must be at most 16384 bytes of JSON; found 20008"}
    assert {one["parameter"] for one in told} == {"metadata"}


NDJSON = {"Content-Type": "application/x-ndjson"}
