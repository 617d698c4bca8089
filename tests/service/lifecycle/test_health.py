"""Start, readiness and the measuring that happens while nothing else does."""

import asyncio
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from sfsc_bundle.errors import BundleError, DeviceError
from sfsc_service.engine.costs import Measured
from sfsc_service.errors import Problem, StartError
from sfsc_service.lifecycle.service import Service, open_service
from sfsc_service.settings import Settings
from sfsc_service.store.errors import StoreError
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture
def service(settings: Settings) -> Service:
    return open_service(settings)


def test_before_the_canary_it_is_alive_and_not_ready(service: Service) -> None:
    try:
        assert service.health.not_alive() == []
        assert "canary" in service.health.not_ready()[0]
        asyncio.run(service.health.check())
        assert service.health.not_ready() == []
    finally:
        service.close()


def test_a_canary_that_comes_back_wrong_makes_it_unready(service: Service) -> None:
    try:
        runners: dict[str, Any] = service.embedder.networks.runners
        real = runners["0.25"]
        runners["0.25"] = lambda images: real(images) * np.float32(np.nan)
        asyncio.run(service.health.check())
        assert "0.25" in service.health.not_ready()[0]
        assert service.health.not_alive() == []
    finally:
        service.close()


def test_a_canary_that_is_too_long_ago_makes_it_unready(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        asyncio.run(service.health.check())
        monkeypatch.setattr("sfsc_service.lifecycle.health.CANARY_FRESH_S", -1.0)
        assert service.health.not_ready()
    finally:
        service.close()


def test_the_watch_survives_an_error_that_nobody_expected(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter([RuntimeError("no memory map"), OSError("no such file")])

    async def watched() -> None:
        third_round = asyncio.Event()

        async def trim_heap() -> None:
            if error := next(failures, None):
                raise error
            third_round.set()

        monkeypatch.setattr(service.embedder, "trim_heap", trim_heap)
        watch = asyncio.create_task(service.health.watch())
        reached = asyncio.create_task(third_round.wait())
        await asyncio.wait({watch, reached}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert reached.done(), "the watch has ended"
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    for name, value in (("TICK_S", 0.01), ("CANARY_EVERY_S", 0.01), ("TRIM_EVERY_S", -1.0)):
        monkeypatch.setattr(f"sfsc_service.lifecycle.health.{name}", value)
    try:
        asyncio.run(watched())
        assert service.health.not_ready() == []
        assert service.metrics.health_failures._value.get() == 2.0
        assert caplog.text.count("a round of the health check failed") == 2
        assert "no memory map" in caplog.text
    finally:
        service.close()


def test_widths_are_measured_before_the_first_request_and_the_rest_when_idle(service: Service) -> None:
    async def all_the_rest() -> None:
        for _ in range(4 * 5):
            await service.embedder.measure_idle()

    try:
        table = service.embedder.costs.table()
        assert set(table) == set(service.manifest.widths)
        assert all(sizes.keys() == {1} and sizes[1].median_ms > 0 for sizes in table.values())
        asyncio.run(all_the_rest())
        assert all(sizes.keys() == {1, 2, 4, 8, 16, 32} for sizes in service.embedder.costs.table().values())
    finally:
        service.close()


def test_a_width_that_once_looked_too_slow_is_given_another_chance(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        costs = service.embedder.costs
        for images in (1, 2, 4, 8, 16, 32):
            costs.set_measured("1.0", images, Measured(images * 1e6, images * 1e6))
        monkeypatch.setattr("sfsc_service.engine.networks.STALE_S", -1.0)
        for _ in range(4 * 6):
            asyncio.run(service.embedder.measure_idle())
        assert costs.estimate("1.0", 1) < 1e5
        assert costs.estimate("1.0", 32) < 1e6
    finally:
        service.close()


def test_after_closing_it_is_neither_alive_nor_ready_and_closing_again_does_nothing(service: Service) -> None:
    service.close()
    service.close()
    assert service.health.draining
    assert service.health.not_ready()


def test_closing_leaves_no_thread_behind(settings: Settings) -> None:
    before = threading.active_count()
    service = open_service(settings)
    asyncio.run(service.health.check())
    service.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"bundle": Path("/nowhere")}, BundleError),
        ({"device": "cuda"}, DeviceError),
        ({"floor_width": "0.3"}, StartError),
    ],
)
def test_what_cannot_start_says_so_and_leaves_nothing_behind(
    settings: Settings, change: dict[str, Any], error: type[Exception]
) -> None:
    before = threading.active_count()
    with pytest.raises(error):
        open_service(settings.model_copy(update=change))
    assert threading.active_count() == before


def test_a_gallery_of_another_space_is_refused(service: Service, settings: Settings, tmp_path: Path) -> None:
    service.close()
    other = make_tiny_bundle(tmp_path / "other", seed=5, space="other-space")
    with pytest.raises(StoreError, match="other-space"):
        open_service(settings.model_copy(update={"bundle": other.folder}))


def test_one_process_owns_a_folder(service: Service, settings: Settings) -> None:
    try:
        with pytest.raises(StoreError):
            open_service(settings)
    finally:
        service.close()


@pytest.mark.parametrize("code", ["queue_full", "queue_timeout"])
def test_a_canary_that_is_refused_for_load_is_no_illness(
    service: Service, monkeypatch: pytest.MonkeyPatch, code: Literal["queue_full", "queue_timeout"]
) -> None:
    async def refused(*_: object) -> None:
        raise Problem(code, "too much to do")

    try:
        monkeypatch.setattr(service.embedder, "embed", refused)
        asyncio.run(service.health.check())
        assert service.health.not_ready() == []
    finally:
        service.close()
