"""Work of bulk calls in the event loop: in order, a piece a turn on an idle loop, and a share of a busy one."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

from sfsc_service.engine import bulk_turns
from sfsc_service.engine.bulk_turns import SHARE, BulkTurns

PIECE_S = 0.001


class Clock:
    """Time that passes only where it is said to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(bulk_turns, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def pieces_a_turn(clock: Clock, others_s: float, pieces: int) -> list[int]:
    """How many pieces each turn of the loop had that takes others so long."""
    done = 0

    def piece() -> None:
        nonlocal done
        done += 1
        clock.passes(PIECE_S)

    async def turns() -> list[int]:
        bulk, found = BulkTurns(), []
        waiting = [asyncio.create_task(bulk.run(piece)) for _ in range(pieces)]
        await asyncio.sleep(0)
        while done < pieces:
            before = done
            clock.passes(others_s)
            await asyncio.sleep(0)
            found.append(done - before)
        await asyncio.gather(*waiting)
        return found

    return asyncio.run(turns())


def test_an_idle_loop_has_a_piece_a_turn(clock: Clock) -> None:
    assert pieces_a_turn(clock, 0.0, 20) == [1] * 20


def test_a_busy_loop_gives_its_share(clock: Clock) -> None:
    found = pieces_a_turn(clock, 50 * PIECE_S / SHARE, 200)
    assert len(found) <= 5, "one piece a turn would take 200"
    assert max(found) <= 52


def test_outcomes_come_in_order_and_callers_that_left_cost_nothing() -> None:
    called = []

    def piece(number: int) -> Callable[[], int]:
        def call() -> int:
            called.append(number)
            if number == 2:
                raise ValueError("two")
            return number

        return call

    async def outcomes() -> list[int | BaseException]:
        bulk = BulkTurns()
        tasks: list[Awaitable[int]] = []
        for number in range(5):
            task = asyncio.create_task(bulk.run(piece(number)))
            tasks.append(task)
            if number == 3:
                asyncio.get_running_loop().call_soon(task.cancel)
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(outcomes())
    assert [one if isinstance(one, int) else type(one) for one in found] == [
        0, 1, ValueError, asyncio.CancelledError, 4
    ]  # fmt: skip
    assert called == [0, 1, 2, 4]


def test_a_loop_that_ended_before_its_turn_holds_up_no_other_one() -> None:
    bulk, called = BulkTurns(), list[str]()

    async def end_early() -> None:
        for _ in range(3):
            asyncio.create_task(bulk.run(lambda: called.append("early")))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(end_early())
    asyncio.run(bulk.run(lambda: called.append("late")))
    assert called[-1] == "late"
    assert called.count("early") < 3, "the others were cancelled"


def test_a_loop_that_was_closed_with_callers_waiting_holds_up_no_other_one() -> None:
    bulk, called = BulkTurns(), list[str]()
    loop = asyncio.new_event_loop()
    for _ in range(20):
        early = loop.create_task(bulk.run(lambda: called.append("early")))
        early._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    asyncio.run(asyncio.wait_for(bulk.run(lambda: called.append("late")), timeout=10))
    assert called[-1] == "late"
    assert called.count("early") < 20
