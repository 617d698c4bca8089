"""Workers that hang or die: their batch is answered, they are replaced, nobody else notices."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sfsc_service.engine.batcher import BatchedResult, BatcherLimits, BatchRun
from sfsc_service.errors import Problem
from tests.service.numbers import START_TIMEOUT_S, Gate, batcher, submit


class Hanging:
    """A run that never comes back for some payloads, until it is let go."""

    def __init__(self, *poison: int) -> None:
        self._poison, self._go = set(poison), threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self, _key: str, payloads: list[int]) -> list[int | Exception]:
        if self._poison & set(payloads):
            self.threads.append(threading.current_thread())
            assert self._go.wait(START_TIMEOUT_S)
        return [2 * payload for payload in payloads]

    def let_go(self) -> None:
        self._go.set()


def soon(_key: str, _images: int) -> float:
    return 0.05


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
def quiet_deaths(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads may die of an exception; the test ends after them, so that no other test is blamed."""
    before = set(threading.enumerate())
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(START_TIMEOUT_S)


@pytest.mark.usefixtures("quiet_deaths")
def test_a_worker_that_dies_answers_its_batch_and_is_replaced() -> None:
    class PulledPlugError(BaseException):
        pass

    def run(_key: str, payloads: list[int]) -> list[int | Exception]:
        if payloads == [1]:
            raise PulledPlugError
        return [2 * payload for payload in payloads]

    seen: list[tuple[str, str]] = []

    async def scenario() -> int:
        with batcher(run, lost=lambda key, cause: seen.append((key, cause))) as made:
            with pytest.raises(Problem) as caught:
                await submit(made, 1)
            assert caught.value.code == "inference_failed"
            assert (made.worker_pool.died, made.worker_pool.working, made.worker_pool.alive) == (1, 1, True)
            return (await submit(made, 2)).result

    assert asyncio.run(scenario()) == 4
    assert seen == [("a", "died")]


@pytest.mark.usefixtures("quiet_deaths")
@pytest.mark.parametrize("cause", ["died", "hung"])
def test_a_lost_worker_is_told_before_its_batch_is_answered(cause: str) -> None:
    """Metrics read after the answer include the loss."""
    hanging = Hanging(1)

    def run(key: str, payloads: list[int]) -> list[int | Exception]:
        if cause == "died":
            raise SystemExit
        return hanging(key, payloads)

    answered: list[bool] = []
    futures: list[asyncio.Future[BatchedResult[str, int]]] = []

    def lost(_key: str, _cause: str) -> None:
        time.sleep(0.1)
        answered.append(futures[0].done())

    async def scenario() -> None:
        with batcher(run, hang_after=soon, lost=lost) as made:
            futures.append(submit(made, 1))
            with pytest.raises(Problem):
                await futures[0]
            hanging.let_go()

    asyncio.run(scenario())
    assert answered == [False]


def test_a_hanging_batch_is_answered_its_worker_replaced_and_its_late_result_thrown_away() -> None:
    hanging = Hanging(1)
    seen: list[BatchRun[str]] = []
    lost: list[tuple[str, str]] = []

    async def scenario() -> None:
        with batcher(hanging, hang_after=soon, observe=seen.append, lost=lambda *told: lost.append(told)) as made:
            with pytest.raises(Problem) as caught:
                await submit(made, 1)
            assert caught.value.code == "inference_hung"
            assert (made.worker_pool.hanging, made.worker_pool.working, made.worker_pool.alive) == (1, 1, True)
            assert (await submit(made, 2)).result == 4
            hanging.let_go()
            await until(lambda: made.worker_pool.hanging == 0)
            hanging.threads[0].join(START_TIMEOUT_S)
            assert not hanging.threads[0].is_alive()
            assert (await submit(made, 3)).result == 6

    asyncio.run(scenario())
    assert [batch.size for batch in seen] == [1, 1]
    assert lost == [("a", "hung")]


