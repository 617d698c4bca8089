"""The cost table to the digit: corrections, their bounds, interpolation, and the time that a measurement takes."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from sfsc_service.engine.costs import BUCKETS, CostTable, Measured, Milliseconds, measure


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def exact(ms: float) -> Measured:
    return Measured(ms, ms)


def table(known: dict[int, float], largest: int = 8) -> CostTable:
    made = CostTable(["0.5", "1.0"], largest)
    made.load({"0.5": {size: exact(ms) for size, ms in known.items()}})
    return made


def test_batches_are_measured_from_one_image_up_at_every_power_of_two() -> None:
    assert list(BUCKETS) == [2**n for n in range(7)]


@pytest.mark.parametrize("ms", [0.5, 1.0, 999_999_999_999.5])
def test_a_cost_from_a_file_is_positive_and_below_10_to_the_12(ms: float) -> None:
    assert TypeAdapter(Milliseconds).validate_python(ms) == ms


@pytest.mark.parametrize("ms", [0.0, -0.5, 1e12, math.inf, -math.inf, math.nan])
def test_any_other_cost_is_refused(ms: float) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Milliseconds).validate_python(ms)


def test_a_new_table_knows_nothing() -> None:
    made = CostTable(["0.5", "1.0"], 8)
    assert (made.slowdown, made.error) == (1.0, 0.0)
    assert made.table() == {"0.5": {}, "1.0": {}}
    assert [made.estimate("1.0", images) for images in (0, 1, 8, 9)] == [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("known", "images", "ms"),
    [
        ({2: 6.0, 4: 10.0}, 0, 0.0),
        ({2: 6.0, 4: 10.0}, 1, 3.0),
        ({2: 6.0, 4: 10.0}, 2, 6.0),
        ({2: 6.0, 4: 10.0}, 3, 8.0),
        ({2: 6.0, 4: 10.0}, 4, 10.0),
        ({2: 6.0, 4: 10.0}, 6, 15.0),
        ({2: 6.0, 4: 10.0}, 8, 20.0),
        ({2: 6.0, 4: 10.0}, 9, 22.5),
        ({2: 6.0, 4: 10.0}, 16, 40.0),
        ({4: 10.0, 8: 14.0}, 8, 14.0),
        ({4: 10.0, 8: 14.0}, 16, 28.0),
        ({1: 5.0}, 7, 35.0),
        ({3: 5.0}, 8, 40 / 3),
        ({4: 8.0, 16: 96.0}, 8, 112 / 3),
        ({4: 8.0, 16: 96.0}, 4, 8.0),
    ],
)
def test_estimates_are_linear_between_sizes_and_proportional_beyond_them(
    known: dict[int, float], images: int, ms: float
) -> None:
    assert table(known).estimate("0.5", images) == pytest.approx(ms, rel=1e-12)


@pytest.mark.parametrize("largest", [7, 8])
def test_a_table_is_looked_up_as_far_as_it_says_and_slows_down_beyond_it_too(largest: int) -> None:
    made = table({4: 8.0, largest: 3.0 * largest}, largest)
    assert made.estimate("0.5", largest + 1) == pytest.approx(3.0 * (largest + 1))
    made.slowdown = 2.0
    assert made.estimate("0.5", largest) == pytest.approx(6.0 * largest)
    assert made.estimate("0.5", largest + 1) == pytest.approx(6.0 * (largest + 1))


def test_what_was_measured_beyond_the_table_only_shapes_it() -> None:
    made = table({4: 8.0, 8: 30.0}, largest=7)
    assert [made.estimate("0.5", images) for images in (7, 8)] == [24.5, 28.0]


def test_the_usual_table_is_looked_up_to_64_images() -> None:
    made = CostTable(["0.5"])
    made.load({"0.5": {32: exact(32.0), 64: exact(100.0), 128: exact(1000.0)}})
    assert [made.estimate("0.5", images) for images in (48, 64, 128)] == [66.0, 100.0, 200.0]


def test_one_batch_corrects_the_machine_the_size_and_the_error() -> None:
    made = table({1: 2.0, 4: 8.0})
    assert made.observe("0.5", 4, 12.0) == 1.5
    assert made.slowdown == pytest.approx(1.05, rel=1e-12)
    assert made.error == pytest.approx(0.05, rel=1e-12)
    assert made.table()["0.5"] == {1: exact(2.0), 4: Measured(pytest.approx(8.08), pytest.approx(8.08))}
    assert made.estimate("0.5", 4) == pytest.approx(8.08 * 1.05, rel=1e-12)
    assert made.cautious("0.5", 4) == pytest.approx(8.08 * 1.05 * 1.05, rel=1e-12)


def test_the_error_is_how_far_predictions_are_off_either_way() -> None:
    made = table({1: 2.0})
    assert made.observe("0.5", 1, 1.0) == 0.5
    assert made.error == pytest.approx(0.05, rel=1e-12)
    assert made.slowdown == pytest.approx(0.95, rel=1e-12)


@pytest.mark.parametrize(("ms", "ratio"), [(1e6, 4.0), (1e-6, 0.25), (8.0, 4.0), (0.5, 0.25)])
def test_no_batch_counts_for_more_than_four_times_or_a_quarter_of_its_prediction(ms: float, ratio: float) -> None:
    made = table({1: 2.0})
    assert made.observe("0.5", 1, ms) == ms / 2.0
    assert made.slowdown == pytest.approx(1 + 0.1 * (ratio - 1), rel=1e-12)
    assert made.error == pytest.approx(0.1 * abs(ratio - 1), rel=1e-12)
    assert made.table()["0.5"][1].median_ms == pytest.approx(2.0 * (1 + 0.02 * (ratio - 1)), rel=1e-12)


@pytest.mark.parametrize(("factor", "bound"), [(100.0, 16.0), (0.01, 1 / 16)])
def test_the_slowdown_is_bounded_both_ways(factor: float, bound: float) -> None:
    made = table({1: 2.0})
    for _ in range(100):
        made.observe("0.5", 1, made.estimate("0.5", 1) * factor)
    assert made.slowdown == bound


@pytest.mark.parametrize(
    ("images", "changed"), [(1, {1}), (2, {1, 4}), (4, {4}), (5, {4, 8}), (8, {8}), (20, {8})]
)
def test_a_batch_corrects_the_nearest_measured_sizes_only(images: int, changed: set[int]) -> None:
    made = table({1: 2.0, 4: 8.0, 8: 16.0})
    made.observe("0.5", images, 4.0 * images)
    found = made.table()["0.5"]
    assert {size for size in found if found[size].median_ms != 2.0 * size} == changed
    assert all(found[size].median_ms == pytest.approx(2.0 * size * 1.02) for size in changed)


def test_a_batch_of_a_width_without_any_cost_becomes_its_first_one() -> None:
    made = table({1: 2.0})
    assert made.observe("1.0", 2, 6.0) == 1.0
    assert made.table()["1.0"] == {2: exact(6.0)}
    assert (made.slowdown, made.error) == (1.0, 0.0)


def test_measuring_again_moves_the_other_sizes_in_proportion_and_forgets_the_slowdown() -> None:
    made = table({1: 2.0, 4: 8.0})
    made.observe("0.5", 1, 8.0)
    made.load({"0.5": {1: Measured(2.0, 2.0), 4: Measured(8.0, 12.0)}})
    made.set_measured("0.5", 1, Measured(3.0, 3.5))
    assert made.slowdown == 1.0
    assert made.table()["0.5"] == {1: Measured(3.0, 3.5), 4: Measured(12.0, 18.0)}


def test_a_size_measured_for_the_first_time_leaves_the_others_alone() -> None:
    made = table({4: 8.0})
    made.set_measured("0.5", 1, Measured(3.0, 3.0))
    assert made.table()["0.5"] == {1: exact(3.0), 4: exact(8.0)}


@pytest.mark.parametrize(
    ("p95s", "error"),
    [
        ([2.0], 0.0),
        ([2.5], 0.25),
        ([3.0], 0.5),
        ([4.5], 0.5),
        ([9.0], 0.5),
        ([2.2, 2.6, 9.0], 0.3),
        ([], 0.0),
    ],
)
def test_the_first_error_is_the_usual_distance_of_a_p95_from_its_median_but_at_most_a_half(
    p95s: list[float], error: float
) -> None:
    made = CostTable(["0.5"])
    made.load({"0.5": {size: Measured(2.0, p95) for size, p95 in enumerate(p95s, 1)}})
    assert made.error == pytest.approx(error)


def test_the_error_is_raised_by_what_is_loaded_and_never_lowered() -> None:
    made = CostTable(["0.5", "1.0"])
    made.load({"0.5": {1: Measured(2.0, 2.8)}, "1.0": {1: Measured(2.0, 2.2)}})
    assert made.error == pytest.approx(0.4)
    made.set_measured("0.5", 1, Measured(2.0, 3.0))
    assert made.error == pytest.approx(0.4), "the width was known"


def test_a_width_is_stale_only_after_the_time_and_the_one_seen_longest_ago_first() -> None:
    clock = Clock()
    made = CostTable(["0.5", "1.0"], clock=clock)
    made.load({"0.5": {1: exact(1.0)}})
    assert made.stale(math.inf) is None
    assert made.stale(1e9) == "1.0"
    clock.now += 1.0
    made.set_measured("1.0", 1, exact(1.0))
    clock.now += 9.0
    assert made.stale(10.0) is None
    assert made.stale(9.9) == "0.5"
    made.observe("0.5", 1, 1.0)
    assert made.stale(8.9) == "1.0"
    assert made.stale(9.0) is None


@pytest.mark.parametrize(
    ("run_s", "budget_s", "runs", "calls"),
    [(1.0, 1e9, 3, 4), (1.0, 2.0, 5, 3), (1.0, 2.5, 5, 4), (9.0, 0.0, 5, 2)],
)
def test_a_measurement_ends_after_its_runs_or_its_time(
    run_s: float, budget_s: float, runs: int, calls: int
) -> None:
    clock, seen = Clock(), []

    def run() -> None:
        seen.append(clock.now)
        clock.now += run_s

    assert measure(run, clock, budget_s, runs) == exact(1000 * run_s)
    assert len(seen) == calls


@pytest.mark.parametrize(
    ("takes", "median", "p95"), [([2.0], 2.0, 2.0), ([1.0, 3.0], 2.0, 2.9), ([3.0, 1.0], 2.0, 2.9)]
)
def test_a_measurement_of_few_runs(takes: list[float], median: float, p95: float) -> None:
    clock, left = Clock(), iter([99.0, *takes])

    def run() -> None:
        clock.now += next(left)

    found = measure(run, clock, 1e9, len(takes))
    assert (found.median_ms, found.p95_ms) == (pytest.approx(1000 * median), pytest.approx(1000 * p95))


def test_a_measurement_is_five_runs_and_gives_their_median_and_p95() -> None:
    clock, takes = Clock(), iter([99.0, 5.0, 1.0, 4.0, 2.0, 3.0, 77.0])

    def run() -> None:
        clock.now += next(takes)

    assert measure(run, clock, budget_s=1e9) == Measured(3000.0, pytest.approx(4800.0))
    assert next(takes) == 77.0
