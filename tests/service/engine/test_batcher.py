"""The batcher with a run of the test's own: every entry is answered once, whatever happens."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfsc_service.engine.batcher import HORIZON, BatchedResult, Batcher, BatcherLimits, BatchRun
from sfsc_service.errors import Problem
from tests.service.numbers import START_TIMEOUT_S, Gate, Numbers, batcher, first_key, submit


def test_every_entry_gets_its_own_answer() -> None:
    async def scenario() -> list[int]:
        with batcher(workers=2) as made:
            answers = await asyncio.gather(*(submit(made, n, key="ab"[n % 2]) for n in range(200)))
            assert {answer.key for answer in answers} == {"a", "b"}
            return [answer.result for answer in answers]

    assert asyncio.run(scenario()) == [2 * n for n in range(200)]


def test_a_batch_is_cut_when_the_worker_is_free_and_not_before() -> None:
    async def scenario() -> list[tuple[str, list[int]]]:
        gate = Gate()
        with batcher(gate) as made:
            first = submit(made, 0)
            await gate.busy()
            later = [submit(made, n) for n in range(1, 6)]
            gate.open()
            await asyncio.gather(first, *later)
            return gate.batches

    assert asyncio.run(scenario()) == [("a", [0]), ("a", [1, 2, 3, 4, 5])]


def test_the_most_urgent_goes_first_and_equals_go_by_arrival() -> None:
    async def scenario() -> list[int]:
        gate = Gate()
        with batcher(gate, plan=lambda works, _now, _idle: (works[0], [0])) as made:
            blocker = submit(made, 0, due=-1.0)
            await gate.busy()
            rest = [submit(made, n, due=due) for n, due in [(1, 3.0), (2, 1.0), (3, 2.0), (4, 1.0)]]
            gate.open()
            await asyncio.gather(blocker, *rest)
            return [payload for _, payloads in gate.batches for payload in payloads]

    assert asyncio.run(scenario()) == [0, 2, 4, 3, 1]


@settings(max_examples=40, deadline=None)
@given(poison=st.sets(st.integers(0, 15)), size=st.integers(1, 16))
def test_a_failing_batch_answers_everybody_and_only_the_poisonous_fail(poison: set[int], size: int) -> None:
    def run(_key: str, payloads: list[int]) -> list[int | Exception]:
        if poison & set(payloads):
            raise ValueError("poisoned")
        return [2 * payload for payload in payloads]

    async def scenario() -> list[BatchedResult[str, int] | BaseException]:
        gate = Gate(run)
        with batcher(gate) as made:
            blocker = submit(made, 99)
            await gate.busy()
            waiting = [submit(made, n) for n in range(size)]
            gate.open()
            await blocker
            return list(await asyncio.gather(*waiting, return_exceptions=True))

    for n, answer in enumerate(asyncio.run(scenario())):
        if n in poison:
            assert isinstance(answer, ValueError)
        else:
            assert isinstance(answer, BatchedResult)
            assert answer.result == 2 * n


def test_a_result_that_is_an_exception_concerns_its_entry_alone() -> None:
    def run(_key: str, payloads: list[int]) -> list[int | Exception]:
        return [ValueError("not a number") if payload == 1 else payload for payload in payloads]

    async def scenario() -> list[object]:
        gate = Gate(run)
        with batcher(gate) as made:
            blocker = submit(made, 7)
            await gate.busy()
            waiting = [submit(made, n) for n in range(3)]
            gate.open()
            await blocker
            return list(await asyncio.gather(*waiting, return_exceptions=True))

    zero, one, two = asyncio.run(scenario())
    assert isinstance(zero, BatchedResult)
    assert isinstance(two, BatchedResult)
    assert isinstance(one, ValueError)


def test_too_few_results_are_an_error_for_all_and_the_worker_goes_on() -> None:
    def run(_key: str, payloads: list[int]) -> list[int | Exception]:
        return [] if payloads == [1] else list(payloads)

    async def scenario() -> int:
        with batcher(run) as made:
            with pytest.raises(ValueError, match="must give 1 results, found 0"):
                await submit(made, 1)
            return (await submit(made, 2)).result

    assert asyncio.run(scenario()) == 2


def test_a_plan_that_raises_costs_one_request_and_no_worker() -> None:
    def plan(works: Sequence[str], _now: float, _idle: int) -> tuple[str, list[int]]:
        if works[0] == "bad":
            raise KeyError(works[0])
        return works[0], [] if works[0] == "none" else [0]

    async def scenario() -> int:
        with batcher(plan=plan) as made:
            with pytest.raises(KeyError):
                await submit(made, 1, key="bad")
            with pytest.raises(ValueError, match="at least one member"):
                await submit(made, 1, key="none")
            return (await submit(made, 2)).result

    assert asyncio.run(scenario()) == 4


def test_a_caller_that_has_gone_costs_nothing_and_is_counted() -> None:
    dropped: list[str] = []

    async def scenario() -> list[tuple[str, list[int]]]:
        gate = Gate()
        with batcher(gate, dropped=dropped.append) as made:
            blocker = submit(made, 0)
            await gate.busy()
            gone, stays = submit(made, 1), submit(made, 2)
            gone.cancel()
            gate.open()
            await asyncio.gather(blocker, stays)
            return gate.batches

    assert asyncio.run(scenario()) == [("a", [0]), ("a", [2])]
    assert dropped == ["client_gone"]


@pytest.mark.parametrize("reason", ["client_gone", "deadline_passed"])
def test_an_entry_that_is_done_leaves_the_queue_at_once_wherever_it_stands(reason: str) -> None:
    """More entries than a plan looks at, all dead, while the only worker is busy: none counts or is kept."""
    dropped: list[str] = []

    async def scenario() -> list[list[int]]:
        gate = Gate()
        with batcher(gate, queue_ms=1000.0, dropped=dropped.append) as made:
            blocker = submit(made, 0, due=-1.0)
            await gate.busy()
            expires = {} if reason == "client_gone" else {"expires": made._clock() + 0.05}
            dead = [submit(made, n, due=float(n), cost_ms=2.0, **expires) for n in range(1, 2 * HORIZON)]
            stays = submit(made, 500, due=0.5)
            if reason == "client_gone":
                for future in dead:
                    future.cancel()
            await asyncio.gather(*dead, return_exceptions=True)
            await asyncio.sleep(0)
            assert (made.waiting, made.backlog_ms(), made.backlog_before_ms(1e9)) == (1, 1.0, 1.0)
            assert dropped == [reason] * len(dead)
            gate.open()
            await asyncio.gather(blocker, stays)
            return [payloads for _, payloads in gate.batches]

    assert asyncio.run(scenario()) == [[0], [500]]
    assert set(dropped) == {reason}


def test_a_deadline_that_passes_in_the_queue_is_answered_while_the_worker_is_busy() -> None:
    dropped: list[str] = []

    async def scenario() -> list[tuple[str, list[int]]]:
        gate = Gate()
        with batcher(gate, dropped=dropped.append) as made:
            blocker = submit(made, 0)
            await gate.busy()
            hasty = submit(made, 1, expires=made._clock() + 0.01)
            with pytest.raises(Problem) as caught:
                await hasty
            assert caught.value.code == "deadline_passed"
            gate.open()
            await blocker
            await submit(made, 2)
            return gate.batches

    assert asyncio.run(scenario()) == [("a", [0]), ("a", [2])]
    assert dropped == ["deadline_passed"]


def test_a_deadline_that_passes_while_computing_does_not_take_the_answer_away() -> None:
    async def scenario() -> int:
        gate = Gate()
        with batcher(gate) as made:
            started = submit(made, 3, expires=made._clock() + 0.05)
            await gate.busy()
            await asyncio.sleep(0.1)
            gate.open()
            return (await started).result

    assert asyncio.run(scenario()) == 6


def test_the_queue_is_bounded_in_predicted_milliseconds_not_in_entries() -> None:
    async def scenario() -> None:
        gate = Gate()
        with batcher(gate, queue_ms=100.0) as made:
            entries = [submit(made, 0)]
            await gate.busy()
            entries += [submit(made, n, cost_ms=1.0) for n in range(1, 102)]
            with pytest.raises(Problem) as caught:
                submit(made, 200)
            assert caught.value.code == "queue_full"
            assert caught.value.retry_after_s == pytest.approx(0.101)
            gate.open()
            await asyncio.gather(*entries)
            assert made.backlog_ms() == 0.0
            assert (await submit(made, 1)).result == 2

    asyncio.run(scenario())


def test_bulk_entries_take_no_room_from_the_others() -> None:
    async def scenario() -> None:
        gate = Gate()
        with batcher(gate, queue_ms=100.0) as made:
            entries = [submit(made, 0)]
            await gate.busy()
            entries += [made.submit(n, "a", due=9.0, cost_ms=60.0, bulk=True) for n in (1, 2)]
            assert (made.backlog_ms(), made.backlog_ms(bulk=True)) == (0.0, 120.0)
            with pytest.raises(Problem):
                made.submit(3, "a", due=9.0, cost_ms=60.0, bulk=True)
            entries += [submit(made, n, cost_ms=60.0) for n in (4, 5)]
            with pytest.raises(Problem):
                submit(made, 6)
            gate.open()
            await asyncio.gather(*entries)
            assert made.backlog_ms(bulk=True) == 0.0

    asyncio.run(scenario())


def test_closing_works_off_what_waits_and_takes_nothing_more() -> None:
    async def scenario() -> list[int]:
        gate = Gate()
        made: Numbers = Batcher(first_key, gate, BatcherLimits(1, 1e9))
        running = submit(made, 0)
        await gate.busy()
        waiting = [submit(made, n) for n in range(1, 5)]
        closing = asyncio.create_task(asyncio.to_thread(made.close, START_TIMEOUT_S))
        while not made._closing:
            await asyncio.sleep(0)
        with pytest.raises(Problem) as caught:
            submit(made, 6)
        assert caught.value.code == "shutting_down"
        await asyncio.sleep(0.05)
        assert not closing.done()
        gate.open()
        await closing
        return [answer.result for answer in await asyncio.gather(running, *waiting)]

    assert asyncio.run(scenario()) == [0, 2, 4, 6, 8]


def test_what_is_left_when_closing_takes_too_long_is_told_so() -> None:
    async def scenario() -> None:
        gate = Gate()
        made: Numbers = Batcher(first_key, gate, BatcherLimits(1, 1e9))
        first = submit(made, 0)
        await gate.busy()
        second = submit(made, 1)
        await asyncio.to_thread(made.close, 0.01)
        with pytest.raises(Problem) as caught:
            await second
        assert caught.value.code == "shutting_down"
        gate.open()
        assert (await first).result == 0
        await asyncio.to_thread(made.close, START_TIMEOUT_S)

    asyncio.run(scenario())


def test_observers_see_every_run() -> None:
    seen: list[BatchRun[str]] = []

    def run(_key: str, payloads: list[int]) -> list[int | Exception]:
        if 1 in payloads:
            raise ValueError("poisoned")
        return list(payloads)

    async def scenario() -> None:
        gate = Gate(run)
        with batcher(gate, observe=seen.append) as made:
            blocker = submit(made, 5)
            await gate.busy()
            waiting = [submit(made, n) for n in range(2)]
            gate.open()
            await asyncio.gather(blocker, *waiting, return_exceptions=True)

    asyncio.run(scenario())
    assert [(batch.size, batch.failed) for batch in seen] == [(1, False), (2, True), (1, False), (1, True)]


def test_whether_something_runs_is_seen_without_waiting() -> None:
    async def scenario() -> None:
        gate = Gate()
        with batcher(gate) as made:
            assert made.idle
            running = submit(made, 0)
            await gate.busy()
            assert not made.idle
            gate.open()
            await running

    asyncio.run(scenario())


def test_loops_in_several_threads_are_each_answered_at_home() -> None:
    with batcher() as made:

        async def one(n: int) -> int:
            return (await submit(made, n)).result

        results: dict[int, int] = {}
        threads = [threading.Thread(target=lambda n=n: results.update({n: asyncio.run(one(n))})) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(START_TIMEOUT_S)
        assert results == {0: 0, 1: 2, 2: 4, 3: 6}
