"""Networks that hang or kill their worker, behind the socket."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_service.settings import Settings
from tests.service.faulty import START_TIMEOUT_S, computed, network, until
from tests.service.images import draw_image
from tests.service.live import Live, running

SPARE = 4


def test_a_worker_that_dies_is_replaced_and_livez_tells(weak: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    class PulledPlugError(BaseException):
        pass

    def pull(_images: np.ndarray) -> np.ndarray:
        raise PulledPlugError

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    network(weak, "0.5", lambda _: pull)
    for died in range(1, SPARE + 1):
        answer = weak.post_image("/embed", draw_image(1), width="0.5")
        assert (answer.status_code, answer.json()["code"]) == (500, "inference_failed")
        assert weak.post_image("/embed", draw_image(1), width="0.25").status_code == 200
        health = weak.http.get("/livez")
        told = [f"batch workers that died: {died} of at most {SPARE}"]
        assert health.json()["notes"] == told
        assert (health.status_code, health.json()["reasons"]) == ((503, told) if died == SPARE else (200, []))
    assert weak.metric("sfsc_lost_workers_total", cause="died") == SPARE


class Stuck:
    """A network that does not come back until it is let go, for images of one kind only."""

    def __init__(self, live: Live, width: str, poison: np.ndarray | None = None) -> None:
        self._poison, self.go = poison, threading.Event()
        network(live, width, self._made)

    def _made(self, real: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def run(images: np.ndarray) -> np.ndarray:
            if self._poison is None or any(np.array_equal(image, self._poison) for image in images):
                assert self.go.wait(START_TIMEOUT_S)
            return real(images)

        return run


@pytest.fixture
def hasty(settings: Settings) -> Iterator[Live]:
    """A service with one worker that is abandoned after a tenth of a second."""
    with running(settings.model_copy(update={"threads": 1, "slo_ms": 2000.0, "hang_after_s": 0.1})) as made:
        yield made


def test_a_network_that_hangs_costs_its_own_requests_and_nobody_else(
    hasty: Live, tiny: Bundle, callers: ThreadPoolExecutor
) -> None:
    before = computed(hasty, "0.5")
    stuck = Stuck(hasty, "0.5", preprocess(draw_image(66), tiny.manifest.preprocessing))
    others = [callers.submit(hasty.post_image, "/embed", draw_image(n), width="0.25") for n in range(8)]
    hung = hasty.post_image("/embed", draw_image(66), width="0.5")
    assert (hung.status_code, hung.json()["code"]) == (500, "inference_hung")
    assert hung.headers["content-type"] == "application/problem+json"
    assert {future.result().status_code for future in others} == {200}
    health = hasty.http.get("/livez")
    assert (health.status_code, health.json()["reasons"]) == (200, [])
    assert health.json()["notes"] == [f"batch workers that hung and have not come back: 1 of at most {SPARE}"]
    assert hasty.metric("sfsc_lost_workers_total", cause="hung") == 1.0
    assert hasty.metric("sfsc_hanging_workers") == 1.0
    assert hasty.post_image("/embed", draw_image(1), width="0.5").status_code == 200
    stuck.go.set()
    until(lambda: hasty.http.get("/livez").json()["notes"] == [])
    assert hasty.metric("sfsc_hanging_workers") == 0.0
    assert computed(hasty, "0.5") == before + 1


def test_when_too_many_workers_hang_livez_turns_red_and_everybody_is_still_answered(hasty: Live) -> None:
    stuck = Stuck(hasty, "0.5")
    for hanging in range(1, SPARE + 1):
        assert hasty.post_image("/embed", draw_image(1), width="0.5").json()["code"] == "inference_hung"
        assert hasty.http.get("/livez").status_code == (503 if hanging == SPARE else 200)
    health = hasty.http.get("/livez").json()
    assert health["reasons"] == [f"batch workers that hung and have not come back: {SPARE} of at most {SPARE}"]
    assert hasty.post_image("/embed", draw_image(1), width="0.25").status_code == 200
    assert hasty.post_image("/embed", draw_image(1), width="0.5").json()["code"] == "inference_hung"
    refused = hasty.post_image("/embed", draw_image(1), width="0.25")
    assert (refused.status_code, refused.json()["code"]) == (503, "no_worker")
    stuck.go.set()
    until(lambda: hasty.post_image("/embed", draw_image(1), width="0.25").status_code == 200)
    assert hasty.http.get("/livez").status_code == 200
