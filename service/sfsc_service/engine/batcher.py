"""Requests become batches. Generic: knows neither images nor widths nor numpy.

Invariants:
- There is no wait timer: a batch is planned when a worker is idle, from whatever waits then. Every decision is so
  taken with the latest knowledge, and no batch is ahead of the one that a worker has.
- Every admitted entry is answered exactly once, with a result or an exception, whatever `run` does.
- When a batch fails, its halves are run again until the entry that fails stands alone; the others get results.
- A worker never dies of a request. One that dies of something else, or whose run takes longer than `hang_after`
  allows, is replaced and its batch answered; a later result is discarded. worker_pool.py states the bounds.
- When no worker is left, nothing is admitted and nothing waits.
- The queue is bounded in predicted milliseconds, and the prediction is corrected by how long the work before took.
  An entry that waits for longer all the same is dropped and answered with queue_timeout; from then on less is
  admitted, until nothing is dropped for a while. An entry whose caller has
  gone (its future was cancelled) or whose deadline has passed leaves the queue, and the bound, before it costs
  anything.
- What happened is told to the observers before it is answered.
- `submit` is called in an event loop, and answers arrive there. `plan`, `run` and the observers are called in
  workers, `plan` and `dropped` while the queue is locked; `dropped` also in the event loop.
"""

import asyncio
import functools
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sfsc_service.engine.batch_problems import (
    deadline_passed,
    no_worker,
    queue_full,
    queue_timeout,
    shutting_down,
    worker_lost,
)
from sfsc_service.engine.drag import Drag
from sfsc_service.engine.queue import DropReason, QueueEntry, RequestQueue
from sfsc_service.engine.worker_pool import Loss, Worker, WorkerPool
from sfsc_service.errors import Problem

__all__ = ["BatchRun", "BatchedResult", "Batcher", "BatcherLimits"]

KeyT = TypeVar("KeyT")
"""What the members of a batch have in common and `run` needs to know, such as a width."""
WorkT = TypeVar("WorkT")
"""What `plan` needs to know of a request, such as the widths that it may get."""
PayloadT = TypeVar("PayloadT")
"""What `run` computes with, such as an image."""
ResultT = TypeVar("ResultT")
"""What comes out of it, such as a vector."""

HORIZON = 128
"""How many entries of the queue a plan looks at: its cost must not grow with the queue's length."""
LESS, MORE, LEAST = 0.9, 0.002, 0.05
"""Entries are admitted up to a share of the bound: its factor after an interval in which some wait too long, what
is added after any other interval, and its least value. An overload that lasts would fill a long queue with late
entries, of which most would wait in vain."""


@dataclass(frozen=True, slots=True)
class BatcherLimits:
    """The bounds of a batcher.

    Attributes:
        workers: threads.
        queue_ms: predicted waiting time above which nothing more is admitted, and time after which what waits is
            dropped.
        spare: workers that may hang or have died before the batcher counts as dead.
        nice: what the workers add to their niceness.
    """

    workers: int
    queue_ms: float
    spare: int = 4
    nice: int = 0


@dataclass(frozen=True, slots=True)
class BatchedResult(Generic[KeyT, ResultT]):
    """The result of one request, with the key of its batch and the times that it took."""

    result: ResultT
    key: KeyT
    queue_ms: float
    compute_ms: float


@dataclass(frozen=True, slots=True)
class BatchRun(Generic[KeyT]):
    """One call of `run`, for observers."""

    key: KeyT
    size: int
    compute_ms: float
    failed: bool


@dataclass(frozen=True, slots=True)
class _TakenBatch(Generic[KeyT, WorkT, PayloadT]):
    """A batch that a worker has taken out of the queue."""

    key: KeyT
    entries: list[QueueEntry[WorkT, PayloadT]]


