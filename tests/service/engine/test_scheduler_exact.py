"""What the scheduler remembers and predicts, to the digit: overhead, arrivals, waiting, and turns of the late."""

import math

import pytest

from sfsc_service.engine.batch_plan import ArrivalFlow, Capacity, Work
from sfsc_service.engine.costs import CostTable, Measured
from sfsc_service.engine.policy import Choice
from sfsc_service.engine.scheduler import Scheduler

MS = {"0.5": 4.0, "1.0": 16.0}
BOTH = ("1.0", "0.5")
MEMORY_S = 0.02
"""0.4 of the longest batch."""


def scheduler(workers: int = 2, p95: float = 1.0) -> Scheduler:
    costs = CostTable(tuple(MS))
    costs.load({width: {1: Measured(ms, ms * p95)} for width, ms in MS.items()})
    return Scheduler(costs, Capacity(workers, max_batch=8, max_batch_ms=50.0))


def choice(target_ms: float = 100.0) -> Choice:
    return Choice(("0.5", "1.0"), "budget", target_ms, True)


def fixed(due: float, width: str = "1.0") -> Work:
    return Work((width,), due)


def test_a_new_scheduler_expects_nothing() -> None:
    made = scheduler()
    assert (made.level, made.planning_ms, made.overhead_ms) == (0, 0.0, 0.0)
    assert made.flows(5.0) == []
    assert made.wait_ms(0.0, 1.0, 0.0) == 0.0


def test_the_overhead_is_twice_the_mean_return_and_two_mean_deviations() -> None:
    made = scheduler()
    made.observe_return(10.0)
    mean = 0.05 * 10.0
    spread = 0.05 * (10.0 - mean)
    assert made.overhead_ms == pytest.approx(2 * (mean + 2 * spread))
    made.observe_return(0.0)
    spread += 0.05 * (mean * 0.95 - spread)
    assert made.overhead_ms == pytest.approx(2 * (mean * 0.95 + 2 * spread))


def test_planning_takes_its_mean_time_of_every_batch() -> None:
    made = scheduler(workers=1)
    made.observe_planning(20.0)
    assert made.planning_ms == 1.0
    made.observe_planning(0.0)
    assert made.planning_ms == pytest.approx(0.95)
    assert made.next_batch([Work(BOTH, 0.0171)], 0.0, 1).width == "1.0"
    assert made.next_batch([Work(BOTH, 0.0168)], 0.0, 1).width == "0.5"


def test_plans_are_made_with_cautious_costs() -> None:
    made = scheduler(workers=1, p95=1.25)
    assert made.next_batch([Work(BOTH, 0.0201)], 0.0, 1).level == 0
    assert made.next_batch([Work(BOTH, 0.0199)], 0.0, 1).level == 1


@pytest.mark.parametrize(
    ("spent_ms", "after_ms", "ladder", "due"),
    [
        (0.0, 0.0, BOTH, 1.1),
        (84.0, 0.0, BOTH, 1.1),
        (84.1, 0.0, ("0.5",), 1.1),
        (64.0, 20.0, BOTH, 1.08),
        (64.1, 20.0, ("0.5",), 1.08),
    ],
)
def test_what_is_spent_takes_width_and_what_follows_takes_time_too(
    spent_ms: float, after_ms: float, ladder: tuple[str, ...], due: float
) -> None:
    found = scheduler().work(choice(), at=1.0, spent_ms=spent_ms, after_ms=after_ms)
    assert (found.ladder, found.due) == (ladder, pytest.approx(due))


@pytest.mark.parametrize(("return_ms", "reserved_ms"), [(1.0, 0.29), (1000.0, 30.0)])
def test_the_overhead_is_reserved_up_to_three_tenths_of_the_target(return_ms: float, reserved_ms: float) -> None:
    made = scheduler()
    made.observe_return(return_ms)
    found = made.work(choice(), at=1.0, after_ms=5.0)
    assert found.due == pytest.approx(1.0 + (100.0 - 5.0 - reserved_ms) / 1000)


def test_a_flow_is_what_is_certain_of_the_decayed_arrivals() -> None:
    made = scheduler()
    for at in (1.0, 1.01, 1.01):
        made.observe_arrival(fixed(at + 0.1), at)
    count = math.exp(-0.01 / MEMORY_S) + 2.0
    (flow,) = made.flows(1.02)
    seen = count * math.exp(-0.01 / MEMORY_S)
    assert flow == ArrivalFlow(
        ("1.0",), pytest.approx((seen - math.sqrt(seen / 2)) / MEMORY_S), pytest.approx(0.1)
    )


