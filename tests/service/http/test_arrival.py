"""A request's time runs from the moment its head was read, and its wait from the end of its body."""

import asyncio
import base64
import http.client
import json
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from sfsc_service.settings import Settings
from tests.service.faulty import until
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running

WAITED_S = 30.0
EARLIER = SimpleNamespace(monotonic=lambda: time.monotonic() - WAITED_S)
"""As if the event loop had been busy for that long between what comes and the endpoint."""


@pytest.fixture
def patient(settings: Settings) -> Iterator[Live]:
    with running(settings.model_copy(update={"slo_ms": 1000.0, "queue_ms": 10_000.0 * WAITED_S})) as made:
        yield made


def test_time_runs_from_the_head(patient: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live = patient
    monkeypatch.setattr("sfsc_service.http.connections.time", EARLIER)
    response = live.http.post("/embed?latency_ms=20000", content=draw_image(0), headers=JPEG)
    assert response.status_code == 200, "a soft limit is not refused"
    assert response.json()["timing_ms"]["total"] >= 1000 * WAITED_S
    assert response.json()["results"][0]["budget_met"] is False
    refused = live.http.post("/embed?deadline_ms=20000", content=draw_image(0), headers=JPEG)
    assert refused.json()["code"] in ("deadline_unreachable", "deadline_passed")


def test_what_is_seen_too_late_is_dropped_before_it_is_decoded(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = live.metric("sfsc_preprocess_seconds_count")
    dropped = live.metric("sfsc_dropped_total", cause="queue_timeout")
    paths = ("/embed", "/search", "/items/late", "/v1/embeddings")
    monkeypatch.setattr("sfsc_service.http.connections.time", EARLIER)
    model = f"{live.service.manifest.name}@0.5"
    document = {"model": model, "input": "data:image/jpeg;base64," + base64.b64encode(draw_image(0)).decode()}
    for path in paths:
        method = "PUT" if path.startswith("/items") else "POST"
        sent = {"json": document} if path.startswith("/v1") else {"content": draw_image(0), "headers": JPEG}
        late = live.http.request(method, path, **sent)  # type: ignore[arg-type]
        code = late.json()["error"]["code"] if path.startswith("/v1") else late.json()["code"]
        assert (late.status_code, code) == (503, "queue_timeout"), path
    monkeypatch.undo()
    assert live.metric("sfsc_dropped_total", cause="queue_timeout") == dropped + len(paths)
    assert live.metric("sfsc_preprocess_seconds_count") == decoded
    assert live.http.get("/items/late").status_code == 404


def test_a_slow_upload_is_no_wait(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = live.url.removeprefix("http://").split(":")
    image = draw_image(0)
    with socket.create_connection((host, int(port)), timeout=30) as client:
        monkeypatch.setattr("sfsc_service.http.connections.time", EARLIER)
        head = f"POST /embed HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: image/jpeg\r\n"
        client.sendall(f"{head}Content-Length: {len(image)}\r\n\r\n".encode())
        until(lambda: live.metric("sfsc_open_requests") > 1)
        monkeypatch.undo()
        client.sendall(image)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        document = json.loads(answer.read())
    assert answer.status == 200
    assert document["timing_ms"]["total"] >= 1000 * WAITED_S, "the latency counts from the head"


def test_a_late_request_lets_others_go_first(patient: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live = patient
    decode, sleep = live.service.embedder._decoding.decode_now, asyncio.sleep
    calls: list[str] = []

    async def turn(seconds: float) -> None:
        if seconds == 0:
            calls.append("others")
        await sleep(seconds)

    monkeypatch.setattr(
        live.service.embedder._decoding, "decode_now", lambda *given: [calls.append("decode"), decode(*given)][1]
    )
    monkeypatch.setattr("sfsc_service.engine.embedder.asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": turn}))
    assert live.http.post("/embed", content=draw_image(0), headers=JPEG).status_code == 200
    monkeypatch.setattr("sfsc_service.http.connections.time", EARLIER)
    assert live.http.post("/embed", content=draw_image(0), headers=JPEG).status_code == 200
    assert calls == ["decode", "others", "decode"]
