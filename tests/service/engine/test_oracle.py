"""What the overload benchmark holds the scheduler against: the clairvoyant bound and the static line."""

import math

import pytest

from arrivals import PATTERNS, arrivals
from oracle import best_quality
from overload_figures import OURS, margin

IMAGE_MS = {"0.25": 1.0, "1.0": 10.0}
POINTS = {"0.25": 70.0, "1.0": 80.0}


def bound(rate: float, attainment: float = 1.0, slo_s: float = 0.1) -> float:
    times = [n / rate for n in range(int(2 * rate))]
    return best_quality(times, slo_s, IMAGE_MS, POINTS, 1, attainment)


def test_a_quiet_machine_can_give_everybody_the_best() -> None:
    assert bound(50.0) == pytest.approx(80.0)


def test_between_two_widths_the_bound_is_what_their_mixture_can_do() -> None:
    """At 200 a second a request may take 5 ms, 4/9 of the way from the narrow to the wide one; and the last ones
    may be worked on for another 0.1 s, rounded outwards to 0.12."""
    share = ((2.0 + 0.12) / 400 * 1000 - 1) / 9
    assert 70 + 10 * 4 / 9 <= bound(200.0) <= 70 + 10 * share + 1e-6


def test_dropping_requests_buys_quality_and_what_cannot_be_done_has_no_bound() -> None:
    assert bound(200.0, 0.5) == pytest.approx(80.0)
    assert bound(200.0, 0.5) > bound(200.0, 0.9) > bound(200.0, 1.0)
    assert math.isnan(bound(2000.0, 1.0))
    assert bound(2000.0, 0.5) == pytest.approx(70.0, abs=0.2)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_have_the_rate_that_they_are_asked_for(pattern: str) -> None:
    times = arrivals(pattern, 300.0, 20.0, seed=3)
    assert times == sorted(times) == arrivals(pattern, 300.0, 20.0, seed=3)
    assert 0 <= times[0] < times[-1] < 20.0
    assert len(times) == pytest.approx(6000, rel=0.05)


def test_in_bursts_the_other_half_of_a_second_is_silent() -> None:
    assert all(at % 1.0 < 0.5 for at in arrivals("bursty", 100.0, 20.0, seed=0))


def run(policy: str, attainment: float, quality: float | None) -> dict[str, object]:
    return {"pattern": "p", "load": 3.0, "policy": policy, "attainment": attainment, "quality": quality}


@pytest.mark.parametrize(
    ("attainment", "quality", "expected"),
    [(0.75, 76.0, 1.0), (0.75, 74.0, -1.0), (1.0, 71.0, 1.0), (0.1, 80.0, 0.0), (0.5, 80.0, 0.0)],
)
def test_the_margin_is_measured_from_the_line_through_static_policies(
    attainment: float, quality: float, expected: float
) -> None:
    """0.75 is beaten by 1.0 on both axes, so the line leaves it out."""
    static = [run("0.25", 1.0, 70.0), run("0.5", 0.5, 80.0), run("0.75", 0.4, 75.0), run("1.0", 0.0, None)]
    assert margin([*static, run(OURS, attainment, quality)], 3.0, "p") == pytest.approx(expected)
