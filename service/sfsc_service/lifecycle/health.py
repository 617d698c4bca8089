"""Alive and ready: both are read from flags and never wait for a lock, a thread or a pool.

Alive: workers that hang or die can still be replaced, and the store can take changes. Ready: alive, not draining,
and a canary image has recently passed the real decoder, queue and worker. A full queue does not make the service
unready: an orchestrator would take away a process that is answering requests.
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
    """The health of one embedder and one store."""

    def __init__(self, embedder: Embedder, store: Store, metrics: Metrics) -> None:
        self._embedder, self._store, self._metrics = embedder, store, metrics
        self._trimmed = -math.inf  # the first round gives back the memory that the start has freed
        self._passed: float | None = None
        self._failure = "the first one is still on its way"
        self.draining = False
        metrics.ready.set_function(lambda: float(not self.not_ready()))

    def not_alive(self) -> list[str]:
        """Why the process should be replaced; empty while it is alive."""
        reasons = []
        if not self._embedder.batcher.worker_pool.alive:
            reasons += self._lost_workers() or ["the batch workers are not supervised any more"]
        if not self._store.alive:
            reasons.append("the store can take no more changes")
        return reasons

    def notes(self) -> list[str]:
        """What an operator should know of a service that works: workers that were lost, items that are damaged."""
        return [*self._lost_workers(), *self._store.faults]

    def _lost_workers(self) -> list[str]:
        """Those that were replaced; the reasons of `not_alive` once too many were lost."""
        worker_pool = self._embedder.batcher.worker_pool
        found = ((worker_pool.hanging, "hung and have not come back"), (worker_pool.died, "died"))
        return [
            f"batch workers that {what}: {count} of at most {worker_pool.spare}" for count, what in found if count
        ]

    def not_ready(self) -> list[str]:
        """Why no requests should be sent now; empty while the service is ready."""
        reasons = self.not_alive()
        if self.draining:
            reasons.append("the service is shutting down")
        if self._passed is None or time.monotonic() - self._passed > CANARY_FRESH_S:
            reasons.append(f"no canary image has been embedded in the last {CANARY_FRESH_S:g} s: {self._failure}")
        return reasons

    async def check(self) -> None:
        """Send the canary through the narrowest width's real path."""
        try:
            budget = Budget(width=self._embedder.catalog.widths[0])
            await asyncio.wait_for(
                self._embedder.embed(_canary(), budget, Arrival.now(canary=True)), CANARY_FRESH_S
            )
        except Problem as problem:
            # A full queue shows that requests are being worked on.
            if problem.code != "queue_full":
                self._failure = problem.detail
                return
        except Exception as error:
            log.exception("the canary image could not be embedded; the service becomes unready if this lasts")
            self._failure = type(error).__name__
            return
        self._passed = time.monotonic()

    async def watch(self) -> None:
        """Run rounds for ever; an error in one is logged and counted, and the next one follows."""
        while True:
            try:
                await self._run_round()
            except Exception:
                self._metrics.health_failures.inc()
                log.exception("a round of the health check failed; the next one begins in %g s", TICK_S)
                await asyncio.sleep(TICK_S)

    async def _run_round(self) -> None:
        """Send a canary, give freed memory back to the system, and measure costs while nothing else runs."""
        await self.check()
        if time.monotonic() - self._trimmed > TRIM_EVERY_S:
            self._trimmed = time.monotonic()
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
