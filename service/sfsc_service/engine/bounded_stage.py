"""One stage of a request beside the networks, such as a search: threads, and a queue bounded in predicted time.

Invariants:
- A call that would wait for longer than `queue_ms`, as predicted from the calls before, is refused (queue_full).
- A call that has waited for longer all the same, or past its deadline, is dropped before it begins.
"""

import math
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sfsc_service.engine.batch_problems import deadline_passed, queue_full, queue_timeout
from sfsc_service.engine.blocking_calls import BlockingCalls, LongestWait, NotBegunError

__all__ = ["BoundedStage"]

A = ParamSpec("A")
T = TypeVar("T")

SMOOTHING = 0.1
"""The weight of one call in the predicted time of the next ones."""
FIRST_MS = 1.0
"""What a call is predicted to take before there was one."""


class BoundedStage:
    """Threads for one kind of call.

    Args:
        threads: calls at a time.
        waiting: calls that may wait, however short they are.
        nice: what the threads add to their niceness (thread_priority.py).
    """

    def __init__(self, name: str, threads: int, queue_ms: float, nice: int = 0, waiting: int = 1024) -> None:
        self._calls = BlockingCalls(name, threads, waiting, nice)
        self._threads, self._queue_ms = threads, queue_ms
        self._under_way = 0
        self._mean_ms = FIRST_MS

    @property
    def backlog_ms(self) -> float:
        """Predicted time until one more call begins. Never waits."""
        return max(0, self._under_way - self._threads + 1) * self._mean_ms / self._threads

    def predicted_ms(self, due: float) -> float:  # noqa: ARG002
        """Predicted time until one more call, due then, has ended: as if all others came before. Never waits."""
        return self.backlog_ms + self._mean_ms

    def check_not_full(self) -> None:
        """Refuse, before anything is spent, what would wait too long. Raises Problem: queue_full."""
        if (waiting_ms := self.backlog_ms) > self._queue_ms:
            raise queue_full(waiting_ms, self._queue_ms)

    async def run(
        self, due: float, deadline: float | None, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs
    ) -> T:
        """Call in a thread; of the calls that wait, the one with the smallest `due` begins first.

        Args:
            due, deadline: seconds, monotonic.

        Raises:
            Problem: queue_full, queue_timeout, deadline_passed, shutting_down.
        """
        self.check_not_full()
        wait = LongestWait()

        def timed() -> T:
            wait.began, began = True, time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                # Two threads at once may lose an observation here; nothing depends on a single one.
                self._mean_ms += SMOOTHING * (1000 * (time.perf_counter() - began) - self._mean_ms)

        future = self._calls.run_by(due, timed)
        longest_s = self._queue_ms / 1000
        left_s = math.inf if deadline is None else max(0.0, deadline - time.monotonic())
        self._under_way += 1
        try:
            return await wait.result(future, min(longest_s, left_s))
        except NotBegunError:
            raise (deadline_passed() if left_s < longest_s else queue_timeout()) from None
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Wait for running calls; those that have not begun are cancelled."""
        self._calls.close()
