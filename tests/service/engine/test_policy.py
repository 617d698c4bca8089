"""Budget → widths, by the rules at the top of sfsc_service/policy.py."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_service.engine.policy import (
    Budget,
    WidthCatalog,
    check_deadline_not_passed,
    check_deadline_reachable,
    choose_widths,
    evenness,
    expected_quality,
    ideal_width,
)
from sfsc_service.errors import Problem

WIDTHS = ("0.25", "0.5", "0.75", "1.0")
MS = {"0.25": 1.0, "0.5": 4.0, "0.75": 9.0, "1.0": 16.0}
CATALOG = WidthCatalog(
    widths=WIDTHS,
    gflops={"0.25": 0.1, "0.5": 0.4, "0.75": 0.9, "1.0": 1.6},
    mean_ap={
        "0.25": {"0.25": 40.0, "0.5": 42.0, "0.75": 44.0, "1.0": 46.0},
        "0.5": {"0.25": 42.0, "0.5": 50.0, "0.75": 52.0, "1.0": 54.0},
        "0.75": {"0.25": 44.0, "0.5": 52.0, "0.75": 60.0, "1.0": 62.0},
        "1.0": {"0.25": 46.0, "0.5": 54.0, "0.75": 62.0, "1.0": 70.0},
    },
    mixed_gap={"0.25": -1.0, "0.5": -2.0, "0.75": -3.0, "1.0": -4.0},
    floor="0.25",
)
FLOORED = replace(CATALOG, floor="0.5")
SLO_MS = 100.0


def cost(width: str, images: int) -> float:
    return MS[width] * images


def pick(budget: Budget, catalog: WidthCatalog = CATALOG, mix: dict[str, int] | None = None) -> tuple[str, bool]:
    """The width that an idle server takes, and whether limits that do not depend on time are kept."""
    choice = choose_widths(budget, catalog, cost, SLO_MS, mix)
    return ideal_width(choice, cost), choice.met


@pytest.mark.parametrize(
    ("budget", "width", "met"),
    [
        (Budget(), "1.0", True),
        (Budget(width="0.5"), "0.5", True),
        (Budget(latency_ms=20), "1.0", True),
        (Budget(latency_ms=15), "0.75", True),
        (Budget(latency_ms=0.5), "0.25", True),
        (Budget(gflops=5), "1.0", True),
        (Budget(gflops=0.9), "0.75", True),
        (Budget(gflops=0.01), "0.25", False),
        (Budget(gflops=0.5, latency_ms=20), "0.5", True),
        (Budget(gflops=2, latency_ms=5), "0.5", True),
        (Budget(deadline_ms=10), "0.75", True),
        (Budget(deadline_ms=10, latency_ms=5), "0.5", True),
        (Budget(min_quality=10), "0.25", True),
        (Budget(min_quality=54), "0.5", True),
        (Budget(min_quality=54.1), "0.75", True),
        (Budget(min_quality=99), "1.0", False),
        (Budget(min_quality=54, gflops=1), "0.5", True),
        (Budget(min_quality=60, latency_ms=1), "0.75", True),
    ],
)
def test_on_an_idle_server(budget: Budget, width: str, met: bool) -> None:
    assert pick(budget) == (width, met)


@pytest.mark.parametrize(
    ("budget", "kind", "parameter"),
    [
        (Budget(width="0.3"), "unknown_width", "width"),
        (Budget(width="0.5", latency_ms=5), "contradictory_limits", "width"),
        (Budget(width="0.5", gflops=5), "contradictory_limits", "width"),
        (Budget(width="0.5", min_quality=5), "contradictory_limits", "width"),
        (Budget(min_quality=60, gflops=0.5), "contradictory_limits", "min_quality"),
        (Budget(min_quality=99, gflops=5), "contradictory_limits", "min_quality"),
        (Budget(min_quality=10, gflops=0.01), "contradictory_limits", "min_quality"),
    ],
)
def test_refusals_name_the_parameter(budget: Budget, kind: str, parameter: str) -> None:
    with pytest.raises(Problem) as caught:
        choose_widths(budget, CATALOG, cost, SLO_MS)
    assert (caught.value.code, caught.value.parameter) == (kind, parameter)
    assert parameter in caught.value.detail


def test_an_unknown_width_lists_the_widths() -> None:
    with pytest.raises(Problem, match=r"must be one of 0\.25, 0\.5, 0\.75, 1\.0, found 0\.3"):
        choose_widths(Budget(width="0.3"), CATALOG, cost, SLO_MS)


@pytest.mark.parametrize(
    ("shares", "widths", "expected"),
    [
        ([1.0], 4, 0.0),
        ([1.0, 0.0, 0.0], 4, 0.0),
        ([0.25] * 4, 4, 1.0),
        ([0.5, 0.5], 2, 1.0),
        ([0.5, 0.5], 4, 2 / 3),
        ([0.75, 0.25], 4, 0.5),
        ([0.75, 0.25], 2, 0.75),
        ([1.0], 1, 0.0),
    ],
)
def test_evenness(shares: list[float], widths: int, expected: float) -> None:
    assert evenness(shares, widths) == pytest.approx(expected, abs=1e-12)


@given(counts=st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any))
def test_evenness_is_a_share(counts: list[int]) -> None:
    shares = [count / sum(counts) for count in counts]
    assert -1e-12 <= evenness(shares, len(shares)) <= 1 + 1e-12


def test_quality_is_predicted_for_the_gallery_as_it_is() -> None:
    mix = {"0.25": 3, "1.0": 1}
    assert expected_quality(CATALOG, "1.0", mix) == pytest.approx((3 * 46 + 70) / 4 - 4 * 0.5)
    assert pick(Budget(min_quality=54)) == ("0.5", True)
    assert pick(Budget(min_quality=50), mix=mix) == ("1.0", True)
    assert pick(Budget(min_quality=50.1), mix=mix) == ("1.0", False)


@pytest.mark.parametrize("width", WIDTHS)
def test_galleries_that_were_measured_are_predicted_as_they_were_measured(width: str) -> None:
    """Of one width: the matrix. Of all widths in equal parts: the mixed gallery."""
    row = CATALOG.mean_ap[width]
    for other in WIDTHS:
        assert expected_quality(CATALOG, width, {other: 7}) == row[other]
    mixed = sum(row.values()) / len(row) + CATALOG.mixed_gap[width]
    assert expected_quality(CATALOG, width, dict.fromkeys(WIDTHS, 7)) == pytest.approx(mixed)


def test_items_of_widths_that_the_matrix_does_not_have_do_not_count() -> None:
    assert expected_quality(CATALOG, "0.5", {"0.33": 100}) == CATALOG.mean_ap["0.5"]["1.0"]
    assert expected_quality(CATALOG, "0.5", {"0.33": 100, "0.5": 1}) == 50.0
    both = {"0.5": 1, "1.0": 1}
    assert expected_quality(CATALOG, "0.5", both | {"0.33": 9}) == expected_quality(CATALOG, "0.5", both)
    assert expected_quality(CATALOG, "0.5", {}) == 54.0


@pytest.mark.parametrize("budget", [Budget(latency_ms=0.01), Budget(gflops=0.2), Budget(min_quality=1), Budget()])
def test_the_service_never_chooses_below_its_floor(budget: Budget) -> None:
    choice = choose_widths(budget, FLOORED, cost, SLO_MS)
    assert "0.25" not in choice.widths


def test_a_caller_may_go_below_the_floor() -> None:
    assert choose_widths(Budget(width="0.25"), FLOORED, cost, SLO_MS).widths == ("0.25",)


def test_only_the_limits_that_were_given_decide_whether_the_budget_is_met() -> None:
    assert choose_widths(Budget(), CATALOG, cost, SLO_MS).budget_met(99.0)
    assert not choose_widths(Budget(), CATALOG, cost, SLO_MS).budget_met(101.0)
    assert not choose_widths(Budget(latency_ms=5), CATALOG, cost, SLO_MS).budget_met(5.1)
    assert choose_widths(Budget(gflops=5), CATALOG, cost, SLO_MS).budget_met(1e6)
    assert not choose_widths(Budget(gflops=0.01), CATALOG, cost, SLO_MS).budget_met(0.0)
    assert choose_widths(Budget(width="0.5"), CATALOG, cost, SLO_MS).budget_met(1e6)
    assert not choose_widths(Budget(width="0.5", deadline_ms=5), CATALOG, cost, SLO_MS).budget_met(6.0)


def test_a_limit_without_time_leaves_room_for_the_width_that_it_allows() -> None:
    """On a machine where full width takes longer than the service's target, gflops still means gflops."""
    slow = choose_widths(Budget(gflops=5), CATALOG, lambda width, n: 100 * cost(width, n), SLO_MS)
    assert ideal_width(slow, lambda width, n: 100 * cost(width, n)) == "1.0"


