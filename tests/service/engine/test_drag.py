"""How much longer work takes than predicted, told from the times between batches."""

import pytest

from sfsc_service.engine.drag import MAX_FACTOR, Drag


def test_workers_that_keep_to_the_prediction_have_no_drag() -> None:
    drag = Drag()
    for n in range(10):
        drag.taken("a", 100.0, 0.1 * n)
    assert drag.factor == pytest.approx(1.0)


@pytest.mark.parametrize(("cost_ms", "factor"), [(25.0, 4.0), (200.0, 1.0), (1.0, MAX_FACTOR)])
def test_the_factor_is_the_time_between_batches_over_their_cost(cost_ms: float, factor: float) -> None:
    drag = Drag()
    for n in range(50):
        drag.taken("a", cost_ms, 0.1 * n)
    assert drag.factor == pytest.approx(factor)


def test_time_without_work_does_not_count() -> None:
    drag = Drag()
    drag.taken("a", 100.0, 0.0)
    drag.idle("a")
    drag.taken("a", 100.0, 60.0)
    drag.taken("a", 100.0, 60.1)
    assert drag.factor == pytest.approx(1.0)


def test_each_worker_has_times_of_its_own() -> None:
    drag = Drag()
    for n in range(20):
        drag.taken(n % 2, 100.0, 0.05 * n)
    assert drag.factor == pytest.approx(1.0)


def test_what_was_slow_is_soon_forgotten() -> None:
    drag = Drag()
    for n in range(20):
        drag.taken("a", 10.0, 0.1 * n)
    assert drag.factor == pytest.approx(10.0)
    for n in range(60):
        drag.taken("a", 100.0, 2.0 + 0.1 * n)
    assert drag.factor < 1.1
