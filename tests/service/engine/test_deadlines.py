"""What becomes of time limits, end to end: admitted, refused on arrival, expired; and every one is counted."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sfsc_service.engine.costs import Measured
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import Live, running

START_TIMEOUT_S = 20.0


@pytest.fixture
def served(settings: Settings) -> Iterator[Live]:
    with running(settings.model_copy(update={"threads": 1, "slo_ms": 10_000.0, "queue_ms": 60_000.0})) as made:
        yield made


@pytest.fixture
def held(served: Live) -> Iterator[threading.Event]:
    """The only worker is busy with a request of width 0.25 until the event is set."""
    entered, go = threading.Event(), threading.Event()
    runners = served.service.embedder.networks.runners
    real = runners["0.25"]

    def run(images: np.ndarray) -> np.ndarray:
        entered.set()
        assert go.wait(START_TIMEOUT_S)
        return real(images)

    runners["0.25"] = run  # type: ignore[assignment]
    with ThreadPoolExecutor(1) as caller:
        busy = caller.submit(served.post_image, "/embed", draw_image(0), width="0.25")
        assert entered.wait(START_TIMEOUT_S)
        try:
            yield go
        finally:
            go.set()
            assert busy.result().status_code == 200


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def outcomes(live: Live, width: str, limit: str) -> dict[str, float]:
    return {
        outcome: count
        for outcome in ("met", "missed", "refused")
        if (count := live.metric("sfsc_deadlines_total", width=width, limit=limit, outcome=outcome))
    }


def test_limits_that_are_kept(served: Live) -> None:
    before = outcomes(served, "1.0", "soft").get("met", 0.0)
    assert served.post_image("/embed", draw_image(1), width="1.0").status_code == 200
    assert served.post_image("/embed", draw_image(1), width="1.0", deadline_ms=10_000).status_code == 200
    assert outcomes(served, "1.0", "hard") == {"met": 1.0}
    assert outcomes(served, "1.0", "soft") == {"met": before + 1}


def test_a_soft_limit_is_missed_and_answered(served: Live) -> None:
    answer = served.post_image("/embed", draw_image(1), latency_ms=0.001)
    assert answer.status_code == 200
    assert answer.json()["results"][0]["budget_met"] is False
    assert outcomes(served, "0.25", "soft")["missed"] == 1.0


def test_a_hard_deadline_that_cannot_be_met_is_refused_before_anything_is_decoded(served: Live) -> None:
    decoded = served.metric("sfsc_preprocess_seconds_count")
    answer = served.post_image("/embed", draw_image(1), width="0.5", deadline_ms=0.0001)
    assert (answer.status_code, answer.json()["code"]) == (503, "deadline_unreachable")
    assert outcomes(served, "0.5", "hard") == {"refused": 1.0}
    assert served.metric("sfsc_preprocess_seconds_count") == decoded


def test_only_what_is_more_urgent_makes_a_deadline_unreachable(served: Live, held: threading.Event) -> None:
    """Three requests of 600 predicted milliseconds wait for the same worker, and can wait for ten seconds."""
    served.service.embedder.costs.load({"1.0": {1: Measured(600.0, 600.0)}})
    with ThreadPoolExecutor(4) as callers:
        waiting = [callers.submit(served.post_image, "/embed", draw_image(n), width="1.0") for n in range(3)]
        until(lambda: served.metric("sfsc_queue_images") >= 3.0)
        hasty = callers.submit(served.post_image, "/embed", draw_image(9), width="0.5", deadline_ms=5000)
        until(lambda: served.metric("sfsc_queue_images") >= 4.0)
        held.set()
        assert [one.result().status_code for one in (*waiting, hasty)] == [200, 200, 200, 200]
    assert outcomes(served, "0.5", "hard") == {"met": 1.0}


def test_a_deadline_that_ends_in_the_queue_is_missed_and_dropped(served: Live, held: threading.Event) -> None:
    late = served.post_image("/embed", draw_image(1), width="0.75", deadline_ms=500)
    assert (late.status_code, late.json()["code"]) == (504, "deadline_passed")
    assert outcomes(served, "0.75", "hard") == {"missed": 1.0}
    held.set()
    assert served.post_image("/embed", draw_image(1), width="0.5").status_code == 200
    assert served.metric("sfsc_dropped_total", cause="deadline_passed") == 1.0


def test_batches_are_compared_with_their_prediction(served: Live) -> None:
    """Each is predicted to take 10 s and takes far less, so the machine looks faster than it was measured."""
    costs = served.service.embedder.costs
    costs.load({width: {1: Measured(10_000.0, 10_000.0)} for width in ("0.25", "0.5", "0.75", "1.0")})
    count = served.metric("sfsc_cost_ratio_count", width="0.75")
    ratios = served.metric("sfsc_cost_ratio_sum", width="0.75")
    slowdowns = []
    for n in range(5):
        assert served.post_image("/embed", draw_image(n), width="0.75").status_code == 200
        slowdowns.append(served.metric("sfsc_slowdown"))
    assert served.metric("sfsc_cost_ratio_count", width="0.75") == count + 5
    assert 0.0 < served.metric("sfsc_cost_ratio_sum", width="0.75") - ratios < 5.0
    assert min(slowdowns) < 1.0