@pytest.mark.parametrize(
    ("budget", "wait_ms", "spent_ms", "refused"),
    [
        (Budget(deadline_ms=10), 0.0, 0.0, False),
        (Budget(deadline_ms=10), 9.5, 0.0, True),
        (Budget(deadline_ms=10), 0.0, 9.5, True),
        (Budget(deadline_ms=0.5), 0.0, 0.0, True),
        (Budget(deadline_ms=10, width="1.0"), 0.0, 0.0, True),
        (Budget(deadline_ms=17, width="1.0"), 0.0, 0.0, False),
        (Budget(latency_ms=0.001), 1e6, 1e6, False),
        (Budget(), 1e6, 1e6, False),
    ],
)
def test_only_a_hard_deadline_is_refused_on_arrival(
    budget: Budget, wait_ms: float, spent_ms: float, refused: bool
) -> None:
    choice = choose_widths(budget, CATALOG, cost, SLO_MS)
    if not refused:
        check_deadline_reachable(choice, cost, wait_ms, spent_ms)
        return
    with pytest.raises(Problem) as caught:
        check_deadline_reachable(choice, cost, wait_ms, spent_ms)
    assert (caught.value.code, caught.value.parameter) == ("deadline_unreachable", "deadline_ms")


def test_a_deadline_that_has_passed_already_is_told_so() -> None:
    with pytest.raises(Problem) as caught:
        check_deadline_not_passed(choose_widths(Budget(deadline_ms=10), CATALOG, cost, SLO_MS), 10.1)
    assert caught.value.code == "deadline_passed"
    check_deadline_not_passed(choose_widths(Budget(deadline_ms=10), CATALOG, cost, SLO_MS), 9.9)
    check_deadline_not_passed(choose_widths(Budget(), CATALOG, cost, SLO_MS), 1e9)


