"""Requests become batches. Generic: knows neither images nor widths nor numpy.

Invariants:
- No wait timer: a batch is cut when a worker is free, from whatever waits then. Nothing is cut earlier, so
  every decision is taken with what is known last; each worker has one batch and no more are ahead of it.
- Every admitted entry is answered exactly once, with a result or an exception, whatever `run` does.
- When a batch fails, its halves are run again until the poisonous entry stands alone; the others get results.
- A worker never dies of a request. One that dies of something else, or whose run takes longer than `patience`,
  is replaced and its batch answered; what a late run still gives is thrown away. See crew.py for the bounds.
- Where no worker is left, nothing is admitted and nothing waits.
- The queue is bounded in predicted milliseconds. An entry whose caller has gone (its future was cancelled) or
  whose deadline has passed is dropped before it costs anything.
- `submit` is called in an event loop, and answers arrive there; `plan`, `run` and the observers are called in
  workers, `plan` and `dropped` while the queue is locked.
"""

import asyncio
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sfsc_service.engine.queue import DropReason, QueueEntry, RequestQueue
from sfsc_service.engine.worker_pool import Loss, Worker, WorkerPool
from sfsc_service.errors import Problem

__all__ = ["Answer", "Batch", "Batcher", "Limits", "queue_full"]

K = TypeVar("K")
W = TypeVar("W")
P = TypeVar("P")
R = TypeVar("R")

HORIZON = 128
"""How far into the queue a plan looks; keeps the cost of a cut independent of the queue's length."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`workers`: threads. `queue_ms`: predicted waiting time above which nothing more is admitted.

    `spare`: workers that may hang or die at the same time before the batcher counts as dead. `nice`: by how much
    workers give way to the event loop.
    """

    workers: int
    queue_ms: float
    spare: int = 4
    nice: int = 0


@dataclass(frozen=True, slots=True)
class Answer(Generic[K, R]):
    """A result, the key of its batch and what it took."""

    result: R
    key: K
    queue_ms: float
    compute_ms: float
    batch: int


@dataclass(frozen=True, slots=True)
class Batch(Generic[K]):
    """One call of `run`, for observers."""

    key: K
    size: int
    compute_ms: float
    failed: bool


@dataclass(frozen=True, slots=True)
class _Held(Generic[K, W, P]):
    """A batch that a worker has cut."""

    key: K
    entries: list[QueueEntry[W, P]]


