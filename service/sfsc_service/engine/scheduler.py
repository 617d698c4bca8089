"""What the scheduler must remember between two cuts, and what it predicts of the present.

Pure but for its own memory: no clock, no threads. One lock is held around `cut` and `planned` (the
batcher's, in the service); the rest may be called from anywhere, reads numbers only and never waits.
"""

import heapq
import math
from collections.abc import Sequence

from sfsc_service.engine.batch_plan import LATE_SHARE, Cut, Flow, Machine, State, Work, plan
from sfsc_service.engine.costs import CostTable
from sfsc_service.engine.policy import Choice, ideal_width

__all__ = ["Scheduler"]

MEMORY = 0.4
"""The time constant of what is known of arrivals, in longest batches: a burst must show within few of them."""

WEIGHT = 0.05
"""How much one answer moves what is known of the time around a batch."""

MOST_COMING = 64
"""So many requests that are being decoded are looked at."""

MOST_AROUND = 0.3
"""The share of its target that may be set aside for what happens around a batch."""


class Scheduler:
    """Cuts batches for one machine by one cost table."""

    def __init__(self, costs: CostTable, machine: Machine) -> None:
        self.costs, self.machine = costs, machine
        self.level = 0
        self.overhead_ms = 0.0
        self._return_ms = 0.0
        self._return_spread_ms = 0.0
        self._owed_ms = 0.0
        self._ends: list[float] = []
        self._coming: dict[object, Work] = {}
        self._memory_s = MEMORY * machine.batch_ms / 1000
        self._recent: dict[tuple[str, ...], tuple[float, float, float]] = {}

    @property
    def around_ms(self) -> float:
        """To be set aside for the way to and from a batch; a busy event loop is late at both ends."""
        return 2 * (self._return_ms + 2 * self._return_spread_ms)

    def work(self, choice: Choice, at: float, spent_ms: float = 0.0, after_ms: float = 0.0) -> Work:
        """What the scheduler may do with a request.

        Args:
            at: when it arrived, in seconds.
            spent_ms: since then.
            after_ms: predicted for what follows the batch, the answer's own way excepted.
        """
        aside_ms = after_ms + min(self.around_ms, MOST_AROUND * choice.target_ms)
        ideal = ideal_width(choice, self.costs.estimate, spent_ms + aside_ms)
        ladder = choice.widths[choice.widths.index(ideal) :: -1]
        return Work(ladder, at + (choice.target_ms - aside_ms) / 1000)

    def arrived(self, work: Work, now: float) -> None:
        """A request has been admitted, and more like it are to be expected. For one thread only."""
        count, slack_s, before = self._recent.get(work.ladder, (0.0, 0.0, now))
        kept = math.exp((before - now) / self._memory_s)
        self._recent[work.ladder] = (count * kept + 1.0, slack_s * kept + max(0.0, work.due - now), now)

    def flows(self, now: float) -> list[Flow]:
        """What keeps arriving, as far as the recent past tells.

        Where arrivals are independent, an exponentially decayed count of mean n has the variance n/2. A standard
        deviation is taken off, or every few requests that come together by chance would look like a burst.
        """
        found = []
        for ladder, (count, slack_s, at) in list(self._recent.items()):
            seen = count * math.exp((at - now) / self._memory_s)
            certain = max(0.0, seen - math.sqrt(seen / 2))
            found.append(Flow(ladder, certain / self._memory_s, slack_s / count))
        return found

    def expect(self, token: object, work: Work) -> None:
        """A request has been admitted and is being decoded."""
        self._coming[token] = work

    def expected(self, token: object) -> None:
        """It waits in the queue now, or never will."""
        self._coming.pop(token, None)

    def cut(self, queue: Sequence[Work], now: float, idle: int) -> Cut:
        """Plan the next batch and remember it. `idle`: free workers, the asking one included."""
        running = sorted(self._ends)[max(0, len(self._ends) - (self.machine.workers - idle)) :]
        state = State(
            idle=idle,
            running_ms=sum(max(0.0, 1000 * (end - now)) for end in running),
            coming=heapq.nsmallest(MOST_COMING, list(self._coming.values()), key=lambda work: work.due),
            flows=self.flows(now),
            level=self.level,
            owed_ms=self._owed_ms,
        )
        cut = plan(queue, self._cost, now, self.machine, state)
        took_ms = self.costs.estimate(cut.width, len(cut.members))
        most_ms = max(self.machine.batch_ms, took_ms)
        owed_ms = took_ms * (LATE_SHARE - 1 if cut.late else LATE_SHARE)
        self._owed_ms = min(max(self._owed_ms + owed_ms, -most_ms), most_ms)
        self.level = cut.level
        end = now + took_ms / 1000
        self._ends = [*running, end][-self.machine.workers :]
        return cut

    def wait_ms(self, queued_ms: float, due: float, now: float) -> float:
        """Predicted time until a request that is due then is begun, from now.

        Args:
            queued_ms: what more urgent requests that wait in the queue cost.
        """
        workers = self.machine.workers
        free_ms = max(0.0, 1000 * (min(self._ends) - now)) if len(self._ends) == workers else 0.0
        coming = [work.ladder[-1] for work in list(self._coming.values()) if work.due < due]
        ahead_ms = queued_ms + sum(self.costs.estimate(width, 1) for width in coming)
        return free_ms + ahead_ms / workers + (1 - 1 / workers) * min(ahead_ms, self.machine.batch_ms)

    def planned(self, ms: float) -> None:
        """Planning a batch took so long, which its cost does not hold."""
        self.overhead_ms += WEIGHT * (ms - self.overhead_ms)

    def answered(self, ms: float) -> None:
        """An answer needed so long to get from its batch to whoever waits for it."""
        self._return_ms += WEIGHT * (ms - self._return_ms)
        self._return_spread_ms += WEIGHT * (abs(ms - self._return_ms) - self._return_spread_ms)

    def _cost(self, width: str, images: int) -> float:
        return self.costs.cautious(width, images) + self.overhead_ms
