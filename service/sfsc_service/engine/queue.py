"""The batcher's queue: entries in order of urgency, their predicted cost, and why some are dropped.

Not thread-safe: the batcher's lock is held around every call but `backlog_before_ms` and the length.
"""

import asyncio
import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

__all__ = ["DropReason", "QueueEntry", "RequestQueue"]

WorkT = TypeVar("WorkT")
PayloadT = TypeVar("PayloadT")

DropReason = Literal["client_gone", "deadline_passed", "queue_timeout"]


@dataclass(slots=True, eq=False)
class QueueEntry(Generic[WorkT, PayloadT]):
    """One admitted request; times in seconds on the batcher's clock.

    Attributes:
        work: what the planner needs to know of it.
        due: orders the queue.
        expires: when it is no longer worth computing; None = never.
        cost_ms: what it is predicted to cost at least.
        times_out: when it has waited for so long that it is dropped.
        bulk: low priority: it does not count against entries that are not bulk.
        waiting: whether it is in the queue; false once a worker has taken it or it was removed.
    """

    payload: PayloadT
    work: WorkT
    due: float
    expires: float | None
    cost_ms: float
    admitted: float
    future: "asyncio.Future[Any]"
    times_out: float = math.inf
    bulk: bool = False
    waiting: bool = True

    def drop_reason(self, now: float) -> DropReason | None:
        """Why it is not worth computing any more; None if it is."""
        if self.future.cancelled():
            return "client_gone"
        if self.future.done() or (self.expires is not None and now >= self.expires):
            return "deadline_passed"
        return "queue_timeout" if now >= self.times_out else None


class RequestQueue(Generic[WorkT, PayloadT]):
    """Entries ascending by (due, arrival)."""

    def __init__(self) -> None:
        self._entries: list[QueueEntry[WorkT, PayloadT]] = []
        self._keys: list[tuple[float, int]] = []  # bisecting tuples of numbers is faster than asking entries
        self._arrivals = itertools.count()
        self._backlog_ms = {False: 0.0, True: 0.0}

    def __len__(self) -> int:
        return len(self._entries)

    def backlog_ms(self, *, bulk: bool) -> float:
        """The cost of what waits and counts against a new entry: everything for bulk, else what is not bulk."""
        return self._backlog_ms[False] + (self._backlog_ms[True] if bulk else 0.0)

    def backlog_before_ms(self, due: float, since: float = -math.inf) -> float:
        """The cost of what waits and is more urgent, but not due before `since`.

        Without the lock the answer may be out of date, no worse.
        """
        first, end = (bisect.bisect(self._keys, (at, -1)) for at in (since, due))
        return sum(entry.cost_ms for entry in self._entries[first:end])

    def insert(self, entry: QueueEntry[WorkT, PayloadT]) -> None:
        """Put an entry in its place."""
        key = (entry.due, next(self._arrivals))
        at = bisect.bisect(self._keys, key)
        self._keys.insert(at, key)
        self._entries.insert(at, entry)
        self._backlog_ms[entry.bulk] += entry.cost_ms

    def most_urgent(self, count: int, now: float) -> list[tuple[int, QueueEntry[WorkT, PayloadT]]]:
        """So many of the most urgent entries with their positions, ascending; they stay in the queue.

        If overdue entries alone would fill more than half, the other half is for entries that are not overdue.
        """
        overdue = bisect.bisect(self._keys, (now, -1))
        if overdue <= count // 2:
            return list(enumerate(self._entries[:count]))
        timely = self._entries[overdue : overdue + count // 2]
        first = self._entries[: min(overdue, count - len(timely))]
        return [*enumerate(first), *enumerate(timely, overdue)]

    def take(self, positions: Sequence[int]) -> list[QueueEntry[WorkT, PayloadT]]:
        """Remove entries by position and return them, most urgent first."""
        taken: list[QueueEntry[WorkT, PayloadT]] = []
        for at in sorted(set(positions), reverse=True):
            entry = self._entries.pop(at)
            del self._keys[at]
            entry.waiting = False
            taken.append(entry)
            self._backlog_ms[entry.bulk] -= entry.cost_ms
        if not self._entries:
            self._backlog_ms = {False: 0.0, True: 0.0}  # rounding errors must not add up over days
        return taken[::-1]

    def remove(self, entry: QueueEntry[WorkT, PayloadT]) -> None:
        """Remove an entry that waits."""
        self.take([self._entries.index(entry, bisect.bisect(self._keys, (entry.due, -1)))])

    def take_timed_out(self, now: float) -> list[QueueEntry[WorkT, PayloadT]]:
        """Remove those that have waited too long."""
        return self.take([at for at, entry in enumerate(self._entries) if entry.times_out <= now])

    def take_dropped(self, count: int, now: float) -> list[tuple[QueueEntry[WorkT, PayloadT], DropReason]]:
        """Remove those of the `count` most urgent entries that are not worth computing any more."""
        seen = self.most_urgent(count, now)
        # Nearly always there is none; asking each for its reason would be much of what a small batch costs.
        if not any(one.future.done() or one.expires is not None or one.times_out <= now for _, one in seen):
            return []
        dropped = [(at, reason) for at, entry in seen if (reason := entry.drop_reason(now)) is not None]
        entries = self.take([at for at, _ in dropped])
        return [(entry, reason) for entry, (_, reason) in zip(entries, dropped, strict=True)]
