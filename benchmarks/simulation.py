"""A discrete-event simulation of admission, scheduler and workers: an hour of traffic in seconds, without a clock.

Drives the service's own policy, Scheduler, CostTable and RequestQueue. Only their surroundings are simulated:
arrivals, a time for decoding, and workers whose batches take what `actual` says. Several replicas can share one
course of events, behind whatever hands their requests out.
"""

import functools
import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sfsc_service.engine.batch_plan import Capacity, Work
from sfsc_service.engine.batcher import HORIZON
from sfsc_service.engine.costs import CostTable
from sfsc_service.engine.policy import Budget, Choice, WidthCatalog, check_deadline_reachable, choose_widths
from sfsc_service.engine.queue import QueueEntry, RequestQueue
from sfsc_service.engine.scheduler import Scheduler
from sfsc_service.errors import Problem

__all__ = ["Actual", "Events", "Replica", "Request", "Served", "simulate"]

Actual = Callable[[str, int], float]
"""(width, images in the batch) → milliseconds that the batch takes."""


@dataclass(frozen=True, slots=True)
class Request:
    """When it arrives, in seconds, and what it asks for. `sent`: when its client sent it, if that was earlier."""

    at: float
    budget: Budget
    sent: float | None = None


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
        """From arrival to answer, as the client sees it."""
        request = self.request
        return 1000 * (self.finished - (request.at if request.sent is None else request.sent))

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


class Events:
    """What happens when: (time, number, what happens then)."""

    def __init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.now = 0.0

    def at(self, time: float, event: Callable[[], None]) -> None:
        """Let something happen at a time that has not passed."""
        heapq.heappush(self._events, (time, next(self._numbers), event))

    def play(self, requests: Iterable[Request], arrive: Callable[[Request], None]) -> None:
        """Handle arrivals, ascending in time, and all events until none is left."""
        coming = iter(requests)
        following = next(coming, None)
        while following is not None or self._events:
            if following is not None and (not self._events or following.at <= self._events[0][0]):
                self.now = following.at
                arrive(following)
                following = next(coming, None)
            else:
                self.now, _, event = heapq.heappop(self._events)
                event()


class Replica:
    """One service. `served`: its outcomes, in the order of their batches; `open`: requests not answered yet."""

    def __init__(
        self,
        events: Events,
        catalog: WidthCatalog,
        scheduler: Scheduler,
        actual: Actual,
        slo_ms: float,
        decode_ms: float,
    ) -> None:
        self._events, self._catalog, self._scheduler, self._costs = events, catalog, scheduler, scheduler.costs
        self._actual, self._slo_ms, self._decode_ms = actual, slo_ms, decode_ms
        self._idle = scheduler.capacity.workers
        self._queue: RequestQueue[Work, tuple[Request, Choice]] = RequestQueue()
        self._unanswered: dict[int, Request] = {}
        self._dead = False
        self.served: list[Served] = []

    @property
    def open(self) -> int:
        return len(self._unanswered)

    def kill(self) -> list[Request]:
        """End it in the middle of its work; the requests that it leaves unanswered."""
        self._dead = True
        left = list(self._unanswered.values())
        self.served = [one for one in self.served if id(one.request) not in self._unanswered]
        self._unanswered.clear()
        return left

    def arrive(self, request: Request) -> None:
        """Take a request, now."""
        now = self._events.now
        choice = choose_widths(request.budget, self._catalog, self._costs.estimate, self._slo_ms)
        work = self._scheduler.work(choice, request.at)
        wait_ms = self._scheduler.wait_ms(self._queue.backlog_before_ms(work.due), work.due, now)
        try:
            check_deadline_reachable(choice, self._costs.estimate, wait_ms, self._decode_ms)
        except Problem:
            self.served.append(Served(request, choice, None, now))
            return
        self._unanswered[id(request)] = request
        self._scheduler.observe_arrival(work, now)
        self._scheduler.decoding_began(request, work)
        self._later(now + self._decode_ms / 1000, lambda: self._enqueue(request, choice))

    def _later(self, time: float, event: Callable[[], None]) -> None:
        self._events.at(time, lambda: None if self._dead else event())

    def _enqueue(self, request: Request, choice: Choice) -> None:
        now = self._events.now
        self._scheduler.decoding_ended(request)
        work = self._scheduler.work(choice, request.at, 1000 * (now - request.at))
        expires = None if choice.deadline_ms is None else request.at + choice.deadline_ms / 1000
        cost_ms = self._costs.estimate(choice.widths[0], 1)
        present: Any = _Present()
        self._queue.insert(QueueEntry((request, choice), work, work.due, expires, cost_ms, now, present))
        self._start_batches()

    def _start_batches(self) -> None:
        now = self._events.now
        while self._idle:
            for entry, _ in self._queue.take_dropped(HORIZON, now):
                self.served.append(Served(*entry.payload, None, now))
                del self._unanswered[id(entry.payload[0])]
            if not len(self._queue):
                return
            view = self._queue.most_urgent(HORIZON, now)
            batch = self._scheduler.next_batch([entry.work for _, entry in view], now, self._idle)
            members = self._queue.take([view[member][0] for member in batch.members])
            self._idle -= 1
            took_ms = self._actual(batch.width, len(members))
            outcomes = [
                Served(*entry.payload, batch.width, now + took_ms / 1000, batch.level, len(members))
                for entry in members
            ]
            self.served += outcomes
            self._later(now + took_ms / 1000, functools.partial(self._end, batch.width, outcomes, took_ms))

    def _end(self, width: str, outcomes: Sequence[Served], took_ms: float) -> None:
        for one in outcomes:
            del self._unanswered[id(one.request)]
        self._costs.observe(width, len(outcomes), took_ms)
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
    events = Events()
    replica = Replica(events, catalog, Scheduler(costs, capacity), actual, slo_ms, decode_ms)
    events.play(requests, replica.arrive)
    return replica.served
