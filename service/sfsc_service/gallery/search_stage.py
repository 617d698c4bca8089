"""Searches without a filter: those that wait are made in one call of the store, which reads the vectors once.

engine/batcher.py says how they wait, are refused and are dropped. Each gets the hits that it would get alone.

A search that cannot be answered any more by the time it is due is *late*. While others wait, late ones get calls
of their own and a small share of the time: under an overload that lasts, most of what can be in time is.
"""

import bisect
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from sfsc_service.engine.batcher import Batcher, BatcherLimits, BatchRun
from sfsc_service.engine.late_share import LATE_SHARE, LateShare
from sfsc_service.engine.networks import Vector
from sfsc_service.store.protocol import Float32, Hit, Store

__all__ = ["MAX_BATCH", "SMALL_K", "DueSearch", "SearchStage", "Wanted", "plan_searches"]

T = TypeVar("T")

MAX_BATCH = 64
"""Larger batches take a query hardly less time, and all their queries wait for it."""
SMALL_K = 64
"""Searches for no more hits than this are made together, whatever their k."""
MAX_BATCH_HITS = 4_096
"""Their metadata, up to 16 KiB each, are in memory together; the same with vectors."""
SMOOTHING = 0.1
"""The weight of one batch in the predicted time of the next ones."""
FIRST_MS = 1.0
"""What a search is predicted to take before there was one."""


class Wanted(NamedTuple):
    """How many hits a search is for, in which store, whether it must be exact, and whether hits have vectors."""

    k: int
    store: Store
    exact: bool
    vectors: bool = False


class DueSearch(NamedTuple):
    """What a search is for, and when it is due: seconds, monotonic."""

    wanted: Wanted
    due: float


@dataclass(frozen=True, slots=True, eq=False)
class _WaitingSearch:
    """A query [D], and what makes an answer of its `k` hits."""

    vector: Vector
    k: int
    render: Callable[[list[Hit]], Any]


def plan_searches(
    waiting: Sequence[DueSearch], late_before: float = -math.inf, *, late_first: bool = False
) -> tuple[Wanted, list[int], bool]:
    """The next batch: what it is searched for, the positions of its members in `waiting`, whether they are late.

    A batch searches one store for the hits of its greediest member, so none is in it that wants less than half of
    them, but for small k.

    Args:
        waiting: ascending by `due`.
        late_before: what is due earlier is late.
        late_first: whether it is the turn of the late searches, where there are any.
    """
    late = bisect.bisect_left(waiting, late_before, key=lambda one: one.due)
    is_late = late > 0 and (late_first or late == len(waiting))
    in_turn = range(late) if is_late else range(late, len(waiting))
    first = waiting[in_turn[0]].wanted
    most = max(first.k, SMALL_K)
    least = 0 if most == SMALL_K else most // 2
    size = min(MAX_BATCH, max(1, MAX_BATCH_HITS // most))
    wanted = [one.wanted for one in waiting]
    fitting = (at for at in in_turn if least <= wanted[at].k <= most and wanted[at][1:] == first[1:])
    members = list(itertools.islice(fitting, size))
    return first._replace(k=max(wanted[at].k for at in members)), members, is_late


class SearchStage:
    """One worker for all searches, each call of which uses every thread that searches may use.

    Args:
        search: queries [n, D] and what is wanted → the hits of each, and whether the search was exact.
        queue_ms, nice: as in engine/batcher.py.
        observe: told of the number of searches of every call.
    """

    def __init__(
        self,
        search: Callable[[Float32, Wanted], tuple[list[list[Hit]], bool]],
        queue_ms: float,
        nice: int,
        observe: Callable[[int], None],
    ) -> None:
        self._search, self._queue_ms, self._observe_size = search, queue_ms, observe
        self._alone_ms = self._batch_ms = FIRST_MS
        self._each_ms = math.inf
        """What one of several searches in a batch takes; unknown until there was such a batch."""
        self._is_late = False
        """Whether the batch of now has late members."""
        self._late_share = LateShare()
        self._batcher: Batcher[Wanted, DueSearch, _WaitingSearch, tuple[Any, bool]] = Batcher(
            self._plan, self._run, BatcherLimits(1, queue_ms, nice=nice), observe=self._observe
        )

    @property
    def backlog_ms(self) -> float:
        """Predicted time until one more search begins. Never waits."""
        return self._batcher.backlog_ms() + self._running_ms

    def predicted_ms(self, due: float) -> float:
        """Predicted time until one more search, due then, has ended. Never waits."""
        late_before = self._late_before(time.monotonic())
        if due < late_before:
            return self.backlog_ms + self._alone_ms
        before_ms = self._batcher.backlog_before_ms(due, since=late_before) / (1 - LATE_SHARE)
        return before_ms + self._running_ms + self._alone_ms

    def check_not_full(self) -> None:
        """Refuse, before anything is spent, what would wait too long. Raises Problem: queue_full."""
        self._batcher.check_not_full()

    async def run(
        self,
        due: float,
        deadline: float | None,
        vector: Vector,
        wanted: Wanted,
        render: Callable[[list[Hit]], T],
    ) -> tuple[T, bool]:
        """What `render` makes of the hits, in the searching thread, and whether the search was exact.

        Args:
            due, deadline: seconds, monotonic.

        Raises:
            Problem: as engine/batcher.py says.
            StoreError: as the store says.
        """
        result = await self._batcher.submit(
            _WaitingSearch(vector, wanted.k, render),
            DueSearch(wanted, due),
            due=due,
            cost_ms=min(self._each_ms, self._alone_ms),
            expires=deadline,
            times_out=time.monotonic() + self._queue_ms / 1000,
        )
        return result.result

    def close(self, timeout_s: float) -> None:
        """Make the searches that wait, for so long, and end."""
        self._batcher.close(timeout_s)

    @property
    def _running_ms(self) -> float:
        return self._batch_ms if self._batcher.worker_pool.busy else 0.0

    def _late_before(self, now: float) -> float:
        return now + self._alone_ms / 1000

    def _plan(self, waiting: Sequence[DueSearch], now: float, _idle: int) -> tuple[Wanted, list[int]]:
        turn = self._late_share.deficit_ms > 0
        wanted, members, self._is_late = plan_searches(waiting, self._late_before(now), late_first=turn)
        return wanted, members

    def _run(self, wanted: Wanted, searches: list[_WaitingSearch]) -> list[tuple[Any, bool] | Exception]:
        found, exact = self._search(np.stack([search.vector for search in searches]), wanted)
        return [_rendered(search, hits, exact) for search, hits in zip(searches, found, strict=True)]

    def _observe(self, run: BatchRun[Wanted]) -> None:
        self._observe_size(run.size)
        self._late_share.spend(run.compute_ms, late=self._is_late, most_ms=run.compute_ms)
        self._batch_ms += SMOOTHING * (run.compute_ms - self._batch_ms)
        if run.size == 1:
            self._alone_ms += SMOOTHING * (run.compute_ms - self._alone_ms)
        else:
            each_ms = run.compute_ms / run.size
            known = math.isfinite(self._each_ms)
            self._each_ms = self._each_ms + SMOOTHING * (each_ms - self._each_ms) if known else each_ms


def _rendered(search: _WaitingSearch, hits: list[Hit], exact: bool) -> tuple[Any, bool] | Exception:
    """An exception in place of an answer concerns this search alone."""
    try:
        return search.render(hits[: search.k]), exact
    except Exception as error:
        return error