def test_what_follows_the_batch_counts_too() -> None:
    choice = choose_widths(Budget(deadline_ms=10), CATALOG, cost, SLO_MS)
    check_deadline_reachable(choice, cost, 0.0, 0.0, after_ms=8.0)
    with pytest.raises(Problem) as caught:
        check_deadline_reachable(choice, cost, 0.0, 0.0, after_ms=9.5)
    assert caught.value.code == "deadline_unreachable"


limits = st.none() | st.floats(0.01, 200)


@given(
    latency_ms=limits,
    gflops=st.none() | st.floats(0.01, 3),
    deadline_ms=limits,
    min_quality=st.none() | st.floats(0, 100),
    floor=st.sampled_from(WIDTHS),
    mix=st.dictionaries(st.sampled_from([*WIDTHS, "0.9"]), st.integers(0, 9)),
)
def test_whatever_is_wished_for(
    latency_ms: float | None,
    gflops: float | None,
    deadline_ms: float | None,
    min_quality: float | None,
    floor: str,
    mix: dict[str, int],
) -> None:
    """The choice keeps every limit that it says is met, and no wider width would."""
    catalog = replace(CATALOG, floor=floor)
    budget = Budget(None, latency_ms, gflops, deadline_ms, min_quality)
    try:
        choice = choose_widths(budget, catalog, cost, SLO_MS, mix)
    except Problem as problem:
        refused = problem.code
        assert refused == "contradictory_limits"
        assert gflops is not None
        assert min_quality is not None
        good = [w for w in catalog.flexible if expected_quality(catalog, w, mix) >= min_quality]
        assert not [w for w in good if catalog.gflops[w] <= gflops]
        return
    width = ideal_width(choice, cost)
    assert set(choice.widths) <= set(catalog.flexible)
    if choice.met:
        assert gflops is None or catalog.gflops[width] <= gflops
        assert min_quality is None or expected_quality(catalog, width, mix) >= min_quality
    if min_quality is None:
        wider = [w for w in catalog.flexible if catalog.gflops[w] > catalog.gflops[width]]
        target = min([x for x in (latency_ms, deadline_ms) if x is not None], default=SLO_MS)
        assert not [w for w in wider if cost(w, 1) <= target and (gflops is None or catalog.gflops[w] <= gflops)]
