"""What has to be remembered between two batches to plan the next one, and what is predicted of the present.

Pure except for its own memory: no clock, no threads. `next_batch` and `observe_planning` are called under one lock
(the batcher's, in the service); everything else may be called from anywhere, only reads numbers and never waits.
"""

import heapq
import math
from collections.abc import Sequence

from sfsc_service.engine.batch_plan import ArrivalFlow, BatchPlan, Capacity, Load, Work, plan_batch
from sfsc_service.engine.costs import CostTable
from sfsc_service.engine.late_share import LateShare
from sfsc_service.engine.policy import Choice, ideal_width

__all__ = ["Scheduler"]

ARRIVAL_MEMORY = 0.4
"""The time constant of the memory of arrivals, in longest batches: a burst must show within a few of them."""

SMOOTHING = 0.05
"""The weight of one observation in the time spent before and after batches."""

MAX_DECODING = 64
"""A plan looks at no more than this many of the requests that are being decoded."""

MAX_RESERVED_SHARE = 0.3
"""The share of its target that may be reserved for the overhead before and after a batch."""


class Scheduler:
    """Plans the batches of one cost table's networks.

    Attributes:
        level: the degradation level of the last batch, in steps below the ideal widths.
        planning_ms: mean time to plan a batch, which no measured cost includes.
    """

    def __init__(self, costs: CostTable, capacity: Capacity) -> None:
        self.costs, self.capacity = costs, capacity
        self.level = 0
        self.planning_ms = 0.0
        self._return_ms = 0.0
        self._return_spread_ms = 0.0
        self._late_share = LateShare()
        self._batch_ends: list[float] = []
        self._decoding: dict[object, Work] = {}
        self._memory_s = ARRIVAL_MEMORY * capacity.max_batch_ms / 1000
        self._arrivals: dict[tuple[str, ...], tuple[float, float, float]] = {}
        """Ladder → decayed count, decayed sum of slacks in seconds, time of the last arrival."""

    @property
    def overhead_ms(self) -> float:
        """Overhead before and after a batch: a busy event loop delays both."""
        return 2 * (self._return_ms + 2 * self._return_spread_ms)

    def work(self, choice: Choice, at: float, spent_ms: float = 0.0, after_ms: float = 0.0) -> Work:
        """The widths that a request may get, and when it is due at the worker's side.

        Args:
            at: when it arrived, in seconds.
            spent_ms: since then.
            after_ms: predicted for what follows the batch, without the way of the answer itself.
        """
        reserved_ms = after_ms + min(self.overhead_ms, MAX_RESERVED_SHARE * choice.target_ms)
        ideal = ideal_width(choice, self.costs.estimate, spent_ms + reserved_ms)
        ladder = choice.widths[choice.widths.index(ideal) :: -1]
        return Work(ladder, at + (choice.target_ms - reserved_ms) / 1000)

    def observe_arrival(self, work: Work, now: float) -> None:
        """A request has been admitted, and more like it are to be expected. To be called in one thread only."""
        count, slack_s, before = self._arrivals.get(work.ladder, (0.0, 0.0, now))
        kept = math.exp((before - now) / self._memory_s)
        self._arrivals[work.ladder] = (count * kept + 1.0, slack_s * kept + max(0.0, work.due - now), now)

    def flows(self, now: float) -> list[ArrivalFlow]:
        """What keeps arriving, as far as the recent past tells.

        If arrivals are independent, an exponentially decayed count of mean n has the variance n/2. One standard
        deviation is subtracted: otherwise every few requests that come together by chance would look like a burst.
        """
        found = []
        for ladder, (count, slack_s, at) in list(self._arrivals.items()):
            seen = count * math.exp((at - now) / self._memory_s)
            certain = max(0.0, seen - math.sqrt(seen / 2))
            found.append(ArrivalFlow(ladder, certain / self._memory_s, slack_s / count))
        return found

    def decoding_began(self, token: object, work: Work) -> None:
        """A request has been admitted and is being decoded; `token` identifies it."""
        self._decoding[token] = work

    def decoding_ended(self, token: object) -> None:
        """A request is about to enter the queue, or has failed. An unknown token is ignored."""
        self._decoding.pop(token, None)

    def next_batch(self, queue: Sequence[Work], now: float, idle: int) -> BatchPlan:
        """Plan the next batch and remember it. `idle`: idle workers, the asking one included."""
        running = sorted(self._batch_ends)[max(0, len(self._batch_ends) - (self.capacity.workers - idle)) :]
        load = Load(
            idle=idle,
            running_ms=sum(max(0.0, 1000 * (end - now)) for end in running),
            decoding=heapq.nsmallest(MAX_DECODING, list(self._decoding.values()), key=lambda work: work.due),
            flows=self.flows(now),
            level=self.level,
            late_deficit_ms=self._late_share.deficit_ms,
        )
        batch = plan_batch(queue, self._cost, now, self.capacity, load)
        took_ms = self.costs.estimate(batch.width, len(batch.members))
        self._late_share.spend(took_ms, late=batch.late, most_ms=max(self.capacity.max_batch_ms, took_ms))
        self.level = batch.level
        end = now + took_ms / 1000
        self._batch_ends = [*running, end][-self.capacity.workers :]
        return batch

    def wait_ms(self, queued_ms: float, due: float, now: float) -> float:
        """Predicted time from now until a worker begins a request that is due then.

        Args:
            queued_ms: the cost of the more urgent requests in the queue.
        """
        workers = self.capacity.workers
        all_busy = len(self._batch_ends) == workers
        free_ms = max(0.0, 1000 * (min(self._batch_ends) - now)) if all_busy else 0.0
        decoding = [work.ladder[-1] for work in list(self._decoding.values()) if work.due < due]
        ahead_ms = queued_ms + sum(self.costs.estimate(width, 1) for width in decoding)
        return free_ms + ahead_ms / workers + (1 - 1 / workers) * min(ahead_ms, self.capacity.max_batch_ms)

    def observe_planning(self, ms: float) -> None:
        """Planning a batch took so long."""
        self.planning_ms += SMOOTHING * (ms - self.planning_ms)

    def observe_return(self, ms: float) -> None:
        """An answer took so long from the end of its batch to the caller that waits for it."""
        self._return_ms += SMOOTHING * (ms - self._return_ms)
        self._return_spread_ms += SMOOTHING * (abs(ms - self._return_ms) - self._return_spread_ms)

    def _cost(self, width: str, images: int) -> float:
        return self.costs.cautious(width, images) + self.planning_ms
