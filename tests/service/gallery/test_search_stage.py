"""Searches that wait are made together; each has the answer and the deadline that it would have alone."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest

from sfsc_service.errors import Problem
from sfsc_service.gallery.search_stage import (
    MAX_BATCH,
    SMALL_K,
    DueSearch,
    SearchStage,
    Wanted,
    plan_searches,
)
from sfsc_service.store.protocol import Float32, Hit, Store

START_TIMEOUT_S = 30.0
STORE, OTHER_STORE = cast(Store, "one store"), cast(Store, "another store")
ONE = Wanted(1, STORE, exact=False)


class Searched:
    """A search that can be held: the hits of a query are called after its only component and their rank."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Semaphore(0)
        self.go.set()
        self.calls: list[tuple[list[float], Wanted]] = []

    def __call__(self, queries: Float32, wanted: Wanted) -> tuple[list[list[Hit]], bool]:
        self.calls.append((queries[:, 0].tolist(), wanted))
        self.begun.release()
        assert self.go.wait(START_TIMEOUT_S)
        return [[hit(f"{query:g}-{n}") for n in range(wanted.k)] for query in queries[:, 0]], wanted.exact


def hit(id: str) -> Hit:
    return Hit(id, "s", "1.0", "{}", None, 0.0)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.id for hit in hits]


def vector(number: float) -> Float32:
    return np.array([number], np.float32)


def due(*wanted: Wanted, at: float = 0.0) -> list[DueSearch]:
    return [DueSearch(one, at) for one in wanted]


@pytest.fixture
def searched() -> Iterator[Searched]:
    made = Searched()
    yield made
    made.go.set()


async def occupied(
    stage: SearchStage, searched: Searched, due: float = 0.0
) -> "asyncio.Task[tuple[list[str], bool]]":
    searched.go.clear()
    task = asyncio.create_task(stage.run(due, None, vector(0), ONE, ids))
    assert await asyncio.to_thread(searched.begun.acquire, timeout=START_TIMEOUT_S)
    return task


def test_what_waits_is_searched_in_one_call_and_each_gets_its_own_hits(searched: Searched) -> None:
    sizes: list[int] = []

    async def main() -> None:
        stage = SearchStage(searched, 10_000.0, 0, sizes.append)
        busy = await occupied(stage, searched)
        wanted = {1: 3, 2: 1, 3: SMALL_K}
        waiting = [
            asyncio.create_task(stage.run(0.0, None, vector(n), Wanted(k, STORE, exact=False), ids))
            for n, k in wanted.items()
        ]
        await asyncio.sleep(0)
        assert stage.backlog_ms > 0.0
        searched.go.set()
        assert await asyncio.gather(*waiting) == [
            ([f"{n}-{rank}" for rank in range(k)], False) for n, k in wanted.items()
        ]
        assert await busy == (["0-0"], False)
        stage.close(START_TIMEOUT_S)

    asyncio.run(main())
    assert searched.calls == [([0.0], ONE), ([1.0, 2.0, 3.0], Wanted(SMALL_K, STORE, exact=False))]
    assert sizes == [1, 3]


def test_a_batch_has_members_that_want_about_as_many_hits() -> None:
    def plan(*wanted: int) -> tuple[int, list[int]]:
        planned, members, _ = plan_searches(due(*(Wanted(k, STORE, exact=True) for k in wanted)))
        assert planned == Wanted(planned.k, STORE, exact=True)
        return planned.k, members

    assert plan(*[5] * 200) == (5, list(range(MAX_BATCH)))
    assert plan(5, 1024, SMALL_K, SMALL_K + 1) == (SMALL_K, [0, 2])
    assert plan(1000, 5, 500, 499, 1001, 1000) == (1000, [0, 2, 5])
    assert plan(1_000_000, 1_000_000) == (1_000_000, [0])
    either = [Wanted(5, STORE, exact=exact) for exact in (False, True, False)]
    assert plan_searches(due(*either))[:2] == (either[0], [0, 2])
    with_vectors = [
        Wanted(1000, STORE, exact=True, vectors=vectors) for vectors in (True, False, True, True, True, True)
    ]
    assert plan_searches(due(*with_vectors))[:2] == (with_vectors[0], [0, 2, 3, 4])
    of_stores = [Wanted(5, store, exact=True) for store in (STORE, OTHER_STORE, STORE)]
    assert plan_searches(due(*of_stores))[:2] == (of_stores[0], [0, 2])


