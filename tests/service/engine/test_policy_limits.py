"""The policy at its limits: what a manifest says, what is exactly in time, and what a refusal tells its caller."""

from pathlib import Path

import pytest

from sfsc_bundle.manifest import Manifest
from sfsc_service.engine.policy import (
    Budget,
    Choice,
    WidthCatalog,
    check_deadline_not_passed,
    check_deadline_reachable,
    choose_widths,
    expected_quality,
    ideal_width,
)
from sfsc_service.errors import Problem
from tests.tiny_bundle import FULL_MACS, GAP, make_tiny_bundle

MS = {"0.5": 4.0, "1.0": 16.0}
CATALOG = WidthCatalog(
    widths=("0.5", "1.0"),
    gflops={"0.5": 0.4, "1.0": 1.6},
    mean_ap={"0.5": {"0.5": 50.0, "1.0": 54.5}, "1.0": {"0.5": 54.5, "1.0": 70.0}},
    mixed_gap={"0.5": -0.25, "1.0": -0.5},
    floor="0.5",
)
HARD = Choice(("0.5", "1.0"), "budget", target_ms=20.0, soft=True, deadline_ms=30.0)
SOFT = Choice(("0.5", "1.0"), "budget", target_ms=20.0, soft=True)


def cost(width: str, images: int) -> float:
    """Milliseconds of a batch, not in proportion to its images."""
    return MS[width] * images**2


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", ("0.5", "0.75", "1.0")).manifest


def test_a_catalog_is_what_the_manifest_says(manifest: Manifest) -> None:
    catalog = WidthCatalog.of(manifest)
    assert catalog.widths == ("0.5", "0.75", "1.0")
    assert catalog.floor == "0.5"
    assert catalog.gflops == {
        width: pytest.approx(2e-9 * FULL_MACS * float(width) ** 2) for width in catalog.widths
    }
    assert [catalog.mean_ap[row][column] for row in catalog.widths for column in catalog.widths] == [
        points for row in manifest.quality.mean_ap for points in row
    ]
    assert catalog.mixed_gap == {width: pytest.approx(-GAP) for width in catalog.widths}


def test_the_mixed_gallery_of_the_manifest_is_what_equal_parts_are_predicted_to_reach(manifest: Manifest) -> None:
    catalog = WidthCatalog.of(manifest)
    found = [expected_quality(catalog, width, dict.fromkeys(catalog.widths, 5)) for width in catalog.widths]
    assert found == pytest.approx(list(manifest.quality.mixed.mean_ap))


def test_a_bundle_of_one_width_has_no_mixed_gallery(tmp_path: Path) -> None:
    catalog = WidthCatalog.of(make_tiny_bundle(tmp_path / "one", ("1.0",)).manifest)
    assert expected_quality(catalog, "1.0", {"1.0": 3, "0.5": 3}) == catalog.mean_ap["1.0"]["1.0"]


def test_the_floor_is_a_width_of_the_bundle(manifest: Manifest) -> None:
    assert WidthCatalog.of(manifest, "0.75").flexible == ("0.75", "1.0")
    with pytest.raises(Problem, match=r"floor_width: must be one of 0\.5, 0\.75, 1\.0, found 0\.3") as caught:
        WidthCatalog.of(manifest, "0.3")
    assert (caught.value.code, caught.value.parameter) == ("unknown_width", "floor_width")


def test_a_deadline_is_the_hard_limit_and_the_target_the_soft_one() -> None:
    assert (HARD.limit, HARD.limit_ms) == ("hard", 30.0)
    assert (SOFT.limit, SOFT.limit_ms) == ("soft", 20.0)


@pytest.mark.parametrize(
    ("choice", "elapsed_ms", "met"),
    [
        (SOFT, 20.0, True),
        (SOFT, 20.1, False),
        (Choice(("0.5",), "requested", 20.0, False, deadline_ms=30.0), 0.0, True),
        (Choice(("0.5",), "requested", 20.0, False, deadline_ms=30.0), 30.0, True),
        (Choice(("0.5",), "requested", 20.0, False, deadline_ms=30.0), 30.1, False),
        (Choice(("0.5",), "budget", 20.0, False, met=False), 0.0, False),
    ],
)
def test_an_answer_exactly_at_the_limit_is_in_time(choice: Choice, elapsed_ms: float, met: bool) -> None:
    assert choice.budget_met(elapsed_ms) is met