def test_too_few_arrivals_are_no_flow_and_ladders_are_kept_apart() -> None:
    made = scheduler()
    made.observe_arrival(fixed(1.1), 1.0)
    made.observe_arrival(Work(BOTH, 0.9), 1.0)
    certain = (1.0 - math.sqrt(0.5)) / MEMORY_S
    assert made.flows(1.0) == [
        ArrivalFlow(("1.0",), pytest.approx(certain), pytest.approx(0.1)),
        ArrivalFlow(BOTH, pytest.approx(certain), 0.0),
    ]
    assert [flow.per_s for flow in made.flows(1.5)] == [0.0, 0.0]


@pytest.mark.parametrize(("workers", "expected_ms"), [(1, 30.0), (2, 15.0 + 15.0), (4, 7.5 + 22.5)])
def test_what_is_ahead_is_shared_and_a_batch_of_it_is_waited_for(workers: int, expected_ms: float) -> None:
    made = scheduler(workers)
    made.decoding_began("urgent", fixed(0.9))
    made.decoding_began("equally urgent", fixed(1.0))
    assert made.wait_ms(14.0, 1.0, 0.0) == pytest.approx(expected_ms)


def test_no_more_than_the_longest_batch_is_waited_for_beside_the_share() -> None:
    assert scheduler(2).wait_ms(100.0, 1.0, 0.0) == pytest.approx(100.0 / 2 + 50.0 / 2)


def test_waiting_ends_when_the_first_worker_is_free() -> None:
    made = scheduler(2)
    made.next_batch([fixed(1.0)], 0.0, 2)
    made.next_batch([fixed(1.0, "0.5")], 0.0, 1)
    assert made.wait_ms(0.0, 1.0, 0.001) == pytest.approx(3.0)
    assert made.wait_ms(0.0, 1.0, 0.005) == 0.0
    made.next_batch([fixed(1.0)], 0.004, 1)
    assert made.wait_ms(0.0, 1.0, 0.004) == pytest.approx(12.0)


def test_what_still_runs_takes_width() -> None:
    """Two workers: the other one runs for 16 ms more, half of which counts; so does half of the own batch."""
    for slack_ms, width in ((24.2, "1.0"), (23.8, "0.5")):
        made = scheduler(2)
        made.next_batch([fixed(1.0)], 0.0, 2)
        assert made.next_batch([Work(BOTH, slack_ms / 1000)], 0.0, 1).width == width


def test_an_idle_worker_no_longer_runs() -> None:
    made = scheduler(2)
    made.next_batch([fixed(1.0)], 0.0, 2)
    assert made.next_batch([Work(BOTH, 0.0162)], 0.0, 2).width == "1.0"


def test_degradation_is_remembered_by_the_next_plan() -> None:
    made = scheduler(1)
    assert made.next_batch([Work(BOTH, 0.015)], 0.0, 1).level == 1
    assert made.level == 1
    assert made.next_batch([Work(BOTH, 0.0227)], 0.0, 1).level == 1, "7/10 of 22.7 ms are too short for 16"
    assert made.next_batch([Work(BOTH, 0.0229)], 0.0, 1).level == 0
    assert made.next_batch([Work(BOTH, 0.0162)], 0.0, 1).level == 0


def turns(made: Scheduler, batches: int, late: bool = True, timely: bool = True) -> str:
    """L for every batch of a late request (4 ms), T for every one of a timely request (16 ms)."""
    queue = [fixed(-1.0, "0.5")] * late + [fixed(1e6)] * timely
    return "".join("L" if made.next_batch(queue, 0.1 * n, 1).late else "T" for n in range(batches))


def test_late_requests_have_a_tenth_of_the_time() -> None:
    """A timely batch owes them 1.6 ms, a late one takes 3.6 ms of it back."""
    assert turns(scheduler(1), 11) == "TLTTLTTLTTL"


def test_neither_side_is_owed_more_than_the_longest_batch() -> None:
    made = scheduler(1)
    turns(made, 100, late=False)
    assert turns(made, 15) == "L" * 14 + "T", "50 ms by 3.6 ms"
    turns(made, 100, timely=False)
    assert turns(made, 33) == "T" * 32 + "L", "50 ms by 1.6 ms"


def test_work_that_is_no_longer_decoded_does_not_count() -> None:
    made = scheduler(1)
    made.decoding_began("a", fixed(0.5))
    assert made.wait_ms(0.0, 1.0, 0.0) == 16.0
    made.decoding_ended("a")
    made.decoding_ended("a")
    assert made.wait_ms(0.0, 1.0, 0.0) == 0.0