def test_late_searches_have_batches_of_their_own_in_their_turn() -> None:
    late, timely = due(*[ONE] * 100, at=1.0), due(*[ONE] * 5, at=2.0)
    assert plan_searches(late + timely, 1.5) == (ONE, list(range(100, 105)), False)
    assert plan_searches(late + timely, 1.5, late_first=True) == (ONE, list(range(MAX_BATCH)), True)
    assert plan_searches(late, 1.5) == (ONE, list(range(MAX_BATCH)), True)
    assert plan_searches(timely, 1.5, late_first=True) == (ONE, list(range(5)), False)


def test_a_crowd_of_late_searches_does_not_hold_up_timely_ones_and_gets_its_share(searched: Searched) -> None:
    def slow(queries: Float32, wanted: Wanted) -> tuple[list[list[Hit]], bool]:
        time.sleep(0.005)
        return searched(queries, wanted)

    async def main() -> None:
        stage = SearchStage(slow, 60_000.0, 0, lambda _: None)
        in_time = time.monotonic() + 60.0
        busy = await occupied(stage, searched, in_time)
        waiting = [
            asyncio.create_task(stage.run(due, None, vector(due), ONE, ids))
            for due in (0.0, in_time)
            for _ in range(20 * MAX_BATCH)
        ]
        await asyncio.sleep(0)
        assert stage.predicted_ms(in_time) < 0.7 * stage.predicted_ms(0.0)
        searched.go.set()
        await asyncio.gather(busy, *waiting)
        stage.close(START_TIMEOUT_S)

    asyncio.run(main())
    assert all(len(set(queries)) == 1 for queries, _ in searched.calls)
    late = [queries[0] == 0.0 for queries, _ in searched.calls[1:]]
    assert late.count(True) == late.count(False) == 20
    last_timely = len(late) - 1 - late[::-1].index(False)
    assert 1 <= late[:last_timely].count(True) <= 8


def test_an_answer_that_cannot_be_made_concerns_its_caller_alone(searched: Searched) -> None:
    def refuse(_: list[Hit]) -> list[str]:
        raise ZeroDivisionError

    async def main() -> None:
        stage = SearchStage(searched, 10_000.0, 0, lambda _: None)
        busy = await occupied(stage, searched)
        waiting = [stage.run(0.0, None, vector(n), ONE, refuse if n == 2 else ids) for n in (1, 2, 3)]
        gathered = asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0)
        searched.go.set()
        first, second, third = await gathered
        assert (first, third) == ((["1-0"], False), (["3-0"], False))
        assert isinstance(second, ZeroDivisionError)
        await busy
        stage.close(START_TIMEOUT_S)

    asyncio.run(main())
    assert len(searched.calls) == 2


@pytest.mark.parametrize(("deadline_s", "code"), [(None, "queue_timeout"), (0.05, "deadline_passed")])
def test_what_waits_for_too_long_is_dropped_before_it_is_searched(
    searched: Searched, deadline_s: float | None, code: str
) -> None:
    async def main() -> None:
        stage = SearchStage(searched, 300.0, 0, lambda _: None)
        busy = await occupied(stage, searched)
        deadline = None if deadline_s is None else time.monotonic() + deadline_s
        with pytest.raises(Problem) as late:
            await stage.run(0.0, deadline, vector(1), ONE, ids)
        assert late.value.code == code
        gone = asyncio.create_task(stage.run(0.0, None, vector(2), ONE, ids))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        searched.go.set()
        await busy
        stage.close(START_TIMEOUT_S)

    asyncio.run(main())
    assert searched.calls == [([0.0], ONE)]


def test_the_queue_is_bounded_by_what_a_search_takes_in_a_batch(searched: Searched) -> None:
    def slow(queries: Float32, wanted: Wanted) -> tuple[list[list[Hit]], bool]:
        time.sleep(0.1)
        return searched(queries, wanted)

    async def main() -> None:
        stage = SearchStage(slow, 2_000.0, 0, lambda _: None)
        await asyncio.gather(*(stage.run(0.0, None, vector(n), ONE, ids) for n in range(40)))
        await occupied(stage, searched)
        waiting = [asyncio.create_task(stage.run(0.0, None, vector(n), ONE, ids)) for n in range(4_000)]
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            stage.check_not_full()
        assert refused.value.code == "queue_full"
        assert refused.value.retry_after_s is not None
        searched.go.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        refusals = [one for one in outcomes if isinstance(one, Problem)]
        assert 0 < len(refusals) < len(waiting)
        stage.close(START_TIMEOUT_S)

    asyncio.run(main())