class Batcher(Generic[KeyT, WorkT, PayloadT, ResultT]):
    """A queue and its workers.

    Args:
        plan: (waiting works, most urgent first; now in seconds; idle workers) → (key, positions to take).
        run: (key, payloads) → one result or exception per payload, in order. May raise.
        hang_after: (key, number of payloads) → seconds after which a call of `run` counts as hanging.
        observe: told of every call of `run` that ended in time.
        dropped: told of every entry that was dropped before it was computed.
        lost: told of every worker that was lost, with the key of its batch.
        clock: seconds.
    """

    def __init__(
        self,
        plan: Callable[[Sequence[WorkT], float, int], tuple[KeyT, Sequence[int]]],
        run: Callable[[KeyT, list[PayloadT]], Sequence[ResultT | Exception]],
        limits: BatcherLimits,
        *,
        hang_after: Callable[[KeyT, int], float] = lambda _key, _size: math.inf,
        observe: Callable[[BatchRun[KeyT]], None] = lambda _: None,
        dropped: Callable[[DropReason], None] = lambda _: None,
        lost: Callable[[KeyT, Loss], None] = lambda _key, _cause: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._run, self._limits = plan, run, limits
        self._hang_after, self._observe, self._dropped, self._clock = hang_after, observe, dropped, clock
        self._observe_lost = lost
        self._queue: RequestQueue[WorkT, PayloadT] = RequestQueue()
        self._changed = threading.Condition()
        self._idle = 0
        self._drag = Drag()
        self._share = 1.0
        self._dropped_late = False
        """Whether workers have dropped entries since the last look that had waited for too long."""
        self._closing = False
        self.worker_pool: WorkerPool[_TakenBatch[KeyT, WorkT, PayloadT]] = WorkerPool(
            limits.workers, limits.spare, self._work, self._lost, clock, limits.nice, self._drop_timed_out
        )
        self.worker_pool.start()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs. Never waits."""
        return not len(self._queue) and not self.worker_pool.busy

    @property
    def waiting(self) -> int:
        """Entries in the queue. Never waits."""
        return len(self._queue)

    def backlog_ms(self, *, bulk: bool = False) -> float:
        """Predicted time until what waits now has been started; bulk counts only for bulk. Never waits."""
        return self._queue.backlog_ms(bulk=bulk) * self._drag.factor / self._limits.workers

    def backlog_before_ms(self, due: float, since: float = -math.inf) -> float:
        """The predicted cost of what waits and is more urgent, but not due before `since`. Never waits."""
        return self._queue.backlog_before_ms(due, since) * self._drag.factor

    def submit(
        self,
        payload: PayloadT,
        work: WorkT,
        *,
        due: float,
        cost_ms: float,
        expires: float | None = None,
        times_out: float = math.inf,
        bulk: bool = False,
    ) -> "asyncio.Future[BatchedResult[KeyT, ResultT]]":
        """Admit a request; the future belongs to the running event loop.

        Args:
            due: seconds on the clock; orders the queue.
            cost_ms: what it is predicted to cost at least.
            expires: seconds on the clock; if it still waits then, it is answered with deadline_passed.
            times_out: seconds on the clock; if it still waits then, it is answered with queue_timeout.
            bulk: low priority: its queue space does not count against normal requests.

        Raises:
            Problem: queue_full, no_worker, shutting_down.
        """
        loop = asyncio.get_running_loop()
        now = self._clock()
        future: asyncio.Future[BatchedResult[KeyT, ResultT]] = loop.create_future()
        entry = QueueEntry(payload, work, due, expires, cost_ms, now, future, times_out, bulk)
        with self._changed:
            if self._closing:
                raise shutting_down()
            if not self.worker_pool.working:
                raise no_worker()
            self.check_not_full(bulk=bulk)
            self._queue.insert(entry)
            self._changed.notify()
        future.add_done_callback(functools.partial(self._remove_done, entry))
        if expires is not None:
            timer = loop.call_later(max(0.0, expires - now), self._expire, entry)
            future.add_done_callback(lambda _: timer.cancel())
        return future

    def is_full(self, *, bulk: bool = False, waited_ms: float = 0.0) -> bool:
        """Whether `check_not_full` would refuse, for those who have the refusal. Never waits."""
        waiting_ms, queue_ms = self.backlog_ms(bulk=bulk), self._limits.queue_ms
        return waiting_ms > self._share * queue_ms or waiting_ms + waited_ms > queue_ms

    def check_not_full(self, *, bulk: bool = False, waited_ms: float = 0.0) -> None:
        """Refuse when the queue is full, before anything is spent. Never waits. Raises Problem: queue_full.

        Args:
            waited_ms: for how long the request has waited elsewhere.
        """
        if self.is_full(bulk=bulk, waited_ms=waited_ms):
            raise queue_full(self.backlog_ms(bulk=bulk), self._share * self._limits.queue_ms)

    def close(self, timeout_s: float) -> None:
        """Compute what waits, then end the workers. What is left after `timeout_s` is answered shutting_down."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.worker_pool.close(timeout_s)
        self._answer_waiting(shutting_down)

    def _remove_done(self, entry: QueueEntry[WorkT, PayloadT], future: "asyncio.Future[Any]") -> None:
        """Remove an entry whose future was done before a worker took it."""
        if entry.waiting:  # hardly ever, so the lock is left alone
            with self._changed:
                if entry.waiting:
                    self._queue.remove(entry)
                    self._dropped("client_gone" if future.cancelled() else "deadline_passed")

    def _expire(self, entry: QueueEntry[WorkT, PayloadT]) -> None:
        with self._changed:
            passed = entry.waiting and not entry.future.done()
        if passed:
            entry.future.set_exception(deadline_passed())

    def _drop_timed_out(self) -> None:
        with self._changed:
            late = self._queue.take_timed_out(self._clock())
            for _ in late:
                self._dropped("queue_timeout")
        too_late, self._dropped_late = late or self._dropped_late, False
        self._share = max(LESS * self._share, LEAST) if too_late else min(self._share + MORE, 1.0)
        self._answer([(entry, queue_timeout()) for entry in late])

    def _work(self, worker: "Worker[_TakenBatch[KeyT, WorkT, PayloadT]]") -> None:
        goes_on = True
        while goes_on and (batch := self._next(worker)) is not None:
            goes_on = self._compute(worker, batch.key, batch.entries)
            worker.held = []

    def _next(
        self, worker: "Worker[_TakenBatch[KeyT, WorkT, PayloadT]]"
    ) -> "_TakenBatch[KeyT, WorkT, PayloadT] | None":
        """Wait for work and take a batch of it; None once closed and empty."""
        with self._changed:
            while True:
                self._drop()
                if len(self._queue):
                    batch = self._take_batch()
                    if batch is not None:
                        self._drag.taken(worker, sum(entry.cost_ms for entry in batch.entries), self._clock())
                        worker.held = [batch]
                        return batch
                elif self._closing:
                    return None
                else:
                    self._drag.idle(worker)
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1

    def _lost(self, worker: "Worker[_TakenBatch[KeyT, WorkT, PayloadT]]", cause: Loss) -> None:
        with self._changed:
            self._drag.idle(worker)
        for batch in worker.held:
            self._observe_lost(batch.key, cause)
            self._answer([(entry, worker_lost(cause)) for entry in batch.entries])
        if not self.worker_pool.working:
            self._answer_waiting(no_worker)

    def _answer_waiting(self, outcome: Callable[[], Problem]) -> None:
        with self._changed:
            left = self._queue.take(range(len(self._queue)))
        self._answer([(entry, outcome()) for entry in left])

    def _drop(self) -> None:
        """Drop what expired, or lost its caller, and was not removed yet by its event loop."""
        while dropped := self._queue.take_dropped(HORIZON, self._clock()):
            for _, reason in dropped:
                self._dropped(reason)
                self._dropped_late |= reason == "queue_timeout"
            gone = {"deadline_passed": deadline_passed, "queue_timeout": queue_timeout}
            self._answer([(entry, gone[reason]()) for entry, reason in dropped if reason in gone])

    def _take_batch(self) -> "_TakenBatch[KeyT, WorkT, PayloadT] | None":
        """Plan a batch and take it; a plan that fails costs the most urgent entry."""
        now = self._clock()
        waiting = self._queue.most_urgent(HORIZON, now)
        try:
            key, positions = self._plan([entry.work for _, entry in waiting], now, self._idle + 1)
            if not positions:
                raise ValueError("the plan of a batch must have at least one member")
        except Exception as error:
            self._answer([(entry, error) for entry in self._queue.take([0])])
            return None
        return _TakenBatch(key, self._queue.take([waiting[member][0] for member in positions]))

    def _compute(
        self,
        worker: "Worker[_TakenBatch[KeyT, WorkT, PayloadT]]",
        key: KeyT,
        entries: list[QueueEntry[WorkT, PayloadT]],
    ) -> bool:
        """Run a batch and answer it; if it fails, halve it until the entry that fails stands alone.

        Returns whether the worker may go on: false if it was abandoned meanwhile.
        """
        started = self._clock()
        self.worker_pool.begin(worker, self._hang_after(key, len(entries)))
        failure: Exception | None = None
        results: Sequence[ResultT | Exception] = ()
        try:
            results = self._run(key, [entry.payload for entry in entries])
            if len(results) != len(entries):
                raise ValueError(f"run must give {len(entries)} results, found {len(results)}")
        except Exception as error:
            failure = error
        if not self.worker_pool.end(worker):
            return False
        took_ms = 1000 * (self._clock() - started)
        self._observe(BatchRun(key, len(entries), took_ms, failure is not None))
        if failure is None:
            queued_ms = [1000 * (started - entry.admitted) for entry in entries]
            outcomes = [
                result if isinstance(result, Exception) else BatchedResult(result, key, waited_ms, took_ms)
                for result, waited_ms in zip(results, queued_ms, strict=True)
            ]
            self._answer(list(zip(entries, outcomes, strict=True)))
        elif len(entries) == 1:
            self._answer([(entries[0], failure)])
        else:
            half = len(entries) // 2
            return self._compute(worker, key, entries[:half]) and self._compute(worker, key, entries[half:])
        return True

    def _answer(self, outcomes: list[tuple[QueueEntry[WorkT, PayloadT], Any]]) -> None:
        """Hand outcomes to the event loops that wait for them; one wake-up per loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = defaultdict(list)
        for entry, outcome in outcomes:
            by_loop[entry.future.get_loop()].append((entry.future, outcome))
        for loop, pairs in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: list[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, outcome in pairs:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
