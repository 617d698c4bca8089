"""Networks that fail or wait, in the place of those of a running service."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np

from tests.service.images import draw_image
from tests.service.live import Live

START_TIMEOUT_S = 30.0


def computed(live: Live, width: str) -> float:
    """Batches of a width so far."""
    return live.metric("sfsc_compute_seconds_count", width=width)


def network(live: Live, width: str, made: Callable[[Any], Callable[[np.ndarray], np.ndarray]]) -> None:
    """Put `made(real network)` in the place of a width's network."""
    runners: dict[str, Any] = live.service.embedder.networks.runners
    runners[width] = made(runners[width])


def until(true: Callable[[], bool], seconds: float = START_TIMEOUT_S) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


class Held:
    """A network that waits to be let go; whatever is sent meanwhile has to wait in the queue."""

    def __init__(self, live: Live, width: str) -> None:
        self.entered, self._go = threading.Event(), threading.Event()
        self._live = live
        network(live, width, self._made)

    def _made(self, real: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def run(images: np.ndarray) -> np.ndarray:
            self.entered.set()
            assert self._go.wait(START_TIMEOUT_S)
            return real(images)

        return run

    def occupy(self, callers: ThreadPoolExecutor, width: str) -> "Future[httpx.Response]":
        """Send one request that the worker is busy with until `release`."""
        busy = callers.submit(self._live.post_image, "/embed", draw_image(0), width=width)
        assert self.entered.wait(START_TIMEOUT_S)
        return busy

    def until_waiting(self, count: int) -> None:
        until(lambda: self._live.service.embedder.batcher.waiting >= count)

    def release(self) -> None:
        self._go.set()
