"""Which calls are repeated, how often and after how long; faults come from a transport of the test's own."""

import asyncio
import time
from collections.abc import Iterator
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from sfsc_service.client import ServiceError, answers, asynchronous, sync
from sfsc_service.client.retry import ATTEMPTS, MAX_PAUSE_S, PATIENT_ATTEMPTS
from tests.service.client.clients import KINDS, opened

Reply = httpx.Response | type[httpx.TransportError]

ANSWERS = (answers.EmbedAnswer, answers.SearchAnswer, answers.PutAnswer, answers.ItemAnswer)
FINE = httpx.Response(
    200,
    json={name: "" for answer in ANSWERS for name in answer.__required_keys__}
    | {"results": [{"id": "a", "status": 200}], "items": [], "next": None},
)
CALLS: dict[str, Any] = {
    "embed": lambda client: client.embed(b"x"),
    "search": lambda client: client.search(id="a"),
    "put": lambda client: client.put("a", b"x"),
    "put_many": lambda client: list(client.put_many([{"id": "a", "image": b"x"}])),
    "put_many with a deadline": lambda client: list(
        client.put_many([{"id": "a", "image": b"x"}, {"id": "b", "image": b"x", "deadline_ms": 5}])
    ),
    "get": lambda client: client.get("a"),
    "items": lambda client: list(client.items()),
    "delete": lambda client: client.delete("a"),
    "with a deadline": lambda client: client.search(b"x", deadline_ms=5),
}


def busy(status: int = 429, after: str | None = "2") -> httpx.Response:
    headers = {} if after is None else {"Retry-After": after}
    return httpx.Response(status, json={"code": "queue_full", "detail": "full"}, headers=headers)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long both clients sleep; nobody waits."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    # The clients' own: a service that another test runs in this process sleeps as ever.
    monkeypatch.setattr(sync, "time", SimpleNamespace(sleep=pauses.append))
    kept = {name: getattr(asyncio, name) for name in ("to_thread", "create_task", "Task")}
    monkeypatch.setattr(asynchronous, "asyncio", SimpleNamespace(sleep=pause, **kept))
    return pauses


def outcome(kind: str, call: str, replies: list[Reply]) -> tuple[str, int]:
    """`fine` or the error's code, and how many requests were sent; the last reply is repeated."""
    sent: list[bytes] = []
    waiting: Iterator[Reply] = iter(replies)
    last = replies[-1]

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        reply = next(waiting, last)
        if isinstance(reply, httpx.Response):
            return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)
        raise reply("fault", request=request)

    with opened(kind, "http://service", httpx.MockTransport(answer)) as client:
        try:
            CALLS[call](client)
        except ServiceError as error:
            return error.code, len(sent)
    assert sent == sent[:1] * len(sent), "the same request each time"
    return "fine", len(sent)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", [name for name in CALLS if "deadline" not in name])
def test_a_refusal_for_now_is_waited_out_as_long_as_the_service_says(
    kind: str, call: str, slept: list[float]
) -> None:
    assert outcome(kind, call, [busy(), busy(after="3"), FINE]) == ("fine", 3)
    assert slept == [2.0, 3.0]


@pytest.mark.parametrize("kind", KINDS)
def test_repeats_are_bounded(kind: str, slept: list[float]) -> None:
    assert outcome(kind, "embed", [busy()]) == ("queue_full", ATTEMPTS)
    assert outcome(kind, "embed", [httpx.ConnectError]) == ("unreachable", ATTEMPTS)
    assert len(slept) == 2 * (ATTEMPTS - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bulk_call_that_is_refused_is_repeated_many_times(kind: str, slept: list[float]) -> None:
    refused = [busy(after="5")] * (PATIENT_ATTEMPTS - 1)
    assert outcome(kind, "put_many", [*refused, FINE]) == ("fine", PATIENT_ATTEMPTS)
    assert slept == [5.0] * (PATIENT_ATTEMPTS - 1)
    assert outcome(kind, "put_many", [busy()]) == ("queue_full", PATIENT_ATTEMPTS)
    assert outcome(kind, "put_many", [busy(503)]) == ("queue_full", ATTEMPTS), "which may be a fault that lasts"
    assert outcome(kind, "put_many", [httpx.ConnectError]) == ("unreachable", ATTEMPTS)


@pytest.mark.parametrize(
    "final",
    [
        httpx.Response(422, json={"code": "queue_full", "detail": ""}, headers={"Retry-After": "1"}),
        httpx.Response(500, json={"code": "queue_full", "detail": ""}),
        busy(after=None),
        busy(after="soon"),
        httpx.Response(429, json={"code": "queue_full", "detail": ""}, headers=[(b"Retry-After", b"\xb2")]),
        busy(after=str(int(MAX_PAUSE_S) + 1)),
    ],
    ids=["422", "500", "no header", "no time", "no decimal", "too long"],
)
def test_other_responses_are_final(final: httpx.Response, slept: list[float]) -> None:
    assert outcome("blocking", "embed", [final, FINE]) == ("queue_full", 1)
    assert slept == []


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("body", [b"<html>\n", b"[]", b"{}", b"null", b'{"detail": "Not Found"}'])
@pytest.mark.parametrize("call", ["embed", "search", "put", "get", "put_many", "items"])
def test_an_answer_of_another_program_is_an_error(call: str, body: bytes, status: int) -> None:
    assert outcome("blocking", call, [httpx.Response(status, content=body)]) == ("unknown", 1)


def test_what_another_program_answered_is_said_in_one_line() -> None:
    page = httpx.MockTransport(lambda _: httpx.Response(404, content=b"<html>\n<p>nothing"))
    with opened("blocking", "http://service", page) as client, pytest.raises(ServiceError) as caught:
        client.widths()
    assert caught.value.detail == (
        "another program answers at http://service: http://service/widths has status 404, '<html>\\n<p>nothing'"
    )


def test_retry_after_may_be_a_date(slept: list[float]) -> None:
    past, soon = (formatdate(time.time() + seconds, usegmt=True) for seconds in (-60, 10))
    assert outcome("blocking", "embed", [busy(503, past), busy(503, soon), FINE]) == ("fine", 3)
    assert slept[0] == 0
    assert 0 < slept[1] <= 10


@pytest.mark.parametrize(
    ("call", "fault", "sent"),
    [
        ("embed", httpx.ConnectError, 2),
        ("embed", httpx.ReadError, 2),
        ("put", httpx.RemoteProtocolError, 2),
        ("put_many", httpx.ReadError, 2),
        ("embed", httpx.ReadTimeout, 1),
        ("embed", httpx.ConnectTimeout, 1),
        ("delete", httpx.ConnectError, 2),
        ("delete", httpx.ReadError, 1),
        ("delete", busy(503), 1),
        ("with a deadline", httpx.ConnectError, 1),
        ("with a deadline", busy(), 1),
        ("put_many with a deadline", busy(503), 1),
    ],
)
def test_only_what_is_safe_is_repeated(call: str, fault: Reply, sent: int, slept: list[float]) -> None:
    found, requests = outcome("blocking", call, [fault, FINE])
    assert requests == sent
    assert (found == "fine") == (sent > 1)
    assert len(slept) == sent - 1
