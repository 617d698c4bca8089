"""When bulk calls are refused: by how quickly images have got through lately; time is the test's own."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from sfsc_service.errors import Problem
from sfsc_service.gallery.bulk_load import LONGEST_PAUSE_S, BulkCall, BulkLoad, BulkWindow

LIMIT_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load(clock: Clock) -> BulkLoad:
    return BulkLoad(lambda _: LIMIT_S, clock)


@contextmanager
def under_way(load: BulkLoad, images: int) -> Iterator[BulkWindow]:
    """A window of a call of its own."""
    with load.call() as call:
        call.admit()
        with call.window(images) as window:
            yield window


def get_through(clock: Clock, window: BulkWindow, per_s: float, images: int) -> None:
    async def attempt() -> None:
        pass

    for _ in range(images):
        clock.now += 1 / per_s
        asyncio.run(window.through(attempt))


def refusal(load: BulkLoad) -> Problem | None:
    try:
        load.check()
    except Problem as problem:
        return problem
    return None


def test_an_idle_service_refuses_none(load: BulkLoad, clock: Clock) -> None:
    with ExitStack() as calls:
        for _ in range(100):
            calls.enter_context(under_way(load, 64))
    clock.now += 1000
    assert (load.predicted_s, refusal(load)) == (0.0, None)


def test_what_is_under_way_is_predicted_from_the_recent_past(load: BulkLoad, clock: Clock) -> None:
    with under_way(load, 64) as window:
        get_through(clock, window, per_s=20.0, images=40)
        assert load.predicted_s == pytest.approx(24 / 20, rel=0.1)
        assert refusal(load) is None
        with under_way(load, 64), under_way(load, 64):
            assert load.predicted_s == pytest.approx(152 / 20, rel=0.1)
            refused = refusal(load)
            assert refused is not None
            assert (refused.code, refused.status) == ("bulk_full", 429)
            assert refused.retry_after_s == pytest.approx(152 / 20, rel=0.1)
        assert refusal(load) is None


def test_calls_that_are_starved_let_no_further_ones_in_and_recovery_is_quick(load: BulkLoad, clock: Clock) -> None:
    with under_way(load, 64) as window:
        clock.now += 15
        refused = refusal(load)
        assert refused is not None
        assert refused.retry_after_s == LONGEST_PAUSE_S, "clients do not wait for minutes"
        get_through(clock, window, per_s=200.0, images=60)
        assert refusal(load) is None


def test_a_call_that_is_still_being_read_counts_as_much_as_usual(load: BulkLoad, clock: Clock) -> None:
    for _ in range(100):
        with under_way(load, 50) as window:
            get_through(clock, window, per_s=50.0, images=50)
    with ExitStack() as calls:
        for _ in range(6):
            calls.enter_context(load.call()).admit()
        assert load.predicted_s == pytest.approx(6, rel=0.1)
        assert refusal(load) is not None
        begun: BulkCall = calls.enter_context(load.call())
        begun.admit(begun=True)
    assert load.predicted_s == 0.0


def test_images_of_a_call_that_ends_early_count_no_more(load: BulkLoad, clock: Clock) -> None:
    with under_way(load, 64) as window:
        get_through(clock, window, per_s=1.0, images=4)
    assert load.predicted_s == 0.0
    get_through(clock, window, per_s=1.0, images=1)
    assert load.predicted_s == 0.0, "one that ended after its window"


def test_images_that_fail_are_no_progress(load: BulkLoad, clock: Clock) -> None:
    async def attempt() -> None:
        raise Problem("image_damaged", "damaged")

    with under_way(load, 64) as window:
        for _ in range(32):
            clock.now += 1.0
            with pytest.raises(Problem, match="damaged"):
                asyncio.run(window.through(attempt))
        assert load.predicted_s > 32 * 5
