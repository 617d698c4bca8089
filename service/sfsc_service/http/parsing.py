"""Where request bodies are parsed: small ones in the event loop, large ones in a thread, the smallest first.

The event loop gets its turn after every `IN_LOOP_BYTES` that are parsed in it, however many bodies they are of.
"""

import asyncio
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sfsc_service.engine.blocking_calls import BlockingCalls

__all__ = ["TURN_S", "Parsing", "Turns"]

A = ParamSpec("A")
T = TypeVar("T")

IN_LOOP_BYTES = 2**15
"""Parsed in about a millisecond at worst; the way to a thread and back costs a tenth of that."""
BYTES_PER_S = 10 * 2**20
"""A body of so many bytes lets pass the smaller ones that arrive within a second."""
WAITING = 1024
TURN_S = 0.001
"""How long bodies that arrive are parsed until the event loop gets its turn."""


class Turns:
    """Who parses in the event loop while its body arrives: one at a time.

    The loop gets to everything else after `TURN_S` of parsing and one call more, however many bodies arrive.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._used_s = 0.0

    async def run(self, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
        """Call in the event loop, once it is this one's turn. Raises what the call raises."""
        async with self._lock:
            began = time.monotonic()
            result = call(*args, **kwargs)
            self._used_s += time.monotonic() - began
            if self._used_s > TURN_S:
                self._used_s = 0.0
                await asyncio.sleep(0)
            return result


class Parsing:
    """One thread: parsers hold Python's lock, so several of them would only compete with the event loop.

    Attributes:
        turns: of bodies that are parsed in the event loop while they arrive.
    """

    def __init__(self) -> None:
        self.turns = Turns()
        self._thread = BlockingCalls("parse", 1, WAITING)
        self._since_turn = 0

    async def run(self, size: int, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
        """Call what parses `size` bytes.

        Raises:
            Problem: queue_full, shutting_down.
            Exception: what the call raises.
        """
        if size > IN_LOOP_BYTES:
            return await self._thread.run_by(time.monotonic() + size / BYTES_PER_S, call, *args, **kwargs)
        self._since_turn += size
        if self._since_turn > IN_LOOP_BYTES:
            self._since_turn = 0
            await asyncio.sleep(0)
        return call(*args, **kwargs)

    def close(self) -> None:
        """Wait for the call under way; those that have not begun are cancelled."""
        self._thread.close()
