"""Alive and ready. Both answers are read from flags: they never wait for a lock, a thread or a pool.

Alive: workers that hang or die can still be replaced, the store can work. Ready: alive, not draining, and a canary
image has lately gone through the real decoder, queue and worker. A full queue is no reason to be unready: an
orchestrator would take away the very process that still answers.
"""

import asyncio
import contextlib
import io
import logging
import math
import time

from PIL import Image

from sfsc_service.engine.embedder import Arrival, Embedder
from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem
from sfsc_service.metrics import Metrics
from sfsc_service.store.protocol import Store

__all__ = ["Health"]

TICK_S = 1.0
CANARY_EVERY_S = 5.0
CANARY_FRESH_S = 30.0
TRIM_EVERY_S = 30.0

log = logging.getLogger(__name__)


class Health:
    """Watches one embedder and one store."""

    def __init__(self, embedder: Embedder, store: Store, metrics: Metrics) -> None:
        self._embedder, self._store = embedder, store
        self._passed: float | None = None
        self._failure = "no canary image has gone through yet"
        self.draining = False
        metrics.ready.set_function(lambda: float(not self.not_ready()))

    def not_alive(self) -> list[str]:
        """Why the process should be replaced; empty while it is alive."""
        reasons = []
        if not self._embedder.batcher.worker_pool.alive:
            reasons += self.notes() or ["nobody watches the batch workers any more"]
        if not self._store.alive:
            reasons.append("the store can take no changes any more")
        return reasons

    def notes(self) -> list[str]:
        """What has gone wrong and been mended, which `not_alive` turns into reasons when it is too much."""
        worker_pool = self._embedder.batcher.worker_pool
        found = ((worker_pool.hanging, "hung and have not come back"), (worker_pool.died, "died"))
        return [
            f"batch workers that {what}: {count} of at most {worker_pool.spare}" for count, what in found if count
        ]

    def not_ready(self) -> list[str]:
        """Why no work should be sent now; empty while it is ready."""
        reasons = self.not_alive()
        if self.draining:
            reasons.append("the service is shutting down")
        if self._passed is None or time.monotonic() - self._passed > CANARY_FRESH_S:
            reasons.append(f"no canary image has come back lately: {self._failure}")
        return reasons

    async def check(self) -> None:
        """Send the canary through the narrowest width's real path."""
        try:
            budget = Budget(width=self._embedder.catalog.widths[0])
            await asyncio.wait_for(
                self._embedder.embed(_canary(), budget, Arrival.now(canary=True)), CANARY_FRESH_S
            )
        except Problem as problem:
            # A full queue was made by work that is being done.
            if problem.kind != "queue_full":
                self._failure = problem.detail
                return
        except Exception as error:
            log.exception("canary")
            self._failure = type(error).__name__
            return
        self._passed = time.monotonic()

    async def watch(self) -> None:
        """Send canaries, give freed memory back, and complete the cost table while all is idle. Endless."""
        trimmed = -math.inf  # what the start has left behind goes back first
        while True:
            await self.check()
            if time.monotonic() - trimmed > TRIM_EVERY_S:
                trimmed = time.monotonic()
                with contextlib.suppress(Problem):
                    await self._embedder.trim_heap()
            end = time.monotonic() + CANARY_EVERY_S
            while time.monotonic() < end:
                await asyncio.sleep(TICK_S)
                if self._embedder.batcher.idle:
                    with contextlib.suppress(Problem):
                        await self._embedder.measure_idle()


def _canary() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
