"""The cost table: what is measured stays, what is not is derived, what batches take corrects it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfsc_service.engine.costs import MAX_RATIO, SIZE_SMOOTHING, SLOWDOWN_SMOOTHING, CostTable, Measured, measure


def table(**measured: float) -> CostTable:
    made = CostTable(["0.5"])
    for size, ms in measured.items():
        made.set_measured("0.5", int(size[1:]), Measured(ms, ms))
    return made


@pytest.mark.parametrize(
    ("images", "ms"),
    [
        (1, 2.0),
        (2, 3.0),
        (4, 6.0),
        (3, 4.5),
        (8, 12.0),
        (6, 9.0),
        (16, 24.0),
        (64, 96.0),
        (65, 97.5),
        (640, 960.0),
    ],
)
def test_between_sizes_it_interpolates_and_beyond_it_goes_on_per_image(images: int, ms: float) -> None:
    assert table(n1=2.0, n2=3.0, n4=6.0).estimate("0.5", images) == pytest.approx(ms)


def test_one_size_is_enough() -> None:
    assert table(n1=2.0).estimate("0.5", 8) == 16.0
    assert table(n4=8.0).estimate("0.5", 2) == 4.0


def test_nothing_known_costs_nothing_known() -> None:
    made = CostTable(["0.5"])
    assert made.estimate("0.5", 3) == 0.0
    assert made.observe("0.5", 2, 6.0) == 1.0
    assert made.estimate("0.5", 2) == 6.0


@settings(deadline=None)
@given(
    true_ms=st.floats(0.5, 10),
    start_ms=st.floats(0.5, 10),
    sizes=st.lists(st.integers(1, 16), min_size=1, max_size=5),
)
def test_it_comes_to_what_batches_really_take(true_ms: float, start_ms: float, sizes: list[int]) -> None:
    made = table(n1=start_ms, n8=8 * start_ms)
    for _ in range(400):
        for images in sizes:
            made.observe("0.5", images, true_ms * images)
    for images in sizes:
        assert made.estimate("0.5", images) == pytest.approx(true_ms * images, rel=0.05)


def test_a_busy_machine_slows_every_width_down_at_once() -> None:
    made = CostTable(["0.5", "1.0"])
    for width, ms in (("0.5", 2.0), ("1.0", 8.0)):
        made.set_measured(width, 1, Measured(ms, ms))
    for _ in range(40):
        made.observe("0.5", 1, 3.0)
    assert made.estimate("0.5", 1) == pytest.approx(3.0, rel=0.02)
    assert 9.6 < made.estimate("1.0", 1) <= 12.0, "most of it is the machine's doing"
    assert made.table()["1.0"][1].median_ms == 8.0, "and none of it the other width's own"


def test_a_cautious_estimate_grows_with_the_error_and_comes_back() -> None:
    made = table(n1=2.0)
    assert made.cautious("0.5", 1) == made.estimate("0.5", 1)
    for n in range(40):
        made.observe("0.5", 1, 1.0 if n % 2 else 3.0)
    assert made.cautious("0.5", 1) > 1.3 * made.estimate("0.5", 1)
    for _ in range(100):
        made.observe("0.5", 1, 2.0)
    assert made.cautious("0.5", 1) == pytest.approx(made.estimate("0.5", 1), rel=0.02)


def test_a_wide_p95_makes_the_first_estimates_cautious() -> None:
    made = CostTable(["0.5"])
    made.set_measured("0.5", 1, Measured(2.0, 3.0))
    assert made.cautious("0.5", 1) == pytest.approx(3.0)


def test_one_outlier_moves_it_by_no_more_than_the_clamp_allows() -> None:
    made = table(n1=1.0)
    assert made.observe("0.5", 1, 10_000.0) == 10_000.0
    most = (1 + SLOWDOWN_SMOOTHING * (MAX_RATIO - 1)) * (1 + SIZE_SMOOTHING * (MAX_RATIO - 1))
    assert made.estimate("0.5", 1) == pytest.approx(most)


def test_measuring_one_size_again_moves_the_others_in_proportion() -> None:
    made = table(n1=2.0, n8=12.0)
    made.set_measured("0.5", 1, Measured(3.0, 3.0))
    assert (made.estimate("0.5", 1), made.estimate("0.5", 8)) == (3.0, 18.0)


def test_what_was_measured_earlier_is_taken_over() -> None:
    made = CostTable(["0.5"])
    made.load({"0.5": {1: Measured(2.0, 2.5), 4: Measured(6.0, 7.0)}})
    assert made.estimate("0.5", 2) == pytest.approx(2 + 4 / 3)
    assert made.table() == {"0.5": {1: Measured(2.0, 2.5), 4: Measured(6.0, 7.0)}}
    assert made.stale(10.0) is None


def test_a_width_that_has_not_been_seen_becomes_stale() -> None:
    now = [0.0]
    made = CostTable(["0.5", "1.0"], clock=lambda: now[0])
    assert made.stale(10.0) == "0.5"
    made.set_measured("0.5", 1, Measured(1.0, 1.0))
    assert made.stale(10.0) == "1.0"
    made.set_measured("1.0", 1, Measured(1.0, 1.0))
    assert made.stale(10.0) is None
    now[0] = 11.0
    made.observe("1.0", 1, 1.0)
    assert made.stale(10.0) == "0.5"


def test_measuring_leaves_the_first_run_out_and_takes_median_and_p95() -> None:
    now, takes = [0.0], iter([99.0, 3.0, 1.0, 2.0, 50.0, 2.5])

    def run() -> None:
        now[0] += next(takes)

    found = measure(run, lambda: now[0], budget_s=1e9)
    assert found.median_ms == 2500.0
    assert 3000.0 < found.p95_ms <= 50_000.0


def test_measuring_stops_when_its_time_is_up() -> None:
    now, runs = [0.0], [0]

    def run() -> None:
        now[0] += 10.0
        runs[0] += 1

    assert measure(run, lambda: now[0], budget_s=0.1) == Measured(10_000.0, 10_000.0)
    assert runs == [2]
