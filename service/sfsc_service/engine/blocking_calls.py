"""Blocking calls beside the event loop: threads of their own and a bounded number of callers waiting.

asyncio's default executor is never used: nothing here may hold up what shares it.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from sfsc_service.engine.thread_priority import lower_priority
from sfsc_service.errors import Problem

__all__ = ["BlockingCalls"]

A = ParamSpec("A")
T = TypeVar("T")

START_S = 60.0
"""A pool whose threads are not there by then has failed; waiting on would hang the start for ever."""


class BlockingCalls:
    """Threads for one kind of call, all there from the start: nobody's call waits for one to be made.

    Args:
        name: of what is done here, for messages and thread names.
        threads: calls at a time.
        waiting: calls that may wait for a thread; more are refused.
        nice: by how much the threads give way (priority.py).
    """

    def __init__(self, name: str, threads: int, waiting: int, nice: int = 0) -> None:
        self._name, self._limit = name, threads + waiting
        self._executor = ThreadPoolExecutor(
            threads, thread_name_prefix=name, initializer=lower_priority, initargs=(nice,)
        )
        self._running = 0
        self._start(threads)

    async def run(self, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> T:
        """Call in a thread. A caller that is cancelled leaves at once; a call that has not begun never does.

        Raises:
            Problem: queue_full, shutting_down; and whatever the call raises.
        """
        if self._running >= self._limit:
            raise Problem(
                "queue_full", f"{self._name}: {self._limit} calls run or wait already", retry_after_s=1.0
            )
        try:
            future = self._executor.submit(call, *args, **kwargs)
        except RuntimeError as error:
            raise Problem("shutting_down", "the service is shutting down and takes no work") from error
        self._running += 1
        try:
            return await asyncio.wrap_future(future)
        finally:
            self._running -= 1

    def _start(self, threads: int) -> None:
        # The executor makes a thread where none is idle.
        together = threading.Barrier(threads + 1, timeout=START_S)
        for _ in range(threads):
            self._executor.submit(together.wait)
        together.wait()

    def close(self) -> None:
        """Wait for running calls; those that have not begun never do."""
        self._executor.shutdown(wait=True, cancel_futures=True)
