"""A batcher of numbers, with a run of the test's own."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sfsc_service.engine.batcher import BatchedResult, Batcher, BatcherLimits

Run = Callable[[str, list[int]], Sequence[int | Exception]]
Numbers = Batcher[str, str, int, int]

START_TIMEOUT_S = 20.0


def first_key(works: Sequence[str], _now: float, _idle: int) -> tuple[str, list[int]]:
    """All that want what the most urgent one wants."""
    return works[0], [at for at, work in enumerate(works) if work == works[0]]


def double(_key: str, payloads: list[int]) -> list[int | Exception]:
    return [2 * payload for payload in payloads]


@contextmanager
def batcher(run: Run = double, workers: int = 1, queue_ms: float = 1e9, **options: object) -> Iterator[Numbers]:
    made: Numbers = Batcher(
        options.pop("plan", first_key),
        run,
        options.pop("limits", BatcherLimits(workers, queue_ms)),
        **options,  # type: ignore[arg-type]
    )
    try:
        yield made
    finally:
        made.close(START_TIMEOUT_S)


def submit(
    to: Numbers, payload: int, key: str = "a", **options: float
) -> "asyncio.Future[BatchedResult[str, int]]":
    due = options.pop("due", 0.0)
    weight = options.pop("cost_ms", 1.0)
    return to.submit(payload, key, due=due, cost_ms=weight, **options)


class Gate:
    """A run that waits until it is let through, so that a queue can build up behind it."""

    def __init__(self, run: Run = double) -> None:
        self._run, self._open = run, threading.Event()
        self.entered = threading.Event()
        self.batches: list[tuple[str, list[int]]] = []

    def __call__(self, key: str, payloads: list[int]) -> Sequence[int | Exception]:
        self.batches.append((key, payloads))
        self.entered.set()
        assert self._open.wait(START_TIMEOUT_S)
        return self._run(key, payloads)

    def open(self) -> None:
        self._open.set()

    async def busy(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, START_TIMEOUT_S)
