"""Alive and ready: both are read from flags and never wait for a lock, a thread or a pool.

Alive: workers that hang or die can still be replaced, and index and database agree. Ready: alive, not draining,
the last look at the store found no fault, and the last canary image has passed the real decoder, queue and worker.
A full queue does not make the service unready: an orchestrator would take away a process that is answering
requests. A fault of the store does not make it dead: a restart frees no disk.

When the reasons for being unready change, one line of the log says so.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import get_args

from sfsc_service.engine.blocking_calls import BlockingCalls
from sfsc_service.engine.embedder import Arrival, Embedder
from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem
from sfsc_service.lifecycle.canary import canary_image
from sfsc_service.metrics import Metrics
from sfsc_service.store.errors import StoreClosedError, StoreFailedError
from sfsc_service.store.fault import FaultCause, StoreFault
from sfsc_service.store.open_stores import OpenStores

__all__ = ["Health"]

TICK_S = 1.0
STORE_EVERY_S = 0.3
STORE_TIMEOUT_S = 3.0
"""Seconds after which a look at the store counts as a fault; on some network file systems it never ends."""
CANARY_EVERY_S = 5.0
CANARY_FRESH_S = 30.0
TRIM_EVERY_S = 30.0

log = logging.getLogger(__name__)


class Health:
    """The health of one embedder and of all stores. `further_notes`: what others have for `notes`; never waits."""

    def __init__(
        self,
        embedder: Embedder,
        stores: OpenStores,
        metrics: Metrics,
        further_notes: Callable[[], list[str]] = list,
    ) -> None:
        self._embedder, self._stores, self._metrics = embedder, stores, metrics
        self._further_notes = further_notes
        self._trimmed = -math.inf  # the first round gives back the memory that the start has freed
        self._passed: float | None = None
        self._failure = "the first one is still on its way"
        self._store_fault: StoreFault | None = None
        self._store_look: asyncio.Future[StoreFault | None] | None = None
        self._store_calls = BlockingCalls("health", 1, 0)
        self._logged: list[str] | None = None
        """The last reasons that were logged; None until the service is ready for the first time."""
        self.draining = False
        for cause in get_args(FaultCause):
            metrics.store_fault.labels(cause)
        metrics.ready.set_function(lambda: float(not self.not_ready()))

    def not_alive(self) -> list[str]:
        """Why the process should be replaced; empty while it is alive."""
        reasons = []
        if not self._embedder.batcher.worker_pool.alive:
            reasons += self._lost_workers() or ["the batch workers are not supervised any more"]
        if not self._stores.alive:
            reasons.append("the store can take no more changes")
        return reasons

    def close(self) -> None:
        """End the thread that looks at the store, unless it hangs."""
        self.draining = True
        if self._store_look is None or self._store_look.done():
            self._store_calls.close()

    def notes(self) -> list[str]:
        """What an operator should know of a service that works.

        Workers that were lost, items that are damaged, and what `further_notes` says.
        """
        return [*self._lost_workers(), *self._stores.faults, *self._further_notes()]

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
        if self._store_fault is not None:
            reasons.append(self._store_fault.detail)
        if self._passed is None:
            reasons.append(f"the last canary image was not embedded: {self._failure}")
        elif time.monotonic() - self._passed > CANARY_FRESH_S:
            reasons.append(f"no canary image has been embedded in the last {CANARY_FRESH_S:g} s")
        return reasons

    async def look_at_store(self) -> None:
        """Look for faults of the store, for at most `STORE_TIMEOUT_S`; a look that hangs is awaited further."""
        if self._store_look is None:
            self._store_look = self._store_calls.run(self._look)
        done, _ = await asyncio.wait({self._store_look}, timeout=STORE_TIMEOUT_S)
        if done:
            look, self._store_look = self._store_look, None
            with contextlib.suppress(StoreClosedError):
                self._store_fault = look.result()
        else:
            rule = f"a look at the store has taken longer than {STORE_TIMEOUT_S:g} s"
            self._store_fault = StoreFault("unresponsive", rule)
        for cause in get_args(FaultCause):
            found = self._store_fault is not None and self._store_fault.cause == cause
            self._metrics.store_fault.labels(cause).set(found)

    def _look(self) -> StoreFault | None:
        found = self._stores.fault()
        if found is not None and found.cause == "folder_gone":
            return found
        with contextlib.suppress(StoreFailedError):  # it may go between the two looks
            sizes = self._stores.sizes()
            self._metrics.store_rows.labels("live").set(sizes.live_rows)
            self._metrics.store_rows.labels("dead").set(sizes.dead_rows)
            self._metrics.store_log_bytes.set(sizes.log_bytes)
            self._metrics.store_vector_files.set(sizes.vector_files)
            self._metrics.store_free_bytes.set(sizes.free_bytes)
            self._metrics.store_columns_failed.set(sizes.columns_failed)
        return found

    async def check(self) -> None:
        """Send the canary through the narrowest width's real path."""
        try:
            budget = Budget(width=self._embedder.catalog.widths[0])
            await asyncio.wait_for(
                self._embedder.embed(canary_image(), budget, Arrival.now(own=True)), CANARY_FRESH_S
            )
        except Problem as problem:
            # A full queue shows that requests are being worked on.
            if problem.code not in ("queue_full", "queue_timeout"):
                self._passed, self._failure = None, problem.detail
                return
        except Exception as error:
            log.exception("the canary image could not be embedded; the service is unready until one can")
            self._passed, self._failure = None, type(error).__name__
            return
        self._passed = time.monotonic()

    async def watch(self) -> None:
        """Run rounds for ever; an error in one is logged and counted, and the next one follows."""
        await asyncio.gather(self._repeat(self._run_round), self._repeat(self._watch_store))

    async def _repeat(self, run_round: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run_round()
            except Exception:
                self._metrics.health_failures.inc()
                log.exception("a round of the health check failed; the next one begins in %g s", TICK_S)
                await asyncio.sleep(TICK_S)

    async def _watch_store(self) -> None:
        await self.look_at_store()
        self._log_change()
        await asyncio.sleep(STORE_EVERY_S)

    def _log_change(self) -> None:
        reasons = self.not_ready()
        if self.draining or reasons == self._logged or (reasons and self._logged is None):
            return
        if reasons:
            log.error("the service is not ready: %s", "; ".join(reasons))
        elif self._logged is not None:
            log.info("the service is ready again")
        self._logged = reasons

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
