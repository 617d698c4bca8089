"""A request's time runs from the moment its head was read, however late its endpoint runs."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from tests.service.images import draw_image
from tests.service.live import JPEG, Live

WAITED_S = 30.0


def test_time_runs_from_the_head(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the event loop had been busy for that long between the head and the endpoint."""
    earlier = SimpleNamespace(monotonic=lambda: time.monotonic() - WAITED_S)
    monkeypatch.setattr("sfsc_service.http.connections.time", earlier)
    response = live.http.post("/embed?latency_ms=20000", content=draw_image(0), headers=JPEG)
    assert response.status_code == 200, "a soft limit is not refused"
    assert response.json()["timing_ms"]["total"] >= 1000 * WAITED_S
    assert response.json()["results"][0]["budget_met"] is False
    refused = live.http.post("/embed?deadline_ms=20000", content=draw_image(0), headers=JPEG)
    assert refused.json()["code"] in ("deadline_unreachable", "deadline_passed")


def test_a_late_request_lets_others_go_first(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
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
    earlier = SimpleNamespace(monotonic=lambda: time.monotonic() - WAITED_S)
    monkeypatch.setattr("sfsc_service.http.connections.time", earlier)
    assert live.http.post("/embed", content=draw_image(0), headers=JPEG).status_code == 200
    assert calls == ["decode", "others", "decode"]
