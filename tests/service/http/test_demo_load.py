"""The demo's own load: only where it is wanted, bounded, ended by hand or when nobody looks."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.gallery import simulated_load
from sfsc_service.gallery.simulated_load import MAX_PER_S, SimulatedLoad
from sfsc_service.settings import Settings
from tests.service.conftest import WIDTHS
from tests.service.images import draw_image
from tests.service.live import Live, running


@pytest.fixture
def demo(tiny: Bundle, tmp_path: Path) -> Iterator[Live]:
    """A service with a load, one sample and one item."""
    (tmp_path / "sample.png").write_bytes(draw_image(1))
    (tmp_path / "damaged.png").write_bytes(draw_image(1)[:100])
    listing = tmp_path / "gallery.json"
    listing.write_text('{"queries": [{"file": "sample.png"}, {"file": "damaged.png"}]}')
    made = Settings(bundle=tiny.folder, data=tmp_path / "data", samples=listing, port=0, threads=1, queue_ms=1.0)
    with running(made, with_demo_load=True) as live:
        end = time.monotonic() + 30
        while live.put_image("/items/one", draw_image(2)).status_code != 200:  # a queue so short may refuse it
            assert time.monotonic() < end
        yield live


def wait_for(live: Live, condition: str, at_least: float) -> None:
    end = time.monotonic() + 30
    while live.http.get("/demo/load").json()[condition] < at_least:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_service_without_a_load_has_no_such_route(live: Live) -> None:
    assert live.http.get("/demo/load").status_code == 404
    assert live.http.put("/demo/load", params={"per_s": 1}).status_code == 404
    assert live.http.get("/widths").json()["demo_load"] is False


def test_the_load_searches_at_its_rate_until_it_is_stopped(demo: Live) -> None:
    assert demo.http.get("/widths").json()["demo_load"] is True
    state = demo.http.put("/demo/load", params={"per_s": 50}).json()
    assert state["per_s"] == 50
    assert list(state["capacity_per_s"]) == list(WIDTHS)
    assert min(state["capacity_per_s"].values()) > 0
    wait_for(demo, "answered", 5)
    assert sum(demo.metric("sfsc_searches_total", width=width) for width in WIDTHS) >= 5
    assert demo.http.put("/demo/load", params={"per_s": 0}).json()["per_s"] == 0
    while demo.http.get("/demo/load").json()["open"]:
        time.sleep(0.05)
    done = demo.http.get("/demo/load").json()["answered"]
    time.sleep(0.3)
    assert demo.http.get("/demo/load").json()["answered"] == done


def test_the_load_ends_when_nobody_looks_at_it(demo: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_load, "UNWATCHED_S", 0.5)
    demo.http.put("/demo/load", params={"per_s": 50})
    load: SimulatedLoad = demo.app.state.load
    end = time.monotonic() + 30
    while load.per_s:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_open_searches_are_bounded_and_refusals_are_counted(demo: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_load, "MAX_OPEN", 3)
    load: SimulatedLoad = demo.app.state.load

    async def all_at_once() -> int:
        for _ in range(10):
            load._begin()
        return load.open

    assert asyncio.run_coroutine_threadsafe(all_at_once(), demo.loop).result(30) == 3
    assert load.refused >= 7
    monkeypatch.setattr(simulated_load, "MAX_OPEN", 500)
    demo.http.put("/demo/load", params={"per_s": MAX_PER_S})
    wait_for(demo, "refused", 1)


def test_what_a_busy_event_loop_has_no_time_for_is_refused_and_no_burst(
    demo: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    load: SimulatedLoad = demo.app.state.load
    begun: list[float] = []
    monkeypatch.setattr(load, "_begin", lambda: begun.append(time.monotonic()))

    async def hold_up() -> tuple[int, int]:
        before = len(begun), load.refused
        time.sleep(0.5)  # the event loop is held up
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(begun) - before[0], load.refused - before[1]

    demo.http.put("/demo/load", params={"per_s": MAX_PER_S})
    began, refused = asyncio.run_coroutine_threadsafe(hold_up(), demo.loop).result(30)
    assert began <= 2 * simulated_load.AT_ONCE
    assert refused > 0.5 * MAX_PER_S * (0.5 - simulated_load.MAX_LAG_S)
    demo.http.put("/demo/load", params={"per_s": 0})


@pytest.mark.parametrize(
    ("query", "words"), [("", "per_s"), ("per_s=-1", "per_s"), (f"per_s={MAX_PER_S + 1}", "per_s")]
)
def test_a_rate_out_of_bounds_is_refused(demo: Live, query: str, words: str) -> None:
    response = demo.http.put(f"/demo/load?{query}")
    assert response.status_code == 422
    assert words in response.json()["detail"]


def test_without_a_sample_there_is_no_load(tiny: Bundle, tmp_path: Path) -> None:
    made = Settings(bundle=tiny.folder, data=tmp_path / "data", port=0, threads=1)
    with running(made, with_demo_load=True) as live:
        assert live.http.get("/widths").json()["demo_load"] is False
        assert live.http.get("/demo/load").status_code == 404
