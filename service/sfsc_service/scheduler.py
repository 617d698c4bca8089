"""Which batch to cut next: (queue, costs, clock) → (width, members). Pure.

Rules:
- The most urgent request decides the width; the batch is filled, in order of urgency, with whatever else may
  take that width without being degraded further than the load demands.
- A request whose width is fixed keeps it. A flexible one gets the widest width with which it, the work behind it
  and the work that is still being decoded are predicted to be in time; the narrowest allowed one if none does
  (degrade before refusing). What is late anyway gets its narrowest width.
- Hysteresis: going narrower takes effect at once, going wider only with room to spare.
- Fairness: urgency is a fixed time per request, so whatever waits becomes the most urgent in the end. Requests
  that are late already and requests that can still be in time take turns, so neither a crowd of wide requests
  that cannot be served in time holds up narrow ones, nor do fresh requests hold up late ones for ever.
- A batch is no longer than `batch_ms`, so that one wide batch cannot hold up everybody else, leaves work for
  workers that are free, and is no larger than it pays: where images cost the same in smaller batches, those
  are ready sooner.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from sfsc_service.policy import Cost

__all__ = ["Cut", "Machine", "State", "Work", "plan"]

ROOM = 0.7
"""The share of the slack within which a wider width must fit to be gone back to."""

GAIN = 0.95
"""A batch grows as long as further images cost less than this share of what those before them cost."""

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
class Machine:
    """What the planner must know of the workers. `batch_ms`: the longest batch worth making."""

    workers: int
    max_batch: int
    batch_ms: float


@dataclass(frozen=True, slots=True)
class State:
    """What happens beside the queue.

    `idle`: workers that are free, the asking one included. `running_ms`: what the busy ones still need, summed.
    `coming`: requests that are being decoded. `level` and `late` are of the cut before this one.
    """

    idle: int = 1
    running_ms: float = 0.0
    coming: Sequence[Work] = ()
    level: int = 0
    late: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """`members`: positions in the queue. `level`: how many steps the load takes off ideal widths.

    `late`: whether the request that decided could not be in time any more.
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
    late = [_is_late(work, cost, now) for work in queue]
    level = _level(queue, late, cost, now, machine, state)
    head = _head(late, state.late)
    widths = [work.degraded(DEEPEST if hopeless else level) for work, hopeless in zip(queue, late, strict=True)]
    width = widths[head]
    fitting = [at for at in range(head, len(queue)) if widths[at] == width]
    size = _size(len(fitting), cost, width, machine, state.idle, 1000 * (queue[head].due - now))
    return Cut(width, tuple(fitting[:size]), level, late[head])


def _is_late(work: Work, cost: Cost, now: float) -> bool:
    """Whether not even its narrowest width can be in time, begun at once."""
    return cost(work.ladder[-1], 1) > 1000 * (work.due - now)


def _head(late: Sequence[bool], was_late: bool) -> int:
    """The position of the request that decides."""
    return late.index(False) if was_late and False in late else 0


def _level(
    queue: Sequence[Work], late: Sequence[bool], cost: Cost, now: float, machine: Machine, state: State
) -> int:
    deepest = max(
        (len(work.ladder) - 1 for work, hopeless in zip(queue, late, strict=True) if not hopeless), default=0
    )
    for level in range(deepest):
        if _in_time(queue, late, level, cost, now, machine, state):
            return level
    return deepest


def _in_time(
    queue: Sequence[Work],
    late: Sequence[bool],
    level: int,
    cost: Cost,
    now: float,
    machine: Machine,
    state: State,
) -> bool:
    """Whether, served in order at this level, every flexible request that can be in time is predicted to be.

    With M workers a request is ready when the work up to it has been divided among them, at the latest
    (1 − 1/M) of its own batch later (Graham's bound for list scheduling).
    """
    share = ROOM if level < state.level else 1.0
    most = min(machine.max_batch, -(-(len(queue) + len(state.coming)) // machine.workers))
    shares: dict[str, tuple[float, float]] = {}
    ahead_ms = state.running_ms / machine.workers
    for work, hopeless in chain(zip(queue, late, strict=True), ((work, False) for work in state.coming)):
        width = work.degraded(DEEPEST if hopeless else level)
        if width not in shares:
            size = _worthwhile(cost, width, most, machine.batch_ms)
            batch_ms = cost(width, size)
            shares[width] = batch_ms / size / machine.workers, batch_ms * (1 - 1 / machine.workers)
        own_ms, batch_ms = shares[width]
        ahead_ms += own_ms
        if ahead_ms + batch_ms > share * 1000 * (work.due - now) and not hopeless and not work.fixed:
            return False
    return True


def _size(fitting: int, cost: Cost, width: str, machine: Machine, idle: int, slack_ms: float) -> int:
    """How many to take: all that fit, but shared among free workers and within time."""
    limit_ms = min(machine.batch_ms, slack_ms) if slack_ms >= cost(width, 1) else machine.batch_ms
    return _worthwhile(cost, width, min(machine.max_batch, -(-fitting // max(1, idle))), limit_ms)


def _worthwhile(cost: Cost, width: str, most: int, limit_ms: float) -> int:
    """Grow a batch as long as it stays within the limits and every further image is cheaper than those before."""
    size = 1
    while size < most:
        larger = min(2 * size, most)
        before, after = cost(width, size), cost(width, larger)
        if after > limit_ms or (after - before) / (larger - size) > GAIN * before / size:
            break
        size = larger
    return size
