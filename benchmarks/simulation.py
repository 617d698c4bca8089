"""A discrete-event simulation of admission, scheduler and workers: an hour of traffic in seconds, without a clock.

Drives the service's own policy, Scheduler, CostTable and RequestQueue. Only their surroundings are simulated:
arrivals, a time for decoding, and workers whose batches take what `actual` says.
"""

import functools
import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sfsc_service.engine.batch_plan import Capacity, Work
from sfsc_service.engine.batcher import HORIZON
from sfsc_service.engine.costs import CostTable
from sfsc_service.engine.policy import Budget, Choice, WidthCatalog, check_deadline_reachable, choose_widths
from sfsc_service.engine.queue import QueueEntry, RequestQueue
from sfsc_service.engine.scheduler import Scheduler
from sfsc_service.errors import Problem

__all__ = ["Request", "Served", "simulate"]

Actual = Callable[[str, int], float]
"""(width, images in the batch) → milliseconds that the batch takes."""


@dataclass(frozen=True, slots=True)
class Request:
    """When it arrives, in seconds, and what it asks for."""

    at: float
    budget: Budget


@dataclass(frozen=True, slots=True)
class Served:
    """The outcome of a request.

    `width` None: refused on arrival, or expired in the queue. `level`: the degradation level of its batch.
    """

    request: Request
    choice: Choice
    width: str | None
    finished: float
    level: int = 0
    batch: int = 0

    @property
    def latency_ms(self) -> float:
        """From arrival to answer."""
        return 1000 * (self.finished - self.request.at)

    @property
    def in_time(self) -> bool:
        """Whether its own limit, or the service's target, was kept."""
        return self.width is not None and self.latency_ms <= self.choice.limit_ms + 1e-9


class _Present:
    """Stands for the future of a caller that never disconnects."""

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return False


class _Run:
    """The state of one simulation; events are (time, number, what happens then)."""

    def __init__(
        self, catalog: WidthCatalog, scheduler: Scheduler, actual: Actual, slo_ms: float, decode_ms: float
    ) -> None:
        self._catalog, self._scheduler, self._costs = catalog, scheduler, scheduler.costs
        self._actual, self._slo_ms, self._decode_ms = actual, slo_ms, decode_ms
        self._idle = scheduler.capacity.workers
        self._queue: RequestQueue[Work, tuple[Request, Choice]] = RequestQueue()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._now = 0.0
        self.served: list[Served] = []

    def play(self, requests: Sequence[Request]) -> None:
        """Handle arrivals, ascending in time, and all events that follow from them."""
        coming = iter(requests)
        following = next(coming, None)
        while following is not None or self._events:
            if following is not None and (not self._events or following.at <= self._events[0][0]):
                self._now = following.at
                self._arrive(following)
                following = next(coming, None)
            else:
                self._now, _, event = heapq.heappop(self._events)
                event()

    def _at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), event))

    def _arrive(self, request: Request) -> None:
        choice = choose_widths(request.budget, self._catalog, self._costs.estimate, self._slo_ms)
        work = self._scheduler.work(choice, request.at)
        wait_ms = self._scheduler.wait_ms(self._queue.backlog_before_ms(work.due), work.due, self._now)
        try:
            check_deadline_reachable(choice, self._costs.estimate, wait_ms, self._decode_ms)
        except Problem:
            self.served.append(Served(request, choice, None, self._now))
            return
        self._scheduler.observe_arrival(work, self._now)
        self._scheduler.decoding_began(request, work)
        self._at(self._now + self._decode_ms / 1000, lambda: self._enqueue(request, choice))

    def _enqueue(self, request: Request, choice: Choice) -> None:
        self._scheduler.decoding_ended(request)
        work = self._scheduler.work(choice, request.at, 1000 * (self._now - request.at))
        expires = None if choice.deadline_ms is None else request.at + choice.deadline_ms / 1000
        cost_ms = self._costs.estimate(choice.widths[0], 1)
        present: Any = _Present()
        self._queue.insert(QueueEntry((request, choice), work, work.due, expires, cost_ms, self._now, present))
        self._start_batches()

    def _start_batches(self) -> None:
        while self._idle:
            for entry, _ in self._queue.take_dropped(HORIZON, self._now):
                self.served.append(Served(*entry.payload, None, self._now))
            if not len(self._queue):
                return
            view = self._queue.most_urgent(HORIZON, self._now)
            batch = self._scheduler.next_batch([entry.work for _, entry in view], self._now, self._idle)
            members = self._queue.take([view[member][0] for member in batch.members])
            self._idle -= 1
            took_ms = self._actual(batch.width, len(members))
            finished = self._now + took_ms / 1000
            self.served += [
                Served(*entry.payload, batch.width, finished, batch.level, len(members)) for entry in members
            ]
            self._at(finished, functools.partial(self._end, batch.width, len(members), took_ms))

    def _end(self, width: str, images: int, took_ms: float) -> None:
        self._costs.observe(width, images, took_ms)
        self._idle += 1
        self._start_batches()


def simulate(
    requests: Sequence[Request],
    catalog: WidthCatalog,
    costs: CostTable,
    capacity: Capacity,
    actual: Actual,
    *,
    slo_ms: float = 100.0,
    decode_ms: float = 0.0,
) -> list[Served]:
    """Serve all requests, ascending in time; their outcomes, in the order of their batches."""
    run = _Run(catalog, Scheduler(costs, capacity), actual, slo_ms, decode_ms)
    run.play(requests)
    return run.served
