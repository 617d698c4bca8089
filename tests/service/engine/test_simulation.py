"""What comes of the scheduler's decisions: hours of simulated traffic through the service's own code."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from arrivals import PATTERNS, arrivals
from oracle import best_quality
from sfsc_service.engine.batch_plan import Capacity
from sfsc_service.engine.costs import BUCKETS, CostTable, Measured
from sfsc_service.engine.policy import Budget, WidthCatalog
from simulation import Request, Served, simulate

PER_IMAGE_MS = {"0.25": 0.8, "0.5": 3.1, "0.75": 7.9, "1.0": 13.7}
WIDTHS = tuple(PER_IMAGE_MS)
POINTS = {"0.25": 72.0, "0.5": 80.0, "0.75": 83.0, "1.0": 84.5}
CATALOG = WidthCatalog(
    WIDTHS,
    gflops=dict.fromkeys(WIDTHS, 1.0),
    mean_ap={width: {"1.0": POINTS[width]} for width in WIDTHS},
    mixed_gap=dict.fromkeys(WIDTHS, 0.0),
    floor="0.25",
)
CAPACITY = Capacity(workers=2, max_batch=32, max_batch_ms=50.0)
SLO_MS = 100.0
FULL_PER_S = 1000 * CAPACITY.workers / PER_IMAGE_MS["1.0"]
NARROWEST = 1000 * CAPACITY.workers / (0.8 * PER_IMAGE_MS["0.25"]) / FULL_PER_S
"""The load that the narrowest width can just do, in large batches."""
AUTO = Budget()


def costs(width: str, images: int) -> float:
    """Milliseconds of a batch: a little less per image in larger ones."""
    return PER_IMAGE_MS[width] * (0.2 + 0.8 * images)


def noisy(factor: float, seed: int = 5) -> Callable[[str, int], float]:
    """Batches that take `factor` times what was measured on average, each one more or less than that."""
    draw = random.Random(seed)
    return lambda width, images: factor * costs(width, images) * draw.lognormvariate(0.0, 0.15)


def measured() -> CostTable:
    table = CostTable(WIDTHS, CAPACITY.max_batch)
    for width in WIDTHS:
        for images in BUCKETS:
            table.set_measured(width, images, Measured(costs(width, images), costs(width, images)))
    return table


def serve(
    load: float,
    seconds: float,
    pattern: str = "poisson",
    actual: Callable[[str, int], float] = costs,
    budget: Callable[[int], Budget] = lambda _: AUTO,
) -> list[Served]:
    times = arrivals(pattern, load * FULL_PER_S, seconds, seed=1)
    requests = [Request(at, budget(n)) for n, at in enumerate(times)]
    answers = simulate(requests, CATALOG, measured(), CAPACITY, actual, slo_ms=SLO_MS, decode_ms=0.5)
    assert len(answers) == len(requests), "every request has exactly one outcome"
    return answers


def share(answers: Sequence[Served], condition: Callable[[Served], bool]) -> float:
    return sum(map(condition, answers)) / len(answers)


def in_time(answers: Sequence[Served]) -> float:
    return share(answers, lambda one: one.in_time)


def points(answers: Sequence[Served]) -> float:
    return sum(POINTS[one.width or "0.25"] for one in answers) / len(answers)


def test_minutes_at_a_quiet_load_is_answered_at_full_width() -> None:
    answers = serve(0.6, 300.0)
    assert share(answers, lambda one: one.width == "1.0") >= 0.95
    assert in_time(answers) >= 0.999


@pytest.mark.parametrize("factor", [1.0, 1.4], ids=["as measured", "slower than measured"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("load", [0.5, 1.0, 2.0, 3.0])
def test_overload_costs_width_and_not_time(load: float, pattern: str, factor: float) -> None:
    assert in_time(serve(load, 20.0, pattern, noisy(factor))) >= 0.99


@pytest.mark.parametrize("pattern", PATTERNS)
def test_beyond_what_the_narrowest_width_can_do_not_everybody_is_late(pattern: str) -> None:
    """Most of the machine is for those that can be in time; of bursts at 2.4 × no more than half of them can."""
    assert in_time(serve(1.2 * NARROWEST, 3.0, pattern)) >= 0.4


def test_bursts_near_what_the_narrowest_width_can_do_are_in_time() -> None:
    """Whatever a burst finds waiting when it begins stays until it ends, so little wide work may be in front."""
    assert in_time(serve(0.5 * NARROWEST, 4.0, "bursty", noisy(1.1))) >= 0.99


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("load", [1.0, 3.0])
def test_quality_comes_close_to_what_a_clairvoyant_could_reach(load: float, pattern: str) -> None:
    answers = serve(load, 6.0, pattern)
    timely = [one for one in answers if one.in_time]
    times = sorted(one.request.at for one in answers)
    cheapest = {width: costs(width, 32) / 32 for width in WIDTHS}
    bound = best_quality(times, SLO_MS / 1000, cheapest, POINTS, CAPACITY.workers, in_time(answers))
    assert 0.95 * bound <= points(timely) <= bound


def test_more_load_never_means_more_width() -> None:
    means = [points(serve(load, 10.0)) for load in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_a_steady_load_below_capacity_does_not_flap(load: float) -> None:
    answers = serve(load, 60.0)
    assert share(list(pairwise(answers)), lambda two: two[0].width != two[1].width) <= 0.01  # type: ignore[arg-type,index]


def test_between_two_widths_the_scheduler_stays_at_each_for_a_while() -> None:
    """Where the load lies between two widths both are needed; a switch costs nothing, yet there are few."""
    answers = serve(2.0, 60.0)
    switches = sum(a.level != b.level for a, b in pairwise(answers))
    assert switches <= 0.1 * len(answers)
    assert {one.width for one in answers if one.request.at > 1.0} <= {"0.5", "0.75", "1.0"}


@pytest.mark.parametrize(("crowd", "lonely"), [("1.0", "0.25"), ("0.25", "1.0")])
def test_a_crowd_of_one_width_does_not_starve_another(crowd: str, lonely: str) -> None:
    """Explicit requests at 1.5 × what the machine can do; now and then one of another width."""
    draw = random.Random(3)
    rate = 1.5 * 1000 * CAPACITY.workers / costs(crowd, 32) * 32
    wishes = {width: Budget(width=width) for width in WIDTHS}
    requests = [
        Request(at, wishes[lonely if draw.random() < 0.02 else crowd]) for at in arrivals("poisson", rate, 2.0, 2)
    ]
    answers = simulate(requests, CATALOG, measured(), CAPACITY, costs, slo_ms=SLO_MS)
    assert Counter(one.width for one in answers) == Counter(request.budget.width for request in requests)
    waits = {width: max(one.latency_ms for one in answers if one.width == width) for width in (crowd, lonely)}
    longest_batch_ms = max(CAPACITY.max_batch_ms, costs("1.0", 1))
    assert waits[lonely] <= waits[crowd] + longest_batch_ms


def test_explicit_wide_requests_that_are_too_many_do_not_make_flexible_ones_late() -> None:
    mixed = {0: Budget(width="1.0"), 1: AUTO}
    answers = serve(3.0, 10.0, budget=lambda n: mixed[n % 2])
    flexible = [one for one in answers if one.request.budget is AUTO]
    assert in_time(flexible) >= 0.9
    assert {one.width for one in answers if one.request.budget is not AUTO} == {"1.0"}


def test_the_name_of_a_width_says_nothing_to_the_scheduler() -> None:
    """Under names that are no numbers and sort the other way round, every request is served the same."""
    names = dict(zip(WIDTHS, "zyxw", strict=True))
    numbers = {name: width for width, name in names.items()}
    catalog = WidthCatalog(
        tuple(numbers),
        gflops=dict.fromkeys(numbers, 1.0),
        mean_ap={names[width]: {"w": points} for width, points in POINTS.items()},
        mixed_gap=dict.fromkeys(numbers, 0.0),
        floor="z",
    )
    table = CostTable(catalog.widths, CAPACITY.max_batch)
    table.load({names[width]: sizes for width, sizes in measured().table().items()})
    wishes = [AUTO, AUTO, Budget(width="0.75"), Budget(latency_ms=20.0), Budget(min_quality=79.0)]
    renamed = [replace(wish, width=names.get(wish.width or "")) for wish in wishes]
    plain = serve(2.0, 5.0, "bursty", budget=lambda n: wishes[n % 5])
    times = arrivals("bursty", 2.0 * FULL_PER_S, 5.0, seed=1)
    other = simulate(
        [Request(at, renamed[n % 5]) for n, at in enumerate(times)],
        catalog,
        table,
        CAPACITY,
        lambda name, images: costs(numbers[name], images),
        slo_ms=SLO_MS,
        decode_ms=0.5,
    )
    assert len({one.width for one in plain}) == len(WIDTHS)
    assert [(one.finished, one.width) for one in plain] == [
        (one.finished, numbers.get(one.width or "")) for one in other
    ]


def test_a_hard_deadline_is_kept_or_refused_on_arrival() -> None:
    hard = Budget(width="1.0", deadline_ms=SLO_MS)
    answers = serve(3.0, 20.0, budget=lambda _: hard)
    admitted = [one for one in answers if one.width is not None]
    assert 0.2 <= len(admitted) / len(answers) <= 0.5, "about a third is what the machine can do"
    assert in_time(admitted) >= 0.99
    quiet = serve(0.3, 60.0, budget=lambda _: hard)
    assert share(quiet, lambda one: one.width is None) <= 0.01


def test_a_deadline_that_is_nearer_is_not_refused_for_work_that_can_wait() -> None:
    """Explicit requests fill the queue; a few with a near deadline go before them."""
    wishes = {True: Budget(width="0.25", deadline_ms=60.0), False: Budget(width="1.0", deadline_ms=10_000.0)}
    answers = serve(1.2, 5.0, budget=lambda n: wishes[n % 20 == 0])
    urgent = [one for one in answers if one.request.budget.width == "0.25"]
    assert share(urgent, lambda one: one.width is None) <= 0.05
    assert in_time([one for one in urgent if one.width is not None]) >= 0.99
