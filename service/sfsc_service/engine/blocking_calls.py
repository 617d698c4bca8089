"""Blocking calls beside the event loop: threads of their own, and a bounded queue in order of urgency.

Invariants:
- A call whose caller is cancelled before it began leaves the queue at once, with everything that it holds.
- A call that runs counts until it ends, whether or not its caller still waits for it.
- asyncio's default executor is never used: nothing else that uses it can be held up, or hold up a call here.
"""

import asyncio
import bisect
import contextvars
import functools
import itertools
import operator
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from sfsc_bundle.thread_priority import lower_priority
from sfsc_service.errors import Problem

__all__ = ["BlockingCalls", "LongestWait", "NotBegunError"]

A = ParamSpec("A")
T = TypeVar("T")

_Waiting = tuple[float, int, "Future[Any]", Callable[[], Any]]
"""A call that waits: when it is due, its number, its future, the call itself."""

URGENCY: Callable[[_Waiting], tuple[float, int]] = operator.itemgetter(0, 1)
"""When a call is due, and its number."""


class NotBegunError(Exception):
    """A call has waited for as long as it may, and was dropped."""


class LongestWait:
    """Bounds how long one call waits for a thread; what has begun runs to its end.

    Attributes:
        began: to be set by the call.
    """

    def __init__(self) -> None:
        self.began = self._is_over = False

    async def result(self, future: "asyncio.Future[T]", seconds: float) -> T:
        """The result of the call's future. Raises NotBegunError, and what the call raises."""
        timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._end, future)
        try:
            return await future
        except asyncio.CancelledError:
            if not self._is_over:
                raise
        finally:
            timer.cancel()
        raise NotBegunError

    def _end(self, future: "asyncio.Future[T]") -> None:
        if not self.began:
            self._is_over = True
            future.cancel()


class BlockingCalls:
    """Threads for one kind of call, all started at once: no call waits for a thread to be made.

    Args:
        name: of the kind of call, for messages and thread names.
        threads: calls at a time.
        waiting: calls that may wait for a thread; more are refused.
        nice: what the threads add to their niceness (thread_priority.py).
    """

    def __init__(self, name: str, threads: int, waiting: int, nice: int = 0) -> None:
        self._name, self._limit = name, threads + waiting
        self._lock = threading.Lock()
        self._wake_ups: queue.SimpleQueue[None] = queue.SimpleQueue()
        """One for every call that was submitted, so one too many for every call that was cancelled."""
        self._waiting: list[_Waiting] = []
        """Ascending by URGENCY."""
        self._numbers = itertools.count()
        self._running: set[int] = set()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(nice,), name=f"{name}_{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> "asyncio.Future[T]":
        """Call in a thread, before every call that has a due time; as `run_by`."""
        return self.run_by(0.0, call, *args, **kwargs)

    def run_by(self, due: float, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> "asyncio.Future[T]":
        """Call in a thread; of the calls that wait, the one with the smallest `due` begins first.

        The future belongs to the running event loop and gives the call's result, or raises what it raised.
        Cancelling the future cancels a call that has not begun.

        Raises:
            Problem: queue_full, shutting_down.
        """
        future: Future[T] = Future()
        number = next(self._numbers)
        with self._lock:
            if self._closed:
                raise Problem("shutting_down", "the service is shutting down and takes no further work")
            if len(self._running) + len(self._waiting) >= self._limit:
                raise Problem(
                    "queue_full",
                    f"{self._name}: {self._limit} calls are running or waiting, which is the limit",
                    retry_after_s=1.0,
                )
            # What the call logs carries the id of its request.
            contexted = functools.partial(contextvars.copy_context().run, call, *args, **kwargs)
            waiting: _Waiting = (due, number, future, contexted)
            bisect.insort(self._waiting, waiting, key=URGENCY)
        self._wake_ups.put(None)
        future.add_done_callback(functools.partial(self._remove_cancelled, (due, number)))
        return asyncio.wrap_future(future)

    def close(self, seconds: float | None = None) -> None:
        """Wait for running calls, `seconds` at most; those that have not begun are cancelled."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
        for _ in self._threads:
            self._wake_ups.put(None)
        for _, _, future, _ in waiting:
            future.cancel()
        end = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))

    def _remove_cancelled(self, urgency: tuple[float, int], future: "Future[Any]") -> None:
        if future.cancelled():
            with self._lock:
                at = bisect.bisect_left(self._waiting, urgency, key=URGENCY)
                if at < len(self._waiting) and URGENCY(self._waiting[at]) == urgency:
                    del self._waiting[at]

    def _work(self, nice: int) -> None:
        lower_priority(nice)
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Wait for a call and run it; false once closed."""
        self._wake_ups.get()
        with self._lock:
            if self._closed:
                return False
            if not self._waiting:
                return True
            _, number, future, call = self._waiting.pop(0)
            if not future.set_running_or_notify_cancel():
                return True
            self._running.add(number)
        try:
            answer: Callable[[], None] = functools.partial(future.set_result, call())
        except StopIteration as error:  # a future refuses it, and its caller would wait for ever
            answer = functools.partial(future.set_exception, RuntimeError(f"the call raised {error!r}"))
        except BaseException as error:
            answer = functools.partial(future.set_exception, error)
        self._running.remove(number)
        answer()
        del future, call, answer  # an error's traceback refers to this frame, which would keep them alive
        return True