def test_what_waits_behind_a_hanging_batch_is_computed_by_its_replacement() -> None:
    hanging = Hanging(0)

    async def scenario() -> list[int]:
        with batcher(hanging, hang_after=soon) as made:
            first = submit(made, 0)
            await until(lambda: bool(hanging.threads))
            rest = [submit(made, n) for n in range(1, 9)]
            with pytest.raises(Problem):
                await first
            answers = await asyncio.gather(*rest)
            hanging.let_go()
            return [answer.result for answer in answers]

    assert asyncio.run(scenario()) == [2 * n for n in range(1, 9)]


def test_a_half_that_hangs_takes_nobody_with_it_who_was_answered() -> None:
    """A batch fails and is halved; the second half hangs; the first keeps its results."""
    hanging = Hanging(3)

    def run(key: str, payloads: list[int]) -> list[int | Exception]:
        if len(payloads) == 4:
            raise ValueError("too many")
        return hanging(key, payloads)

    async def scenario() -> list[object]:
        gate = Gate(run)
        with batcher(gate, hang_after=lambda _key, images: 0.1 if images < 4 else START_TIMEOUT_S) as made:
            blocker = submit(made, 9)
            await gate.busy()
            waiting = [submit(made, n) for n in range(4)]
            gate.open()
            await asyncio.gather(blocker, return_exceptions=True)
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            hanging.let_go()
            return list(answers)

    answers = asyncio.run(scenario())
    assert [answer.result for answer in answers[:2] if isinstance(answer, BatchedResult)] == [0, 2]
    assert [answer.code for answer in answers[2:] if isinstance(answer, Problem)] == ["inference_hung"] * 2


def test_workers_that_hang_are_replaced_a_bounded_number_of_times() -> None:
    hanging = Hanging(1)
    before = threading.active_count()

    async def scenario() -> None:
        with batcher(hanging, limits=BatcherLimits(1, 1e9, spare=2), hang_after=soon) as made:
            for lost in range(1, 4):
                with pytest.raises(Problem):
                    await submit(made, 1)
                assert (made.worker_pool.hanging, made.worker_pool.alive) == (lost, lost < 2)
            assert made.worker_pool.working == 0
            assert threading.active_count() <= before + 1 + 3
            with pytest.raises(Problem) as caught:
                submit(made, 2)
            assert caught.value.code == "no_worker"
            hanging.let_go()
            await until(lambda: (made.worker_pool.working, made.worker_pool.hanging) == (1, 0))
            assert made.worker_pool.alive
            assert (await submit(made, 2)).result == 4

    asyncio.run(scenario())


@pytest.mark.usefixtures("quiet_deaths")
@pytest.mark.parametrize(("spare", "alive", "working"), [(3, True, 1), (2, False, 1), (1, False, 0)])
def test_workers_that_hang_and_workers_that_died_count_together(spare: int, alive: bool, working: int) -> None:
    hanging = Hanging(1)

    def run(key: str, payloads: list[int]) -> list[int | Exception]:
        if payloads == [0]:
            raise SystemExit
        return hanging(key, payloads)

    async def scenario() -> None:
        with batcher(run, limits=BatcherLimits(1, 1e9, spare=spare), hang_after=soon) as made:
            for payload, code in ((1, "inference_hung"), (0, "inference_failed")):
                with pytest.raises(Problem) as caught:
                    await submit(made, payload)
                assert caught.value.code == code
            pool = made.worker_pool
            assert (pool.hanging, pool.died, pool.alive, pool.working) == (1, 1, alive, working)
            hanging.let_go()

    asyncio.run(scenario())


def test_when_the_last_worker_is_lost_nobody_is_left_waiting() -> None:
    hanging = Hanging(1)

    async def scenario() -> None:
        with batcher(hanging, limits=BatcherLimits(1, 1e9, spare=0), hang_after=soon) as made:
            first = submit(made, 1)
            await until(lambda: bool(hanging.threads))
            second = submit(made, 2)
            answers = await asyncio.gather(first, second, return_exceptions=True)
            assert [getattr(answer, "code", None) for answer in answers] == ["inference_hung", "no_worker"]
            hanging.let_go()

    asyncio.run(scenario())
