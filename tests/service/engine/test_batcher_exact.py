"""What a batcher tells of times and workers, to the digit."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from sfsc_service.engine import worker_pool
from sfsc_service.engine.batcher import LESS
from sfsc_service.errors import Problem
from tests.service.numbers import START_TIMEOUT_S, Gate, batcher, double, first_key, submit


def test_times_are_those_of_the_clock_in_milliseconds() -> None:
    now = 10.0

    def run(key: str, payloads: list[int]) -> list[int | Exception]:
        nonlocal now
        now += 0.5 if payloads == [0] else 0.25
        return double(key, payloads)

    async def scenario() -> list[tuple[float, float]]:
        gate = Gate(run)
        with batcher(gate, clock=lambda: now) as made:
            first = submit(made, 0)
            await gate.busy()
            second = submit(made, 1)
            gate.open()
            return [(answer.queue_ms, answer.compute_ms) for answer in await asyncio.gather(first, second)]

    assert asyncio.run(scenario()) == [(0.0, 500.0), (500.0, 250.0)]


def test_a_plan_is_told_the_idle_workers_and_counts_the_one_that_asks() -> None:
    told: list[int] = []
    gate = Gate()

    def plan(works: Sequence[str], now: float, idle: int) -> tuple[str, list[int]]:
        told.append(idle)
        return first_key(works, now, idle)

    def run(key: str, payloads: list[int]) -> Sequence[int | Exception]:
        return gate(key, payloads) if payloads == [1] else double(key, payloads)

    async def scenario() -> None:
        with batcher(run, workers=2, plan=plan) as made:
            async with asyncio.timeout(START_TIMEOUT_S):
                while told[-1:] != [2]:  # not before both threads have begun
                    await submit(made, 0)
                while made._idle < 2:  # its worker is idle a moment after the answer
                    await asyncio.sleep(0.001)
            held = submit(made, 1)
            await gate.busy()
            await submit(made, 2)
            gate.open()
            await held

    asyncio.run(scenario())
    assert told[-2:] == [2, 1]


def test_a_deadline_that_passes_while_the_event_loop_is_busy_is_answered_by_the_worker() -> None:
    """The worker drops the request before the loop's own timer can."""
    dropped: list[str] = []

    async def scenario() -> None:
        gate = Gate()
        with batcher(gate, dropped=dropped.append) as made:
            blocker = submit(made, 0)
            await gate.busy()
            hasty = submit(made, 1, expires=made._clock() + 0.01)
            time.sleep(0.05)
            gate.open()
            end = time.monotonic() + START_TIMEOUT_S
            while made.waiting:
                assert time.monotonic() < end
                time.sleep(0.01)
            with pytest.raises(Problem) as caught:
                await asyncio.wait_for(hasty, START_TIMEOUT_S)
            assert caught.value.code == "deadline_passed"
            assert (await blocker).result == 0

    asyncio.run(scenario())
    assert dropped == ["deadline_passed"]


def test_what_has_waited_for_too_long_is_not_computed_whoever_sees_it_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The watching thread looks now and then; a worker that is free before it does sees it, too."""
    monkeypatch.setattr(worker_pool, "WATCH_S", 1000.0)
    now, dropped = 10.0, list[str]()

    async def scenario() -> list[tuple[str, list[int]]]:
        nonlocal now
        gate = Gate()
        with batcher(gate, queue_ms=1000.0, clock=lambda: now, dropped=dropped.append) as made:
            first = submit(made, 0)
            await gate.busy()
            late, patient = (submit(made, n, times_out=10.0 + n) for n in (1, 2))
            now = 11.0
            gate.open()
            await first
            with pytest.raises(Problem) as caught:
                await late
            assert caught.value.code == "queue_timeout"
            await patient
            made._drop_timed_out()
            assert made._share == LESS
            made._drop_timed_out()
            assert made._share > LESS, "once"
        return gate.batches

    assert asyncio.run(scenario()) == [("a", [0]), ("a", [2])]
    assert dropped == ["queue_timeout"]
