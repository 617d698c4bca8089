"""(queue, costs, clock) → (width, members), and what comes of it in a simulation."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_service.scheduler import Machine, Work, plan
from tests.service.simulation import PER_IMAGE_MS, WIDTHS, Served, costs, poisson, simulate

MACHINE = Machine(workers=2, max_batch=32, batch_ms=50.0)
FULL_PER_S = 1000 * MACHINE.workers / PER_IMAGE_MS["1.0"]
SLO_S = 0.1


def flexible(due: float) -> Work:
    return Work(WIDTHS, "1.0", due)


def explicit(width: str, due: float) -> Work:
    return Work((width,), width, due)


works = st.builds(
    lambda allowed, ideal, due: Work(tuple(WIDTHS[:allowed]), WIDTHS[min(ideal, allowed - 1)], due),
    st.integers(1, 4),
    st.integers(0, 3),
    st.floats(-1, 2),
) | st.builds(explicit, st.sampled_from(WIDTHS), st.floats(-1, 2))


@given(
    queue=st.lists(works, min_size=1, max_size=60),
    max_batch=st.integers(1, 40),
    batch_ms=st.floats(1, 200),
    idle=st.integers(1, 4),
    level=st.integers(0, 5),
)
def test_every_plan_keeps_the_rules(
    queue: list[Work], max_batch: int, batch_ms: float, idle: int, level: int
) -> None:
    queue.sort(key=lambda work: work.due)
    cut = plan(queue, costs, 0.0, Machine(4, max_batch, batch_ms), idle, level)
    assert cut.members[0] == 0, "the most urgent request is always served"
    assert list(cut.members) == sorted(set(cut.members))
    assert 1 <= len(cut.members) <= max_batch
    assert len(cut.members) == 1 or costs(cut.width, len(cut.members)) <= batch_ms
    for member in cut.members:
        work = queue[member]
        assert cut.width in work.widths
        assert PER_IMAGE_MS[cut.width] <= PER_IMAGE_MS[work.ideal], "nobody is given more than was asked for"


def test_an_idle_server_gives_the_ideal_width() -> None:
    assert plan([flexible(1.0)], costs, 0.0, MACHINE, 2, 0).width == "1.0"


def test_load_degrades_flexible_requests_and_not_explicit_ones() -> None:
    queue = [flexible(0.1) for _ in range(60)]
    assert plan(queue, costs, 0.0, MACHINE, 1, 0).width == "0.5"
    assert plan([explicit("1.0", 0.05), *queue], costs, 0.0, MACHINE, 1, 0).width == "1.0"


def test_a_narrow_budget_does_not_drag_others_down() -> None:
    hasty = Work(WIDTHS, "0.25", 0.005)
    cut = plan([hasty, flexible(0.1)], costs, 0.0, MACHINE, 1, 0)
    assert (cut.width, cut.members) == ("0.25", (0,))


def test_when_nobody_can_be_in_time_the_narrowest_is_served() -> None:
    assert plan([flexible(-1.0)] * 3, costs, 0.0, MACHINE, 1, 0).width == "0.25"


def test_free_workers_share_what_waits() -> None:
    queue = [flexible(10.0) for _ in range(8)]
    assert len(plan(queue, costs, 0.0, Machine(4, 32, 1e6), 4, 0).members) == 2


def test_going_wider_needs_room_to_spare_and_going_narrower_does_not() -> None:
    """One request that fits exactly at full width: kept there, but not gone back to."""
    queue = [flexible(costs("1.0", 1) / 1000 * 1.1)]
    assert plan(queue, costs, 0.0, MACHINE, 1, level=0).width == "1.0"
    assert plan(queue, costs, 0.0, MACHINE, 1, level=1).width == "0.75"


def served(load: float, seconds: float = 60.0) -> list[Served]:
    arrivals = [(at, flexible(at + SLO_S)) for at in poisson(load * FULL_PER_S, seconds, seed=1)]
    return simulate(arrivals, MACHINE)


def test_in_the_simulation_a_quiet_server_answers_at_full_width() -> None:
    answers = served(0.6)
    assert sum(one.width == "1.0" for one in answers) >= 0.95 * len(answers)
    assert all(one.in_time for one in answers)


@pytest.mark.parametrize("load", [1.5, 3.0, 6.0])
def test_in_the_simulation_overload_costs_width_and_not_time(load: float) -> None:
    answers = served(load, 20.0)
    assert sum(one.in_time for one in answers) >= 0.99 * len(answers)


def test_in_the_simulation_more_load_never_means_more_width() -> None:
    means = []
    for load in (0.5, 1.5, 3.0, 6.0):
        answers = served(load, 20.0)
        means.append(sum(PER_IMAGE_MS[one.width] for one in answers) / len(answers))
    assert means == sorted(means, reverse=True)


def test_in_the_simulation_steady_load_does_not_flap() -> None:
    answers = served(0.8)
    changes = sum(a.width != b.width for a, b in pairwise(answers))
    assert changes <= 0.01 * len(answers)


@pytest.mark.parametrize(("crowd", "lonely"), [("1.0", "0.25"), ("0.25", "1.0")])
def test_in_the_simulation_a_crowd_of_one_width_does_not_starve_another(crowd: str, lonely: str) -> None:
    """Explicit requests at 1.2 × what the machine can do; now and then one of another width."""
    draw = random.Random(3)
    rate = 1.2 * 1000 * MACHINE.workers / PER_IMAGE_MS[crowd]
    arrivals = [
        (at, explicit(lonely if draw.random() < 0.02 else crowd, at + SLO_S)) for at in poisson(rate, 10.0, 2)
    ]
    answers = simulate(arrivals, MACHINE)
    waits = {
        width: max(one.finished - one.arrived for one in answers if one.width == width)
        for width in (crowd, lonely)
    }
    longest_batch_s = max(MACHINE.batch_ms, costs("1.0", 1)) / 1000
    assert waits[lonely] <= waits[crowd] + longest_batch_s
    assert Counter(one.width for one in answers) == Counter(work.ideal for _, work in arrivals)
