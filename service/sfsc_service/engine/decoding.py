"""Encoded images → pixels, in threads of their own and within bounds on time and memory.

Invariants:
- Small baseline JPEGs never wait: they are decoded where they arrive.
- Who is due first is decoded first; a fixed time per request, so nobody is starved.
- What waits is bounded in predicted milliseconds by those who ask for `backlog_ms`, and in number here.
- At most `threads` images are decoded at a time, and of the large ones only so many that together they have no
  more pixels than two of the largest allowed.
- All but the decoding itself happens in one event loop.
"""

import asyncio
import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import ParamSpec, TypeVar

from sfsc_bundle.header import ImageLimits, open_header
from sfsc_bundle.manifest import Preprocessing
from sfsc_bundle.preprocess import load, squash
from sfsc_service.engine.blocking_calls import BlockingCalls
from sfsc_service.engine.networks import Image
from sfsc_service.errors import Problem

__all__ = ["Decoding"]

A = ParamSpec("A")
T = TypeVar("T")

JPEG = b"\xff\xd8\xff"
SMALL_BYTES = 2**15
SMALL_PIXELS = 2**16
"""Within both, a baseline JPEG is decoded in well under a millisecond; a progressive one may have many scans."""
LARGE_PIXELS = 2_000_000
"""An image of so many pixels or more has to wait for room."""
AHEAD = 2
"""Calls in the pool for each thread, so that none has to wait for the event loop between two images."""
WEIGHT = 0.05
"""How much one image moves the prediction of what the next ones take."""


class Decoding:
    """A pool for decoding.

    Args:
        waiting: images that may wait to be given to it.
        nice: by how much its threads give way to the event loop.
    """

    def __init__(self, threads: int, waiting: int, limits: ImageLimits, nice: int = 0) -> None:
        self._threads, self._limits, self._most = threads, limits, waiting
        self._pool = BlockingCalls("decode", threads, (AHEAD - 1) * threads + 1, nice)
        self._free = AHEAD * threads
        self._turns: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()
        self._room = _Room(2 * limits.max_pixels)
        self._inside = {False: 0, True: 0}
        self._mean_ms = 0.0

    def backlog_ms(self, *, bulk: bool = False) -> float:
        """Predicted time until what waits now, and counts, has been decoded. Never waits."""
        waiting = self._inside[False] + (self._inside[True] if bulk else 0) - self._threads
        return max(0, waiting) * self._mean_ms / self._threads

    async def run(self, data: bytes, preprocessing: Preprocessing, due: float, *, bulk: bool = False) -> Image:
        """Decode and resize: uint8 [H, W, 3]; `patient` ones are not counted against those that are not.

        Raises:
            ImageError: the image cannot be taken.
            Problem: queue_full, shutting_down.
        """
        self._inside[bulk] += 1
        try:
            async with self._turn(due):
                return await self._pool.run(self._decode, data, preprocessing)
        finally:
            self._inside[bulk] -= 1

    def decode_now(self, data: bytes, preprocessing: Preprocessing) -> Image | None:
        """Decode a small baseline JPEG here and now, which takes no longer than handing it to a thread and back.

        None: it is something else, and has to be `run`. Raises ImageError.
        """
        if len(data) > SMALL_BYTES or not data.startswith(JPEG):
            return None
        image = open_header(data, self._limits)
        if image.width * image.height > SMALL_PIXELS or "progressive" in image.info:
            return None
        return squash(load(image), preprocessing)

    async def run_other(self, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
        """Something else that computes, in one of the same threads."""
        return await self._pool.run(call, *args, **kwargs)

    def close(self) -> None:
        """Wait for what is being decoded; what has not begun never is."""
        self._pool.close()

    @contextlib.asynccontextmanager
    async def _turn(self, due: float) -> AsyncIterator[None]:
        if self._free:
            self._free -= 1
        else:
            await self._wait(due)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, due: float) -> None:
        if len(self._turns) >= self._most:
            raise Problem("queue_full", f"decode: {self._most} images wait already", retry_after_s=1.0)
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._turns, (due, next(self._arrivals), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it was this one's turn, and it has left
            raise

    def _pass_on(self) -> None:
        while self._turns:
            _, _, turn = heapq.heappop(self._turns)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _decode(self, data: bytes, preprocessing: Preprocessing) -> Image:
        image = open_header(data, self._limits)
        pixels = image.width * image.height
        with self._room.of(pixels) if pixels >= LARGE_PIXELS else contextlib.nullcontext():
            began = time.perf_counter()
            squashed = squash(load(image), preprocessing)
            # Two threads at once may lose an observation here; nothing depends on one.
            self._mean_ms += WEIGHT * (1000 * (time.perf_counter() - began) - self._mean_ms)
            return squashed


class _Room:
    """Pixels that may be decoded at a time; one image alone always fits."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._held = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()
