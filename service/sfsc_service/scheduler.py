"""Which batch to cut next: (queue, costs, clock) → (width, members). Pure.

Rules:
- The most urgent request decides the width; the batch is filled, in order of urgency, with whatever else may
  take that width without being degraded further than the load demands. Urgency is a fixed time per request,
  so nothing is starved: whatever waits becomes the most urgent in the end.
- A request whose width is fixed keeps it. A flexible one gets the widest width with which it and the work
  behind it are predicted to be in time; the narrowest allowed one if none does (degrade before refusing).
- Hysteresis: going narrower takes effect at once, going wider only with room to spare.
- A batch is no longer than `batch_ms`, so that one wide batch cannot hold up everybody else, and leaves work
  for workers that are free.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sfsc_service.policy import Cost

__all__ = ["Cut", "Machine", "Work", "plan"]

ROOM = 0.7
"""The share of the slack within which a wider width must fit to be gone back to."""


@dataclass(frozen=True, slots=True)
class Work:
    """One waiting request. `widths` ascend; `ideal` is what an idle server would take; `due` in seconds."""

    widths: tuple[str, ...]
    ideal: str
    due: float

    @property
    def fixed(self) -> bool:
        """Whether there is only one width for it."""
        return len(self.widths) == 1

    def degraded(self, level: int) -> str:
        """Its width when the load takes `level` steps off the ideal one."""
        return self.widths[max(0, self.widths.index(self.ideal) - level)]


@dataclass(frozen=True, slots=True)
class Machine:
    """What the planner must know of the workers. `batch_ms`: the longest batch worth making."""

    workers: int
    max_batch: int
    batch_ms: float


@dataclass(frozen=True, slots=True)
class Cut:
    """`members`: positions in the queue. `level`: how many steps the load takes off ideal widths."""

    width: str
    members: tuple[int, ...]
    level: int


def plan(queue: Sequence[Work], cost: Cost, now: float, machine: Machine, idle: int, level: int) -> Cut:
    """Choose the next batch.

    Args:
        queue: not empty, ascending by `due`.
        now: seconds, on the clock of `due`.
        idle: workers that are free, the asking one included.
        level: of the cut before this one.
    """
    new_level = _level(queue, cost, now, machine, level)
    head = queue[0]
    width = head.degraded(new_level)
    fitting = [at for at, work in enumerate(queue) if work.degraded(new_level) == width]
    size = _size(len(fitting), cost, width, machine, idle, 1000 * (head.due - now))
    return Cut(width, tuple(fitting[:size]), new_level)


def _level(queue: Sequence[Work], cost: Cost, now: float, machine: Machine, before: int) -> int:
    flexible = [work for work in queue if not work.fixed]
    if not flexible:
        return 0
    deepest = max(work.widths.index(work.ideal) for work in flexible)
    for level in range(deepest):
        if _in_time(queue, level, cost, now, machine, ROOM if level < before else 1.0):
            return level
    return deepest


def _in_time(queue: Sequence[Work], level: int, cost: Cost, now: float, machine: Machine, share: float) -> bool:
    """Whether, served in order at this level, every flexible request is predicted to be in time."""
    ahead_ms = 0.0
    for work in queue:
        width = work.degraded(level)
        ahead_ms += _per_image(cost, width, machine, len(queue)) / machine.workers
        finished = max(ahead_ms, cost(width, 1))
        if not work.fixed and finished > share * 1000 * (work.due - now):
            return False
    return True


def _per_image(cost: Cost, width: str, machine: Machine, waiting: int) -> float:
    size = max(1, min(machine.max_batch, waiting // machine.workers))
    return cost(width, size) / size


def _size(fitting: int, cost: Cost, width: str, machine: Machine, idle: int, slack_ms: float) -> int:
    """How many to take: all that fit, but shared among free workers and within time."""
    size = min(machine.max_batch, -(-fitting // max(1, idle)))
    limit = min(machine.batch_ms, slack_ms) if slack_ms >= cost(width, 1) else machine.batch_ms
    while size > 1 and cost(width, size) > limit:
        size = size // 2 if cost(width, size) > 2 * limit else size - 1
    return size
