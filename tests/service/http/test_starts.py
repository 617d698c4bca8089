"""How many calls begin in a turn of the event loop, and what is answered meanwhile."""

import asyncio
import functools

import pytest

from sfsc_service.http.starts import Starts


@pytest.mark.parametrize(("calls", "turns"), [(3, [3]), (4, [4]), (5, [4, 1]), (11, [4, 4, 3])])
def test_a_few_begin_in_each_turn_and_in_order(calls: int, turns: list[int]) -> None:
    begun: list[int] = []
    seen: list[int] = []

    async def run() -> None:
        loop, starts = asyncio.get_running_loop(), Starts(4)
        for number in range(calls):
            starts.begin(loop, functools.partial(begun.append, number))
        while len(begun) < calls:
            seen.append(len(begun) - sum(seen))
            await asyncio.sleep(0)
        seen.append(len(begun) - sum(seen))

    asyncio.run(asyncio.wait_for(run(), 10))
    assert begun == list(range(calls))
    assert seen == turns


def test_those_that_wait_are_before_those_that_come_later() -> None:
    begun: list[str] = []

    async def run() -> None:
        loop, starts = asyncio.get_running_loop(), Starts(2)
        for name in ("a", "b", "c"):
            starts.begin(loop, functools.partial(begun.append, name))
        loop.call_soon(starts.begin, loop, functools.partial(begun.append, "d"))
        while len(begun) < 4:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 10))
    assert begun == ["a", "b", "c", "d"]


def test_a_call_that_begins_another_does_not_begin_it_out_of_turn() -> None:
    begun: list[int] = []

    async def run() -> None:
        loop, starts = asyncio.get_running_loop(), Starts(2)

        def call(number: int) -> None:
            begun.append(number)
            if number < 5:
                starts.begin(loop, functools.partial(call, number + 1))

        starts.begin(loop, functools.partial(call, 0))
        assert begun == [0, 1]
        await asyncio.sleep(0)
        assert begun == [0, 1, 2, 3]
        while len(begun) < 6:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_call_that_fails_keeps_no_other_one_back() -> None:
    begun: list[int] = []

    async def run() -> None:
        loop, starts = asyncio.get_running_loop(), Starts(1)
        failed: list[str] = []
        loop.set_exception_handler(lambda _, context: failed.append(str(context["exception"])))

        def fail() -> None:
            raise RuntimeError("broken")

        starts.begin(loop, functools.partial(begun.append, 0))
        starts.begin(loop, fail)
        starts.begin(loop, functools.partial(begun.append, 1))
        while len(begun) < 2:
            await asyncio.sleep(0)
        assert failed == ["broken"]

    asyncio.run(asyncio.wait_for(run(), 10))
    assert begun == [0, 1]