class Batcher(Generic[K, W, P, R]):
    """A queue and its workers.

    Args:
        plan: (waiting works, most urgent first; now in seconds; free workers) → (key, positions to take).
        run: (key, payloads) → one result or exception per payload, in order. May raise.
        patience: (key, payloads) → seconds after which a call of `run` counts as hanging.
        observe: told of every call of `run` that came to an end in time.
        dropped: told of every entry that was dropped before it was computed.
        lost: told of every worker that was lost, with the key of its batch.
    """

    def __init__(
        self,
        plan: Callable[[Sequence[W], float, int], tuple[K, Sequence[int]]],
        run: Callable[[K, list[P]], Sequence[R | Exception]],
        limits: Limits,
        *,
        patience: Callable[[K, int], float] = lambda _key, _images: math.inf,
        observe: Callable[[Batch[K]], None] = lambda _: None,
        dropped: Callable[[DropReason], None] = lambda _: None,
        lost: Callable[[K, Loss], None] = lambda _key, _cause: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._run, self._limits = plan, run, limits
        self._patience, self._observe, self._dropped, self._clock = patience, observe, dropped, clock
        self._report_lost = lost
        self._queue: RequestQueue[W, P] = RequestQueue()
        self._changed = threading.Condition()
        self._idle = 0
        self._closing = False
        self.worker_pool: WorkerPool[_Held[K, W, P]] = WorkerPool(
            limits.workers, limits.spare, self._work, self._lost, clock, limits.nice
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
        """Predicted time until what waits now, and counts, has been started. Never waits."""
        return self._queue.backlog_ms(bulk=bulk) / self._limits.workers

    def ahead_ms(self, due: float) -> float:
        """What waits and is more urgent is predicted to cost. Never waits."""
        return self._queue.backlog_before_ms(due)

    def submit(
        self,
        payload: P,
        work: W,
        *,
        due: float,
        cost_ms: float,
        expires: float | None = None,
        bulk: bool = False,
    ) -> "asyncio.Future[Answer[K, R]]":
        """Admit a request; the future belongs to the running event loop.

        Args:
            due: seconds on the clock; orders the queue.
            cost_ms: what it is predicted to cost at least.
            expires: seconds on the clock; where it still waits then, it is answered with deadline_passed.
            patient: the room that it takes is not missing to those that are not; they may have all of it.

        Raises:
            Problem: queue_full, no_worker, shutting_down.
        """
        loop = asyncio.get_running_loop()
        now = self._clock()
        future: asyncio.Future[Answer[K, R]] = loop.create_future()
        entry = QueueEntry(payload, work, due, expires, cost_ms, now, future, bulk)
        with self._changed:
            if self._closing:
                raise Problem("shutting_down", "the service is shutting down and takes no further work")
            if not self.worker_pool.working:
                raise _no_worker()
            self.check_room(bulk=bulk)
            self._queue.insert(entry)
            self._changed.notify()
        if expires is not None:
            timer = loop.call_later(max(0.0, expires - now), self._expire, entry)
            future.add_done_callback(lambda _: timer.cancel())
        return future

    def check_room(self, *, bulk: bool = False) -> None:
        """Refuse when the queue is full, before anything is spent. Never waits. Raises Problem: queue_full."""
        waiting_ms = self.backlog_ms(bulk=bulk)
        if waiting_ms > self._limits.queue_ms:
            raise queue_full(waiting_ms, self._limits.queue_ms)

    def close(self, timeout_s: float) -> None:
        """Work off what waits, then end the workers. What is left after `timeout_s` gets shutting_down."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.worker_pool.close(timeout_s)
        self._answer_waiting(_shutting_down)

    def _expire(self, entry: QueueEntry[W, P]) -> None:
        with self._changed:
            passed = entry.waiting and not entry.future.done()
        # The worker that comes across the finished future drops and counts it.
        if passed:
            entry.future.set_exception(_deadline_passed())

    def _work(self, worker: "Worker[_Held[K, W, P]]") -> None:
        counts = True
        while counts and (held := self._next(worker)) is not None:
            counts = self._compute(worker, held.key, held.entries)
            worker.held = []

    def _next(self, worker: "Worker[_Held[K, W, P]]") -> "_Held[K, W, P] | None":
        with self._changed:
            while True:
                self._drop()
                if len(self._queue):
                    cut = self._cut()
                    if cut is not None:
                        worker.held = [cut]
                        return cut
                elif self._closing:
                    return None
                else:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1

    def _lost(self, worker: "Worker[_Held[K, W, P]]", cause: Loss) -> None:
        for held in worker.held:
            self._answer([(entry, _given_up() if cause == "hung" else _died()) for entry in held.entries])
            self._report_lost(held.key, cause)
        if not self.worker_pool.working:
            self._answer_waiting(_no_worker)

    def _answer_waiting(self, outcome: Callable[[], Problem]) -> None:
        with self._changed:
            left = self._queue.take(range(len(self._queue)))
        self._answer([(entry, outcome()) for entry in left])

    def _drop(self) -> None:
        while dead := self._queue.take_dropped(HORIZON, self._clock()):
            self._answer([(entry, _deadline_passed()) for entry, cause in dead if cause == "deadline_passed"])
            for _, cause in dead:
                self._dropped(cause)

    def _cut(self) -> "_Held[K, W, P] | None":
        now = self._clock()
        waiting = self._queue.most_urgent(HORIZON, now)
        try:
            key, positions = self._plan([entry.work for _, entry in waiting], now, self._idle + 1)
            if not positions:
                raise ValueError("the plan of a batch must have at least one member")
        except Exception as error:
            self._answer([(entry, error) for entry in self._queue.take([0])])
            return None
        return _Held(key, self._queue.take([waiting[member][0] for member in positions]))

    def _compute(self, worker: "Worker[_Held[K, W, P]]", key: K, entries: list[QueueEntry[W, P]]) -> bool:
        """Run a batch and answer it; where it fails, halve it until the poisonous entry stands alone.

        Returns whether the worker may go on: false if it was given up meanwhile.
        """
        started = self._clock()
        self.worker_pool.begin(worker, self._patience(key, len(entries)))
        failure: Exception | None = None
        results: Sequence[R | Exception] = ()
        try:
            results = self._run(key, [entry.payload for entry in entries])
            if len(results) != len(entries):
                raise ValueError(f"run must give {len(entries)} results, found {len(results)}")
        except Exception as error:
            failure = error
        if not self.worker_pool.end(worker):
            return False
        took_ms = 1000 * (self._clock() - started)
        self._observe(Batch(key, len(entries), took_ms, failure is not None))
        if failure is None:
            self._answer(
                [
                    (entry, self._outcome(entry, result, key, started, took_ms, len(entries)))
                    for entry, result in zip(entries, results, strict=True)
                ]
            )
        elif len(entries) == 1:
            self._answer([(entries[0], failure)])
        else:
            half = len(entries) // 2
            return self._compute(worker, key, entries[:half]) and self._compute(worker, key, entries[half:])
        return True

    def _outcome(
        self, entry: QueueEntry[W, P], result: R | Exception, key: K, started: float, took_ms: float, size: int
    ) -> Answer[K, R] | Exception:
        if isinstance(result, Exception):
            return result
        return Answer(result, key, 1000 * (started - entry.admitted), took_ms, size)

    def _answer(self, outcomes: list[tuple[QueueEntry[W, P], Any]]) -> None:
        """Hand outcomes to the loops that wait for them; one wake-up per loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = defaultdict(list)
        for entry, outcome in outcomes:
            by_loop[entry.future.get_loop()].append((entry.future, outcome))
        for loop, pairs in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, pairs)


def queue_full(waiting_ms: float, most_ms: float) -> Problem:
    """The problem of too much work that waits."""
    return Problem(
        "queue_full",
        f"the work that waits is predicted to take {waiting_ms:.0f} ms, at most {most_ms:.0f} ms are allowed",
        retry_after_s=waiting_ms / 1000,
    )


def _resolve(pairs: list[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, outcome in pairs:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _deadline_passed() -> Problem:
    return Problem("deadline_passed", "deadline_ms: it passed while the request waited", "deadline_ms")


def _shutting_down() -> Problem:
    return Problem("shutting_down", "the service was shut down before the request was computed")


def _died() -> Problem:
    return Problem("inference_failed", "the worker that computed this request has died")


def _given_up() -> Problem:
    return Problem(
        "inference_hung", "the network did not come back in time; the batch with this request is given up"
    )


def _no_worker() -> Problem:
    return Problem("no_worker", "every worker hangs or has died and can be replaced no more; restart the service")