@pytest.mark.parametrize(
    ("budget", "target_ms"),
    [
        (Budget(gflops=5.0), 32.0),
        (Budget(gflops=0.5), 20.0),
        (Budget(min_quality=60.0), 32.0),
        (Budget(), 20.0),
        (Budget(gflops=5.0, latency_ms=7.0), 7.0),
        (Budget(latency_ms=50.0, deadline_ms=40.0), 40.0),
        (Budget(width="1.0"), 20.0),
        (Budget(width="1.0", deadline_ms=90.0), 90.0),
    ],
)
def test_the_target_is_the_tightest_limit_or_twice_what_the_widest_allowed_width_takes(
    budget: Budget, target_ms: float
) -> None:
    assert choose_widths(budget, CATALOG, cost, slo_ms=20.0).target_ms == target_ms


@pytest.mark.parametrize(
    ("spent_ms", "width"), [(3.9, "1.0"), (4.0, "1.0"), (4.1, "0.5"), (16.0, "0.5"), (99.0, "0.5")]
)
def test_an_image_that_is_ready_exactly_at_the_target_is_in_time(spent_ms: float, width: str) -> None:
    assert ideal_width(SOFT, cost, spent_ms) == width


def test_nothing_is_taken_as_spent_unless_it_is_said() -> None:
    exact = Choice(("0.5", "1.0"), "budget", target_ms=16.0, soft=True, deadline_ms=4.0)
    assert ideal_width(exact, cost) == "1.0"
    check_deadline_reachable(exact, cost, 0.0)
    with pytest.raises(Problem, match=r"is predicted to take 4\.01 ms"):
        check_deadline_reachable(exact, cost, 0.01)


def test_an_unreachable_deadline_is_told_with_the_narrowest_width_and_when_to_try_again() -> None:
    with pytest.raises(
        Problem, match=r"deadline_ms: 30 ms cannot be met, .* take 31\.5 ms at width 0\.5"
    ) as caught:
        check_deadline_reachable(HARD, cost, wait_ms=25.0, spent_ms=2.0, after_ms=0.5)
    assert caught.value.retry_after_s == 0.025


@pytest.mark.parametrize("spent_ms", [30.0, 29.9])
def test_a_deadline_has_passed_only_after_it(spent_ms: float) -> None:
    check_deadline_not_passed(HARD, spent_ms)
    with pytest.raises(Problem, match="deadline_ms: 30 ms had passed"):
        check_deadline_not_passed(HARD, 30.1)


def test_quality_is_a_mean_with_fractions_and_widths_without_items_have_no_weight() -> None:
    assert expected_quality(CATALOG, "0.5", {"0.5": 1, "1.0": 1}) == 52.0
    assert expected_quality(CATALOG, "0.5", {"0.5": 3, "1.0": 1}) == 51.125 - 0.25 * 0.75
    assert expected_quality(CATALOG, "0.5", {"0.5": 0, "1.0": 2}) == 54.5
    assert expected_quality(CATALOG, "0.5", {"0.5": 0}) == 54.5


def test_a_quality_reached_exactly_is_reached() -> None:
    assert choose_widths(Budget(min_quality=54.5), CATALOG, cost, 20.0).widths == ("0.5",)
    assert choose_widths(Budget(gflops=0.4), CATALOG, cost, 20.0).widths == ("0.5",)


def test_contradictory_limits_are_told_with_the_best_that_there_is() -> None:
    with pytest.raises(Problem, match=r"60 points .* gflops 1; there width 0\.5 reaches 54\.5 at 0\.4 GFLOP"):
        choose_widths(Budget(gflops=1.0, min_quality=60.0), CATALOG, cost, 20.0)
    with pytest.raises(Problem, match="latency_ms and gflops; give one or the other"):
        choose_widths(Budget(width="0.5", latency_ms=1.0, gflops=1.0), CATALOG, cost, 20.0)
