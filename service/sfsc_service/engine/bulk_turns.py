"""Short work of bulk calls in the event loop: a share of its time, between whatever else waits there.

One piece for every turn of the event loop would be next to nothing under a crowd, when a turn takes hundreds of
milliseconds.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

__all__ = ["BulkTurns"]

T = TypeVar("T")

SHARE = 0.1
"""The share of the event loop's time that this work gets at least: a turn has one piece, or as many as fit in."""


class BulkTurns:
    """Pieces of work in the order in which they came. Not thread-safe: the event loop's."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop that has a turn coming."""

    async def run(self, call: Callable[[], T]) -> T:
        """Call when its turn has come; a caller that is cancelled before leaves the queue."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._loop is not loop:
            if self._loop is not None:  # it has ended before its turn, and its callers with it
                self._waiting.clear()
            self._loop = loop
            loop.call_soon(self._turn, time.monotonic())
        self._waiting.append((future, call))
        return await future

    def _turn(self, ended: float) -> None:
        """Use this turn of the event loop; `ended`: when its part of the last one ended."""
        began = time.monotonic()
        until = began + SHARE * (began - ended)
        while self._waiting:
            _answer(*self._waiting.popleft())
            if time.monotonic() >= until:
                break
        if self._waiting and self._loop is not None:
            self._loop.call_soon(self._turn, time.monotonic())
        else:
            self._loop = None


def _answer(future: "asyncio.Future[T]", call: Callable[[], T]) -> None:
    if future.done():  # its caller has gone
        return
    try:
        answer = partial(future.set_result, call())
    except Exception as error:
        answer = partial(future.set_exception, error)
    answer()
