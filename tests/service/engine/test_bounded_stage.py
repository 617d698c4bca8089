"""A stage refuses what would wait too long, and drops what has waited too long all the same."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from sfsc_service.engine.bounded_stage import BoundedStage
from sfsc_service.errors import Problem

START_TIMEOUT_S = 30.0


class Held:
    """A call that waits to be let go."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Semaphore(0)

    def __call__(self) -> str:
        self.begun.release()
        assert self.go.wait(START_TIMEOUT_S)
        return "done"


@pytest.fixture
def held() -> Iterator[Held]:
    call = Held()
    yield call
    call.go.set()


async def occupied(stage: BoundedStage, held: Held) -> "asyncio.Task[str]":
    task = asyncio.create_task(stage.run(0.0, None, held))
    assert await asyncio.to_thread(held.begun.acquire, timeout=START_TIMEOUT_S)
    return task


def test_a_call_gets_its_arguments_and_gives_its_result() -> None:
    async def main() -> None:
        stage = BoundedStage("test", 1, 1000.0)
        assert await stage.run(0.0, None, max, 2, 3) == 3
        assert stage.backlog_ms == 0.0
        with pytest.raises(ZeroDivisionError):
            await stage.run(0.0, None, lambda: 1 // 0)
        stage.close()

    asyncio.run(main())


def test_the_queue_is_bounded_by_what_calls_took_before(held: Held) -> None:
    async def main() -> None:
        stage = BoundedStage("test", 1, 400.0)
        for _ in range(50):
            await stage.run(0.0, None, time.sleep, 0.02)
        assert stage.predicted_ms(0.0) > 5.0
        busy = await occupied(stage, held)
        waiting = []
        while stage.backlog_ms <= 400.0:
            waiting.append(asyncio.create_task(stage.run(0.0, None, int)))
            await asyncio.sleep(0)
        with pytest.raises(Problem, match="waiting work") as refused:
            await stage.run(0.0, None, int)
        assert refused.value.code == "queue_full"
        assert refused.value.retry_after_s is not None
        held.go.set()
        assert await busy == "done"
        assert await asyncio.gather(*waiting) == [0] * len(waiting)
        stage.close()

    asyncio.run(main())


@pytest.mark.parametrize(("deadline_s", "code"), [(None, "queue_timeout"), (0.05, "deadline_passed")])
def test_what_waits_for_too_long_is_dropped_before_it_begins(
    held: Held, deadline_s: float | None, code: str
) -> None:
    async def main() -> None:
        stage = BoundedStage("test", 1, 300.0)
        busy = await occupied(stage, held)
        called = []
        deadline = None if deadline_s is None else time.monotonic() + deadline_s
        with pytest.raises(Problem) as late:
            await stage.run(0.0, deadline, called.append, 1)
        assert late.value.code == code
        held.go.set()
        assert await busy == "done"
        assert not called
        assert stage.backlog_ms == 0.0
        stage.close()

    asyncio.run(main())


def test_what_has_begun_is_finished_however_long_it_takes() -> None:
    async def main() -> None:
        stage = BoundedStage("test", 1, 50.0)
        assert await stage.run(0.0, time.monotonic() + 0.01, lambda: time.sleep(0.2) or "done") == "done"
        stage.close()

    asyncio.run(main())


def test_a_caller_that_leaves_takes_its_call_along(held: Held) -> None:
    async def main() -> None:
        stage = BoundedStage("test", 1, 1000.0)
        busy = await occupied(stage, held)
        called: list[int] = []
        waits = asyncio.create_task(stage.run(0.0, None, called.append, 1))
        await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        held.go.set()
        await busy
        assert not called
        stage.close()

    asyncio.run(main())
