"""Which batch to cut next: (queue, costs, clock) → (width, members). Pure.

Rules:
- The most urgent request decides the width; the batch is filled, in order of urgency, with whatever else may
  take that width without being degraded further than the load demands.
- A request whose width is fixed keeps it. A flexible one gets the widest width with which it, the work behind it,
  the work that is still being decoded and what will arrive while it could wait, if arrivals go on as of late, are
  predicted to be in time; the narrowest allowed one if none does (degrade before refusing). What is late anyway
  gets its narrowest width; where not everything can be in time, as few requests as possible are given up as late.
- Hysteresis: going narrower takes effect at once, going wider only with room to spare.
- Fairness: urgency is a fixed time per request, so whatever waits becomes the most urgent in the end. Requests
  that are late already and requests that can still be in time take turns, so neither a crowd of wide requests
  that cannot be served in time holds up narrow ones, nor do fresh requests hold up late ones for ever: while
  there are both, late ones have a small share of the machine's time, so that most of what can be in time is.
- A batch is no longer than `batch_ms`, so that one wide batch cannot hold up everybody else, leaves work for
  workers that are free, and is no larger than it pays: where images cost the same in smaller batches, those
  are ready sooner, unless they are very short.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from sfsc_service.engine.policy import Cost

__all__ = ["LATE_SHARE", "Cut", "Flow", "Machine", "State", "Work", "plan"]

ROOM = 0.7
"""The share of the slack within which a wider width must fit to be gone back to."""

GAIN = 0.95
"""A batch grows as long as further images cost less than this share of what those before them cost."""

SHORT_MS = 10.0
"""A batch as short as this grows in any case: what it takes to cut it and to answer it is in no measured cost."""

LATE_SHARE = 0.1
"""The share of the machine that late requests have where there are timely ones, too."""

DEEPEST = 2**31
"""More steps than any ladder has."""


@dataclass(frozen=True, slots=True)
class Work:
    """One waiting request.

    `ladder`: the widths that it may get, from what an idle server would take down to the narrowest. `due` in
    seconds.
    """

    ladder: tuple[str, ...]
    due: float

    @property
    def fixed(self) -> bool:
        """Whether there is only one width for it."""
        return len(self.ladder) == 1

    def degraded(self, level: int) -> str:
        """Its width when the load takes `level` steps off the ideal one."""
        return self.ladder[min(level, len(self.ladder) - 1)]


@dataclass(frozen=True, slots=True)
class Flow:
    """Requests that keep arriving: their ladder, how many a second, and how long after its arrival each is due."""

    ladder: tuple[str, ...]
    per_s: float
    slack_s: float


@dataclass(frozen=True, slots=True)
class Machine:
    """What the planner must know of the workers. `batch_ms`: the longest batch worth making."""

    workers: int
    max_batch: int
    batch_ms: float


@dataclass(frozen=True, slots=True)
class State:
    """What happens beside the queue.

    `idle`: workers that are free, the asking one included. `running_ms`: what the busy ones still need, summed.
    `coming`: requests that are being decoded. `flows`: what has been arriving lately. `level`: of the cut before
    this one. `owed_ms`: by how much late requests have had less than their share of the workers' time.
    """

    idle: int = 1
    running_ms: float = 0.0
    coming: Sequence[Work] = ()
    flows: Sequence[Flow] = ()
    level: int = 0
    owed_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """`members`: positions in the queue. `level`: how many steps the load takes off ideal widths.

    `late`: whether its members cannot be in time any more.
    """

    width: str
    members: tuple[int, ...]
    level: int
    late: bool


def plan(queue: Sequence[Work], cost: Cost, now: float, machine: Machine, state: State) -> Cut:
    """Choose the next batch.

    Args:
        queue: not empty, ascending by `due`.
        cost: cautious, because what is planned with it should be in time.
        now: seconds, on the clock of `due`.
    """
    view = _View(queue, cost, now, machine, state)
    late = _given_up(view, 1.0)
    if any(late):
        late = _given_up(view, 1 - LATE_SHARE)
    level = _level(view, late)
    head = _head(late, state.owed_ms)
    widths = [work.degraded(DEEPEST if hopeless else level) for work, hopeless in zip(queue, late, strict=True)]
    width = widths[head]
    fitting = [at for at in range(head, len(queue)) if widths[at] == width and late[at] == late[head]]
    size = _size(len(fitting), cost, width, machine, state.idle, 1000 * (queue[head].due - now))
    return Cut(width, tuple(fitting[:size]), level, late[head])


class _View:
    """What all parts of one plan look at; a batch's costs are looked up once per width."""

    def __init__(self, queue: Sequence[Work], cost: Cost, now: float, machine: Machine, state: State) -> None:
        self.queue, self.machine, self.state = queue, machine, state
        self._cost, self._now = cost, now
        self._most = min(machine.max_batch, -(-(len(queue) + len(state.coming)) // machine.workers))
        self._per_image: dict[str, tuple[float, float]] = {}
        alone = {width: cost(width, 1) for width in {work.ladder[-1] for work in queue}}
        self.alone_ms = [alone[work.ladder[-1]] for work in queue]
        """What each takes at its narrowest width, begun at once."""
        self.slacks_ms = [1000 * (work.due - now) for work in queue]

    def slack_ms(self, work: Work) -> float:
        """Milliseconds until it is due."""
        return 1000 * (work.due - self._now)

    def in_order(self, timely: Sequence[Work]) -> list[tuple[Work, float]]:
        """What should be in time, most urgent first, with how many requests each stands for.

        A flow counts for as long as a request that arrives now may wait. It gains on the machine steadily, so
        where the last of it is in time, so is the rest.
        """
        present = [(work, 1.0) for work in (*timely, *self.state.coming)]
        future = [
            (Work(flow.ladder, self._now + 2 * flow.slack_s), flow.per_s * flow.slack_s)
            for flow in self.state.flows
        ]
        return sorted(present + future, key=lambda entry: entry[0].due)

    def per_image(self, width: str) -> tuple[float, float]:
        """Milliseconds of the machine that an image takes, and by how much its batch may make it later.

        With M workers a request is ready when the work up to it has been divided among them, at the latest
        (1 − 1/M) of its own batch later (Graham's bound for list scheduling).
        """
        if width not in self._per_image:
            workers = self.machine.workers
            size = _worthwhile(self._cost, width, self._most, self.machine.batch_ms)
            batch_ms = self._cost(width, size)
            self._per_image[width] = batch_ms / size / workers, batch_ms * (1 - 1 / workers)
        return self._per_image[width]


def _given_up(view: _View, speed: float) -> list[bool]:
    """Which requests cannot be in time even if all are degraded as far as they allow: as few as possible.

    Moore and Hodgson's rule: in order of urgency; whenever one would be late, the costliest so far is given up.

    Args:
        speed: the share of the machine that is there for those that are not given up.
    """
    late = [alone > slack for alone, slack in zip(view.alone_ms, view.slacks_ms, strict=True)]
    kept: list[tuple[float, int]] = []
    ahead_ms = view.state.running_ms / view.machine.workers
    for at, work in enumerate(view.queue):
        if late[at]:
            continue
        own_ms, _ = view.per_image(work.ladder[-1])
        heapq.heappush(kept, (-own_ms / speed, at))
        ahead_ms += own_ms / speed
        if ahead_ms > view.slacks_ms[at]:
            cost_ms, costliest = heapq.heappop(kept)
            ahead_ms += cost_ms
            late[costliest] = True
    return late


def _level(view: _View, late: Sequence[bool]) -> int:
    timely = [work for work, hopeless in zip(view.queue, late, strict=True) if not hopeless]
    deepest = max((len(work.ladder) - 1 for work in timely), default=0)
    speed = 1 - LATE_SHARE if any(late) else 1.0
    due = view.in_order(timely) if deepest else []
    return next((level for level in range(deepest) if _in_time(view, due, level, speed)), deepest)


def _in_time(view: _View, due: Sequence[tuple[Work, float]], level: int, speed: float) -> bool:
    """Whether, served in order at this level, all flexible ones of (request, how many like it) are in time."""
    share = ROOM if level < view.state.level else 1.0
    ahead_ms = view.state.running_ms / view.machine.workers
    for work, count in due:
        own_ms, later_ms = view.per_image(work.degraded(level))
        ahead_ms += count * own_ms / speed
        if not work.fixed and ahead_ms + later_ms > share * view.slack_ms(work):
            return False
    return True


def _head(late: Sequence[bool], owed_ms: float) -> int:
    """The position of the request that decides: the most urgent of those whose turn it is."""
    turn = owed_ms > 0
    return late.index(turn) if turn in late else 0


def _size(fitting: int, cost: Cost, width: str, machine: Machine, idle: int, slack_ms: float) -> int:
    """How many to take: all that fit, but shared among free workers and within time."""
    limit_ms = min(machine.batch_ms, slack_ms) if slack_ms >= cost(width, 1) else machine.batch_ms
    return _worthwhile(cost, width, min(machine.max_batch, -(-fitting // max(1, idle))), limit_ms)


def _worthwhile(cost: Cost, width: str, most: int, limit_ms: float) -> int:
    """Grow a batch within the limits as long as it is short, or further images are cheaper than those before."""
    size = 1
    while size < most:
        larger = min(2 * size, most)
        before, after = cost(width, size), cost(width, larger)
        dear = (after - before) / (larger - size) > GAIN * before / size
        if after > limit_ms or (dear and after > SHORT_MS):
            break
        size = larger
    return size
