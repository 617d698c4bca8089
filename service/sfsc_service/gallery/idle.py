"""Work of the service's own on stored items, for moments in which nobody asks anything of it.

Invariants:
- One image or one look at the store is under way at a time, so a request waits for no more than that.
- Images go the way of all images, as those of bulk calls, behind every request; they are not counted as requests.
- Blocking calls have a thread of their own, so no request waits for that.
"""

import asyncio
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sfsc_service.engine.arrival import Arrival
from sfsc_service.engine.blocking_calls import BlockingCalls
from sfsc_service.engine.embedder import EmbeddedImage, Embedder
from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem

__all__ = ["IdleWork"]

A = ParamSpec("A")
T = TypeVar("T")

IDLE_S = 0.25
"""The service is idle when its last request was answered so long ago."""
FIRST_LOOK_S, LOOK_EVERY_S = 0.001, 0.05
"""Seconds between looks: short ones first, as a worker takes a moment to become free after its answer."""
ATTEMPTS = 5
"""So often an image is sent that finds the queue full, though the service is idle."""


class IdleWork:
    """Waits for idle moments of one embedder, and works in them. `nice`: what its thread adds to its niceness."""

    def __init__(self, embedder: Embedder, nice: int) -> None:
        self._embedder = embedder
        self._turn = asyncio.Lock()
        self._calls = BlockingCalls("idle", 1, 8, nice)
        self._waits_since: float | None = None

    @property
    def paused(self) -> bool:
        """Whether work waits for an idle moment. Never waits."""
        return self._waits_since is not None and time.monotonic() - self._waits_since > IDLE_S

    async def embed(self, image: bytes, width: str) -> EmbeddedImage:
        """Embed a stored image at a width. Raises what Embedder.embed raises."""
        for attempt in range(ATTEMPTS):
            try:
                async with self._turn:
                    await self._wait()
                    return await self._embedder.embed(image, Budget(width=width), Arrival.now(bulk=True, own=True))
            except Problem as problem:
                if problem.code not in ("queue_full", "queue_timeout") or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def preview(self, image: bytes, side: int) -> bytes:
        """A small JPEG of a stored image. Raises what Previews.make raises."""
        async with self._turn:
            await self._wait()
            return await self._embedder.previews.make(lambda: image, side)

    async def call_now(self, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
        """Make a blocking call that somebody waits for. Raises what it raises, and Problem: shutting_down."""
        return await self._calls.run(call, *args, **kwargs)

    async def call(self, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
        """Make a blocking call in an idle moment. Raises what it raises, and Problem: shutting_down."""
        async with self._turn:
            await self._wait()
            return await self._calls.run(call, *args, **kwargs)

    def close(self) -> None:
        """Wait for the call that is under way."""
        self._calls.close()

    async def _wait(self) -> None:
        pause_s, self._waits_since = FIRST_LOOK_S, time.monotonic()
        try:
            while self._embedder.idle_s < IDLE_S:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LOOK_EVERY_S)
        finally:
            self._waits_since = None
