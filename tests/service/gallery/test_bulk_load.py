"""When bulk calls are refused: by how quickly images have got through lately; time is the test's own."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from sfsc_bundle.errors import ImageError
from sfsc_service.errors import Problem
from sfsc_service.gallery.bulk_load import EXPECTED_S, LONGEST_PAUSE_S, BulkCall, BulkLoad, BulkWindow

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
    async def attempt(_: float) -> None:
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


@pytest.mark.parametrize(
    ("error", "predicted_s"),
    [
        (ImageError("image_damaged", "damaged"), 32 * 0.1),
        (Problem("deadline_unreachable", "too slow"), 32 * 0.1),
        (Problem("bulk_full", "no time"), 32 * 10 * (1 - math.exp(-0.32))),
    ],
)
def test_only_images_that_the_service_had_no_time_for_slow_the_others_down(
    load: BulkLoad, clock: Clock, error: Exception, predicted_s: float
) -> None:
    async def attempt(_: float) -> None:
        raise error

    with under_way(load, 64) as window:
        for _ in range(32):
            clock.now += 0.1
            with pytest.raises(type(error)):
                asyncio.run(window.through(attempt))
        assert load.predicted_s == pytest.approx(predicted_s, rel=0.1)


def test_calls_of_slow_clients_hold_up_no_others(load: BulkLoad, clock: Clock) -> None:
    for _ in range(20):
        with under_way(load, 64) as window:
            get_through(clock, window, per_s=50.0, images=64)
    with ExitStack() as calls:
        for _ in range(20):
            calls.enter_context(load.call()).admit(begun=True)
        assert load.predicted_s > 5
        assert refusal(load) is not None
        clock.now += EXPECTED_S
        assert (load.predicted_s, refusal(load)) == (0.0, None)


def test_a_bad_time_is_forgotten_while_nothing_is_under_way(load: BulkLoad, clock: Clock) -> None:
    with under_way(load, 64):
        clock.now += 60
        assert refusal(load) is not None
    clock.now += 60
    load.call().__enter__().admit()
    assert refusal(load) is None


def test_how_often_somebody_asks_changes_nothing(load: BulkLoad, clock: Clock) -> None:
    found = []
    for steps in (1, 100):
        with under_way(load, 64):
            for _ in range(steps):
                clock.now += 20 / steps
                predicted_s = load.predicted_s
        found.append(predicted_s)
        clock.now += 1000
    assert found[0] == pytest.approx(found[1])
