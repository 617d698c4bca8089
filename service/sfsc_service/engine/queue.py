"""The batcher's queue: entries ordered by urgency, their predicted cost, and what became of each.

Not thread-safe: the batcher's lock is held around every call.
"""

import asyncio
import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

__all__ = ["Dropped", "Entry", "RequestQueue"]

W = TypeVar("W")
P = TypeVar("P")

Dropped = Literal["client_gone", "deadline_passed"]


@dataclass(slots=True, eq=False)
class Entry(Generic[W, P]):
    """One admitted request.

    Times in seconds. `patient` entries give way: they are not counted against those that are not. `waiting` is
    false once a worker has it or it was dropped.
    """

    payload: P
    work: W
    due: float
    expires: float | None
    weight_ms: float
    admitted: float
    future: "asyncio.Future[Any]"
    bulk: bool = False
    waiting: bool = True

    def dropped(self, now: float) -> Dropped | None:
        """Why it is not worth computing any more, if it is not."""
        if self.future.cancelled():
            return "client_gone"
        if self.future.done() or (self.expires is not None and now >= self.expires):
            return "deadline_passed"
        return None


class RequestQueue(Generic[W, P]):
    """Entries ascending by (due, arrival)."""

    def __init__(self) -> None:
        self._entries: list[Entry[W, P]] = []
        self._keys: list[tuple[float, int]] = []  # bisecting tuples of numbers is faster than asking entries
        self._arrivals = itertools.count()
        self._weight_ms = {False: 0.0, True: 0.0}

    def __len__(self) -> int:
        return len(self._entries)

    def weight_ms(self, *, bulk: bool) -> float:
        """What waits and counts against a new entry: everything for a patient one, else all that are not."""
        return self._weight_ms[False] + (self._weight_ms[True] if bulk else 0.0)

    def weight_before(self, due: float) -> float:
        """What waits and is more urgent. May be asked without the lock: it can only be out of date."""
        return sum(entry.weight_ms for entry in self._entries[: bisect.bisect(self._keys, (due, -1))])

    def insert(self, entry: Entry[W, P]) -> None:
        """Put an entry in its place."""
        key = (entry.due, next(self._arrivals))
        at = bisect.bisect(self._keys, key)
        self._keys.insert(at, key)
        self._entries.insert(at, entry)
        self._weight_ms[entry.bulk] += entry.weight_ms

    def view(self, count: int, now: float) -> list[tuple[int, Entry[W, P]]]:
        """The most urgent entries with their positions; they stay.

        Where so many are overdue that they would fill the view, half of it is for those that are not.
        """
        overdue = bisect.bisect(self._keys, (now, -1))
        if overdue <= count // 2:
            return list(enumerate(self._entries[:count]))
        timely = self._entries[overdue : overdue + count // 2]
        first = self._entries[: min(overdue, count - len(timely))]
        return [*enumerate(first), *enumerate(timely, overdue)]

    def take(self, positions: Sequence[int]) -> list[Entry[W, P]]:
        """Remove entries by position and return them, most urgent first."""
        taken: list[Entry[W, P]] = []
        for at in sorted(set(positions), reverse=True):
            entry = self._entries.pop(at)
            del self._keys[at]
            entry.waiting = False
            taken.append(entry)
            self._weight_ms[entry.bulk] -= entry.weight_ms
        if not self._entries:
            self._weight_ms = {False: 0.0, True: 0.0}  # rounding errors must not add up over days
        return taken[::-1]

    def take_dropped(self, count: int, now: float) -> list[tuple[Entry[W, P], Dropped]]:
        """Remove those in a view of `count` entries that are not worth computing any more."""
        seen = self.view(count, now)
        # Nearly always none; asking each for its cause would be much of what a small batch costs.
        if not any(entry.future.done() or entry.expires is not None for _, entry in seen):
            return []
        dead = [(at, cause) for at, entry in seen if (cause := entry.dropped(now)) is not None]
        entries = self.take([at for at, _ in dead])
        return [(entry, cause) for entry, (_, cause) in zip(entries, dead, strict=True)]
