"""When the calls of requests begin: a few in each turn of the event loop, the others in the next ones, in order.

Requests of hundreds of connections may come in the same turn. If all their calls began there, nothing else would
happen until each had taken its first steps: no answer would go out, and no health check would be answered.
"""

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["STARTED_AT_ONCE", "Starts"]

STARTED_AT_ONCE = 32
"""Calls that begin in a turn of the event loop: their first steps take about as long as some batches."""


class Starts:
    """The calls of one event loop. To be used in its thread only."""

    def __init__(self, at_once: int = STARTED_AT_ONCE) -> None:
        self._at_once = at_once
        self._begun = 0
        """In this turn."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_turn_noted = False

    def begin(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """Begin a call now, or in one of the next turns if enough have begun in this one."""
        self._waiting.append(call)
        self._begin_some(loop)

    def _begin_some(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and not self._is_turn_noted:  # first, so that a call that fails keeps no other one back
            self._is_turn_noted = True
            loop.call_soon(self._next_turn, loop)
        while self._waiting and self._begun < self._at_once:
            self._begun += 1
            self._waiting.popleft()()

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun, self._is_turn_noted = 0, False
        self._begin_some(loop)
