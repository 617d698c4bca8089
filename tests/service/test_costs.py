"""The cost table: what is measured stays, what is not is derived, what batches take corrects it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_service.costs import CLAMP, CostTable, measure


def table(**measured: float) -> CostTable:
    made = CostTable(["0.5"])
    for size, ms in measured.items():
        made.measured("0.5", int(size[1:]), ms)
    return made


@pytest.mark.parametrize(
    ("images", "ms"), [(1, 2.0), (2, 3.0), (4, 6.0), (3, 4.5), (8, 12.0), (6, 9.0), (16, 24.0)]
)
def test_between_sizes_it_interpolates_and_beyond_it_goes_on_per_image(images: int, ms: float) -> None:
    assert table(n1=2.0, n2=3.0, n4=6.0).estimate("0.5", images) == pytest.approx(ms)


def test_one_size_is_enough() -> None:
    assert table(n1=2.0).estimate("0.5", 8) == 16.0
    assert table(n4=8.0).estimate("0.5", 2) == 4.0


def test_nothing_known_costs_nothing_known() -> None:
    made = CostTable(["0.5"])
    assert made.estimate("0.5", 3) == 0.0
    made.observe("0.5", 2, 6.0)
    assert made.estimate("0.5", 2) == 6.0


@given(
    true_ms=st.floats(0.1, 50),
    start_ms=st.floats(0.1, 50),
    sizes=st.lists(st.integers(1, 16), min_size=1, max_size=5),
)
def test_it_comes_to_what_batches_really_take(true_ms: float, start_ms: float, sizes: list[int]) -> None:
    made = table(n1=start_ms, n8=8 * start_ms)
    for _ in range(400):
        for images in sizes:
            made.observe("0.5", images, true_ms * images)
    for images in sizes:
        assert made.estimate("0.5", images) == pytest.approx(true_ms * images, rel=0.05)


def test_one_outlier_moves_it_by_no_more_than_the_clamp_allows() -> None:
    made = table(n1=1.0)
    made.observe("0.5", 1, 10_000.0)
    assert made.estimate("0.5", 1) == pytest.approx(1 + 0.1 * (CLAMP - 1))


def test_measuring_leaves_the_first_run_out_and_takes_the_median() -> None:
    now, takes = [0.0], iter([99.0, 3.0, 1.0, 2.0, 50.0, 2.5])

    def run() -> None:
        now[0] += next(takes)

    assert measure(run, lambda: now[0], budget_s=1e9) == 2500.0


def test_measuring_stops_when_its_time_is_up() -> None:
    now, runs = [0.0], [0]

    def run() -> None:
        now[0] += 10.0
        runs[0] += 1

    assert measure(run, lambda: now[0], budget_s=0.1) == 10_000.0
    assert runs == [2]
