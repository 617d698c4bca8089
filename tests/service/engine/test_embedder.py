"""The embedder around its parts: what it counts, predicts, refuses and gives up, on a clock of the test's own."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import Metric

from sfsc_bundle.folder import Bundle
from sfsc_bundle.preprocess import to_pixels
from sfsc_service.engine.arrival import Arrival
from sfsc_service.engine.costs import Measured
from sfsc_service.engine.decoding import Decoding
from sfsc_service.engine.embedder import EmbeddedImage, Embedder
from sfsc_service.engine.networks import open_networks
from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings
from tests.service.images import draw_image

START_TIMEOUT_S = 20.0
WIDTH = "0.5"

Make = Callable[..., Embedder]


@pytest.fixture
def make(tiny: Bundle, settings: Settings) -> Iterator[Make]:
    """Make an embedder with one worker and one decoding thread, whose settings may be changed."""
    made: list[Embedder] = []

    def one(**changed: Any) -> Embedder:
        networks = open_networks(tiny.folder, None, "cpu", 1)
        made.append(Embedder(networks, 1, settings.model_copy(update={"threads": 1, **changed}), Metrics(), 2**30))
        return made[-1]

    yield one
    for embedder in made:
        embedder.close(START_TIMEOUT_S)


def replace_network(embedder: Embedder, made: Callable[[Any], Callable[[np.ndarray], np.ndarray]]) -> None:
    runners: dict[str, Any] = embedder.networks.runners
    runners[WIDTH] = made(runners[WIDTH])


def embed(embedder: Embedder, **kind: bool) -> EmbeddedImage:
    return asyncio.run(embedder.embed(draw_image(1), Budget(width=WIDTH), Arrival.now(**kind)))


def family(embedder: Embedder, name: str) -> Metric:
    (found,) = [family for family in embedder._metrics.registry.collect() if family.name == name]
    return found


def value(embedder: Embedder, name: str, **labels: str) -> float | None:
    return embedder._metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(("bulk", "target_ms"), [(False, 70.0), (True, 700.0)])
def test_images_of_bulk_calls_have_ten_times_the_target(make: Make, bulk: bool, target_ms: float) -> None:
    assert embed(make(slo_ms=70.0), bulk=bulk).choice.target_ms == target_ms


def test_images_of_bulk_calls_let_no_others_be_expected(make: Make) -> None:
    embedder = make()
    embed(embedder, bulk=True)
    assert embedder._served.scheduler.flows(time.monotonic()) == []
    embed(embedder)
    assert len(embedder._served.scheduler.flows(time.monotonic())) == 1


def test_times_are_told_in_milliseconds_and_counted_in_seconds(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding takes a quarter of a second, the way to the batch and back a second, on the embedder's clock."""
    now = 100.0

    def slow(*arguments: Any) -> Any:
        nonlocal now
        now += 0.25
        return to_pixels(*arguments)

    def slow_network(real: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def run(images: np.ndarray) -> np.ndarray:
            nonlocal now
            now += 1.0
            return real(images)

        return run

    monkeypatch.setattr("sfsc_service.engine.embedder.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("sfsc_service.engine.decoding.to_pixels", slow)
    embedder = make(queue_ms=1e12)  # the batcher has a clock of its own
    replace_network(embedder, slow_network)
    found = embed(embedder)
    assert found.preprocess_ms == 250.0
    assert value(embedder, "sfsc_preprocess_seconds_sum") == 0.25
    assert value(embedder, "sfsc_queue_seconds_sum", width=WIDTH) == found.queue_ms / 1000
    around_ms = 1000.0 - found.queue_ms - found.compute_ms
    mean_ms = 0.05 * around_ms
    spread_ms = 0.05 * (around_ms - mean_ms)
    assert embedder._served.scheduler.overhead_ms == pytest.approx(2 * (mean_ms + 2 * spread_ms), rel=1e-9)


def test_a_network_that_fails_says_nothing_of_time_limits(make: Make) -> None:
    def failing(_images: np.ndarray) -> np.ndarray:
        raise ValueError("broken")

    embedder = make()
    replace_network(embedder, lambda _real: failing)
    with pytest.raises(Problem, match="broken"):
        embed(embedder)
    assert family(embedder, "sfsc_deadlines").samples == []


def test_sixteen_batches_of_images_may_wait_to_be_decoded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go = threading.Event(), threading.Event()

    def gate(*arguments: Any) -> Any:
        entered.set()
        assert go.wait(START_TIMEOUT_S)
        return to_pixels(*arguments)

    monkeypatch.setattr("sfsc_service.engine.decoding.to_pixels", gate)
    embedder = make(max_batch=2)

    def send() -> "asyncio.Task[EmbeddedImage]":
        image = draw_image(1, format="PNG")  # not decoded where it arrives
        return asyncio.create_task(embedder.embed(image, Budget(width=WIDTH), Arrival.now()))

    async def scenario() -> None:
        admitted = [send() for _ in range(1 + 16 * 2)]
        assert await asyncio.to_thread(entered.wait, START_TIMEOUT_S)
        with pytest.raises(Problem) as caught:
            await asyncio.wait_for(send(), START_TIMEOUT_S)
        assert caught.value.code == "queue_full"
        go.set()
        await asyncio.gather(*admitted)

    try:
        asyncio.run(scenario())
    finally:
        go.set()


def test_a_batch_that_is_predicted_to_take_long_gets_twenty_times_as_long(make: Make) -> None:
    def slow(real: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def run(images: np.ndarray) -> np.ndarray:
            time.sleep(0.5)
            return real(images)

        return run

    embedder = make(hang_after_s=0.05)
    embedder.costs.load({WIDTH: {1: Measured(200.0, 200.0)}})
    replace_network(embedder, slow)
    assert embed(embedder).width == WIDTH


def waited_until(embedder: Embedder, image: bytes, arrival: Arrival, monkeypatch: pytest.MonkeyPatch) -> float:
    """When the batcher gives up the image, in seconds, monotonic."""
    found: list[float] = []

    def submit(*_: Any, times_out: float, **__: Any) -> Any:
        found.append(times_out)
        raise Problem("shutting_down", "that is all")

    monkeypatch.setattr(embedder.batcher, "submit", submit)
    with pytest.raises(Problem, match="that is all"):
        asyncio.run(embedder.embed(image, Budget(width=WIDTH), arrival))
    return found[0]


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("kind", "longest_s"),
    [
        ({}, 60.0),
        ({"waited_ms": 1000.0}, 59.0),
        ({"bulk": True}, 600.0),
        ({"bulk": True, "waited_ms": 500.0}, 599.5),
    ],
)
def test_the_wait_counts_from_the_end_of_the_body_whatever_is_decoded_where(
    make: Make, monkeypatch: pytest.MonkeyPatch, format: str, kind: dict[str, Any], longest_s: float
) -> None:
    embedder, read_at = make(queue_ms=60_000.0), time.monotonic() - 20.0
    arrival = Arrival(read_at - 100.0, **{"bulk": False, "read_at": read_at, **kind})
    image = draw_image(1, format=format)
    assert waited_until(embedder, image, arrival, monkeypatch) == pytest.approx(read_at + longest_s)


def test_an_image_of_a_bulk_call_waits_for_as_long_as_its_window(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrival = Arrival.now(bulk=True, gives_up=time.monotonic() + 1e6)
    assert waited_until(make(), draw_image(1), arrival, monkeypatch) == arrival.gives_up


def test_waiting_to_be_decoded_and_for_a_network_is_one_wait(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder is held; the image behind it is answered while it still is, and never decoded."""
    embedder, go, decoded = make(queue_ms=300.0), threading.Event(), []

    def decode(_self: Decoding, data: bytes, *_: Any) -> Any:
        decoded.append(data)
        assert go.wait(START_TIMEOUT_S)
        raise Problem("shutting_down", "that is all")

    monkeypatch.setattr(Decoding, "_decode", decode)
    first, second = (draw_image(seed, format="PNG") for seed in (1, 2))

    async def both() -> list[Any]:
        tasks = [
            asyncio.create_task(embedder.embed(image, Budget(width=WIDTH), Arrival.now()))
            for image in (first, second)
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert not tasks[0].done()
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    held, late = asyncio.run(both())
    assert (held.code, late.code) == ("shutting_down", "queue_timeout"), "what has begun is not given up"
    assert decoded == [first]
    (dropped,) = [one for one in family(embedder, "sfsc_dropped").samples if one.name.endswith("_total")]
    assert (dropped.labels, dropped.value) == ({"cause": "queue_timeout"}, 1.0)


def test_images_of_a_bulk_call_may_take_long(make: Make) -> None:
    """20 s, or ten times what single requests may wait, or ten times what they take on an idle machine."""
    embedder = make(queue_ms=100.0)
    embedder.costs.set_measured(embedder.catalog.widths[-1], 1, Measured(10.0, 10.0))
    assert embedder.bulk_limit_s(64) == 20.0
    embedder.costs.set_measured(embedder.catalog.widths[-1], 1, Measured(500.0, 500.0))
    embedder._decoding._mean_ms = 100.0
    assert embedder.bulk_limit_s(64) == pytest.approx(64 * 10 * 0.6)
    assert make(queue_ms=5000.0).bulk_limit_s(1) == 50.0
