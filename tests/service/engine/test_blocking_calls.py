"""Blocking calls: the queue is bounded, ordered and empty of calls whose callers have gone."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sfsc_service.engine.blocking_calls import BlockingCalls
from sfsc_service.errors import Problem

TIMEOUT_S = 20.0


class Blob:
    """Something large that a call holds."""


class Blocker:
    """A call that runs until it is let go."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.go.wait(TIMEOUT_S)

    async def busy(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, TIMEOUT_S)


@pytest.fixture
def blocker() -> Iterator[Blocker]:
    made = Blocker()
    yield made
    made.go.set()


def played(scenario: Callable[[BlockingCalls], Any], threads: int = 1, waiting: int = 5) -> Any:
    """Run a scenario with a pool and close it."""

    async def run() -> Any:
        pool = BlockingCalls("test", threads, waiting)
        try:
            return await scenario(pool)
        finally:
            await asyncio.to_thread(pool.close)

    return asyncio.run(run())


def test_a_cancelled_call_leaves_nothing_in_the_queue(blocker: Blocker) -> None:
    """500 callers come and go while the only thread is busy; the limit is six calls."""

    async def scenario(pool: BlockingCalls) -> None:
        running = asyncio.ensure_future(pool.run(blocker))
        await blocker.busy()
        kept = []
        for _ in range(500):
            blob = Blob()
            kept.append(weakref.ref(blob))
            call = asyncio.ensure_future(pool.run(id, blob))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        del blob, call
        gc.collect()
        assert sum(ref() is not None for ref in kept) == 0
        later = [asyncio.ensure_future(pool.run(int, n)) for n in range(5)]
        await asyncio.sleep(0)
        blocker.go.set()
        await running
        assert await asyncio.gather(*later) == [0, 1, 2, 3, 4]

    played(scenario)


def test_threads_outlive_calls_that_were_cancelled(blocker: Blocker) -> None:
    """Each cancelled call leaves a wake-up behind, for which there is nothing to do."""

    async def scenario(pool: BlockingCalls) -> None:
        running = pool.run(blocker)
        await blocker.busy()
        for _ in range(5):
            pool.run(int, 0).cancel()
            await asyncio.sleep(0)
        blocker.go.set()
        await running
        for n in range(100):
            assert await asyncio.wait_for(pool.run(int, n), TIMEOUT_S) == n

    played(scenario)


def test_a_call_that_is_cancelled_while_a_thread_takes_it_takes_no_other_with_it(blocker: Blocker) -> None:
    after = Blocker()

    async def scenario(pool: BlockingCalls) -> None:
        main, lock = threading.current_thread(), pool._lock

        class Late:
            """The pool's lock; who cancels gets it after a thread has taken the cancelled call and the next."""

            def __enter__(self) -> None:
                if threading.current_thread() is main:
                    blocker.go.set()
                    assert after.entered.wait(TIMEOUT_S)
                lock.acquire()

            def __exit__(self, *_: object) -> None:
                lock.release()

        running = pool.run(blocker)
        await blocker.busy()
        gone, blocked, stays = pool.run_by(1.0, int, 1), pool.run_by(2.0, after), pool.run_by(3.0, int, 3)
        pool._lock = Late()  # type: ignore[assignment]
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        pool._lock = lock
        after.go.set()
        await asyncio.gather(running, blocked)
        assert await asyncio.wait_for(stays, TIMEOUT_S) == 3

    played(scenario)


def test_a_call_that_runs_counts_even_when_its_caller_has_gone(blocker: Blocker) -> None:
    async def scenario(pool: BlockingCalls) -> None:
        gone = asyncio.ensure_future(pool.run(blocker))
        await blocker.busy()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        waits = asyncio.ensure_future(pool.run(int, 1))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as caught:
            await pool.run(int, 2)
        assert caught.value.code == "queue_full"
        blocker.go.set()
        assert await waits == 1
        assert await pool.run(int, 3) == 3

    played(scenario, waiting=1)


def test_the_smallest_due_begins_first_and_equals_go_by_arrival(blocker: Blocker) -> None:
    begun: list[str] = []

    async def scenario(pool: BlockingCalls) -> None:
        calls = [pool.run(blocker)]
        await blocker.busy()
        calls += [pool.run_by(due, begun.append, name) for due, name in ((3.0, "d"), (1.0, "b"), (1.0, "c"))]
        calls.append(pool.run(begun.append, "a"))
        blocker.go.set()
        await asyncio.gather(*calls)

    played(scenario)
    assert begun == ["a", "b", "c", "d"]


def test_a_call_may_follow_another_at_once_at_the_limit() -> None:
    async def scenario(pool: BlockingCalls) -> None:
        for n in range(2000):
            assert await pool.run(int, n) == n

    played(scenario, waiting=0)


def test_a_call_that_raises_leaves_nothing_behind() -> None:
    def fail(_blob: Blob) -> None:
        raise ValueError("broken")

    async def scenario(pool: BlockingCalls) -> None:
        blob = Blob()
        ref = weakref.ref(blob)
        with pytest.raises(ValueError, match="broken") as caught:
            await pool.run(fail, blob)
        caught.value.with_traceback(None)
        del blob, caught
        async with asyncio.timeout(TIMEOUT_S):  # its thread lets go of it after it has answered
            while ref() is not None:
                await asyncio.sleep(0)
                gc.collect()

    played(scenario)


def test_closing_waits_for_what_runs_and_cancels_what_waits(blocker: Blocker) -> None:
    async def scenario(pool: BlockingCalls) -> None:
        running = pool.run(blocker)
        await blocker.busy()
        waits = pool.run(int, 1)
        closing = asyncio.create_task(asyncio.to_thread(pool.close))
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert not closing.done()
        blocker.go.set()
        await closing
        assert await running is None
        with pytest.raises(Problem) as caught:
            await pool.run(int, 2)
        assert caught.value.code == "shutting_down"

    played(scenario)


def test_a_call_that_raises_stop_iteration_is_answered() -> None:
    async def scenario(pool: BlockingCalls) -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(pool.run(next, iter(())), TIMEOUT_S)

    played(scenario)
