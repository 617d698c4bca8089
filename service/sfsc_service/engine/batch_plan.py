"""Which batch to run next: (queue, costs, clock) → (width, members). Pure.

A request is *late* when it cannot be answered by the time it is due, even at its narrowest width; all others are
*timely*.

Rules:
- The most urgent request decides the width. The batch is filled, in order of urgency, with the other requests
  that get this same width at the present degradation level.
- A request whose width is fixed keeps it. A flexible one gets the widest width with which it is predicted to be in
  time together with the work behind it, the requests that are still being decoded and, if arrivals go on as of
  late, those that will arrive while it could wait; if there is no such width, its narrowest one (degrade before
  refusing). A late request gets its narrowest width. If not all can be in time, as few as possible become late.
- Hysteresis: going narrower takes effect at once, going wider only with slack to spare.
- Fairness: urgency is a fixed time per request, so whatever waits becomes the most urgent in the end. Late and
  timely requests take turns: a crowd of wide requests that cannot be in time does not hold up narrow ones, and
  fresh requests do not hold up late ones for ever. While there are both, late ones get a small share of the
  workers' time, so that most of what can be in time is.
- A batch takes no longer than `max_batch_ms`, so that one wide batch cannot hold up everybody else. It leaves work
  for idle workers. It is no larger than pays off: if larger batches do not make images cheaper, smaller ones are
  ready sooner; only very short batches grow in any case.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sfsc_service.engine.late_share import LATE_SHARE
from sfsc_service.engine.policy import BatchCost

__all__ = ["ArrivalFlow", "BatchPlan", "Capacity", "Load", "Work", "plan_batch"]

WIDENING_SHARE = 0.7
"""Going back to a wider width needs the work to fit within this share of the slack."""

GROWTH_RATIO = 0.95
"""A batch grows while further images cost less than this ratio of what the images before them cost."""

SHORT_MS = 10.0
"""A batch up to this long grows in any case: the time to plan and answer it is in no measured cost."""


@dataclass(frozen=True, slots=True)
class Work:
    """One waiting request.

    `ladder`: the widths it may get, from the one an idle server would take down to the narrowest. `due`: seconds.
    """

    ladder: tuple[str, ...]
    due: float

    def width_at(self, level: int) -> str:
        """Its width when the load takes `level` steps off the ideal one."""
        return self.ladder[min(level, len(self.ladder) - 1)]


@dataclass(frozen=True, slots=True)
class ArrivalFlow:
    """Requests of one ladder that keep arriving: how many a second, and how long after its arrival each is due."""

    ladder: tuple[str, ...]
    per_s: float
    slack_s: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many workers there are, and the largest batch for one of them, in images and in milliseconds."""

    workers: int
    max_batch: int
    max_batch_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """What is going on beside the queue.

    Attributes:
        idle: idle workers, the one that asks for a batch included.
        running_ms: what the busy workers still need, summed.
        decoding: requests whose images are being decoded.
        flows: what has been arriving lately.
        level: the degradation level of the batch before this one.
        late_deficit_ms: by how much late requests have had less than their share of the workers' time.
    """

    idle: int = 1
    running_ms: float = 0.0
    decoding: Sequence[Work] = ()
    flows: Sequence[ArrivalFlow] = ()
    level: int = 0
    late_deficit_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A batch to run.

    Attributes:
        members: positions in the queue, ascending.
        level: the degradation level, in steps below the ideal widths.
        late: whether its members are late.
    """

    width: str
    members: tuple[int, ...]
    level: int
    late: bool


def plan_batch(queue: Sequence[Work], cost: BatchCost, now: float, capacity: Capacity, load: Load) -> BatchPlan:
    """Choose the next batch.

    Args:
        queue: not empty, ascending by `due`.
        cost: predicted milliseconds, with a margin, because what is planned with it should be in time.
        now: seconds, on the clock of `due`.
    """
    inputs = _Inputs(queue, cost, now, capacity, load)
    late = _find_late(inputs, 1.0)
    if any(late):
        late = _find_late(inputs, 1 - LATE_SHARE)
    level = _level(inputs, late)
    first = _first_member(late, load.late_deficit_ms)
    widths = [
        work.ladder[-1] if is_late else work.width_at(level) for work, is_late in zip(queue, late, strict=True)
    ]
    width = widths[first]
    fitting = [at for at in range(first, len(queue)) if widths[at] == width and late[at] == late[first]]
    size = _batch_size(len(fitting), cost, width, capacity, load.idle, 1000 * (queue[first].due - now))
    return BatchPlan(width, tuple(fitting[:size]), level, late[first])


class _Inputs:
    """What every step of one plan looks at; the cost of each width is looked up once."""

    def __init__(self, queue: Sequence[Work], cost: BatchCost, now: float, capacity: Capacity, load: Load) -> None:
        self.queue, self.capacity, self.load = queue, capacity, load
        self._cost, self._now = cost, now
        present = len(queue) + len(load.decoding)
        self._present_size = self._share_of(present)
        self._future_size = self._share_of(present + sum(flow.per_s * flow.slack_s for flow in load.flows))
        self._image_costs: dict[tuple[str, int], tuple[float, float]] = {}
        alone = {width: cost(width, 1) for width in {work.ladder[-1] for work in queue}}
        self.narrowest_ms = [alone[work.ladder[-1]] for work in queue]
        """What each takes alone at its narrowest width."""
        self.slacks_ms = [1000 * (work.due - now) for work in queue]

    def slack_ms(self, work: Work) -> float:
        """Milliseconds until it is due."""
        return 1000 * (work.due - self._now)

    def by_urgency(self, timely: Sequence[Work]) -> list[tuple[Work, float, int]]:
        """All that should be in time, most urgent first, with the number of requests that each stands for.

        The third is the largest batch that they can be in. A flow that outruns the workers fills larger ones than
        what waits now. On a GPU one image may cost as much as a full batch: there, counted in batches of what
        waits now, a flow that is no load at all would look like an overload.

        A flow counts for as long as a request that arrives now may wait. Its backlog grows steadily, so if its
        last request is in time, all of them are.
        """
        present = [(work, 1.0, self._present_size) for work in (*timely, *self.load.decoding)]
        future = [
            (Work(flow.ladder, self._now + 2 * flow.slack_s), flow.per_s * flow.slack_s, self._future_size)
            for flow in self.load.flows
        ]
        return sorted(present + future, key=lambda entry: entry[0].due)

    def image_cost(self, width: str, most: int | None = None) -> tuple[float, float]:
        """Milliseconds of all workers together that an image takes, and the delay that its own batch may add.

        Batches have up to `most` images; None: as many as there are now, divided among the workers. With M workers
        a request is ready when the work up to it has been divided among them, and at the latest (1 − 1/M) of its
        own batch after that (Graham's bound for list scheduling).
        """
        most = self._present_size if most is None else most
        if (width, most) not in self._image_costs:
            workers = self.capacity.workers
            size = _efficient_size(self._cost, width, most, self.capacity.max_batch_ms)
            batch_ms = self._cost(width, size)
            self._image_costs[width, most] = batch_ms / size / workers, batch_ms * (1 - 1 / workers)
        return self._image_costs[width, most]

    def _share_of(self, requests: float) -> int:
        return min(self.capacity.max_batch, math.ceil(requests / self.capacity.workers))


def _find_late(inputs: _Inputs, speed: float) -> list[bool]:
    """Which requests cannot be in time even if all get their narrowest widths: as few as possible.

    Moore and Hodgson's rule: go through them in order of urgency; whenever one would be late, the costliest so far
    becomes late in its stead.

    Args:
        speed: the share of the workers' time that timely requests have.
    """
    late = [alone > slack for alone, slack in zip(inputs.narrowest_ms, inputs.slacks_ms, strict=True)]
    timely: list[tuple[float, int]] = []
    ahead_ms = inputs.load.running_ms / inputs.capacity.workers
    for at, work in enumerate(inputs.queue):
        if late[at]:
            continue
        own_ms, _ = inputs.image_cost(work.ladder[-1])
        heapq.heappush(timely, (-own_ms / speed, at))
        ahead_ms += own_ms / speed
        if ahead_ms > inputs.slacks_ms[at]:
            negative_ms, costliest = heapq.heappop(timely)
            ahead_ms += negative_ms
            late[costliest] = True
    return late


def _level(inputs: _Inputs, late: Sequence[bool]) -> int:
    """The smallest degradation level at which all timely requests are in time; the largest if there is none."""
    timely = [work for work, is_late in zip(inputs.queue, late, strict=True) if not is_late]
    largest = max((len(work.ladder) - 1 for work in timely), default=0)
    speed = 1 - LATE_SHARE if any(late) else 1.0
    expected = inputs.by_urgency(timely) if largest else []
    return next((level for level in range(largest) if _in_time(inputs, expected, level, speed)), largest)


def _in_time(inputs: _Inputs, expected: Sequence[tuple[Work, float, int]], level: int, speed: float) -> bool:
    """Whether all flexible requests of `expected`, as `by_urgency` has them, are in time at this level."""
    share = WIDENING_SHARE if level < inputs.load.level else 1.0
    ahead_ms = inputs.load.running_ms / inputs.capacity.workers
    for work, count, most in expected:
        own_ms, delay_ms = inputs.image_cost(work.width_at(level), most)
        ahead_ms += count * own_ms / speed
        if len(work.ladder) > 1 and ahead_ms + delay_ms > share * inputs.slack_ms(work):
            return False
    return True


def _first_member(late: Sequence[bool], late_deficit_ms: float) -> int:
    """The position of the request that decides the width: the most urgent of those whose turn it is."""
    turn = late_deficit_ms > 0
    return late.index(turn) if turn in late else 0


def _batch_size(fitting: int, cost: BatchCost, width: str, capacity: Capacity, idle: int, slack_ms: float) -> int:
    """How many of the fitting requests to take: an idle worker's part of them, as long as they are in time."""
    limit_ms = min(capacity.max_batch_ms, slack_ms) if slack_ms >= cost(width, 1) else capacity.max_batch_ms
    return _efficient_size(cost, width, min(capacity.max_batch, -(-fitting // max(1, idle))), limit_ms)


def _efficient_size(cost: BatchCost, width: str, most: int, limit_ms: float) -> int:
    """Grow a batch within both limits while it is short, or while further images are cheaper than those before."""
    size = 1
    while size < most:
        larger = min(2 * size, most)
        before, after = cost(width, size), cost(width, larger)
        no_gain = (after - before) / (larger - size) > GROWTH_RATIO * before / size
        if after > limit_ms or (no_gain and after > SHORT_MS):
            break
        size = larger
    return size
