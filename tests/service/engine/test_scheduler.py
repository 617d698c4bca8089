"""What is remembered between two cuts, and what is predicted of the present."""

import pytest

from sfsc_service.engine.batch_plan import Capacity, Work
from sfsc_service.engine.costs import CostTable, Measured
from sfsc_service.engine.late_share import LATE_SHARE
from sfsc_service.engine.policy import Choice
from sfsc_service.engine.scheduler import MAX_RESERVED_SHARE, Scheduler

MS = {"0.25": 1.0, "0.5": 4.0, "1.0": 16.0}
WIDTHS = tuple(MS)
CAPACITY = Capacity(workers=2, max_batch=8, max_batch_ms=50.0)


@pytest.fixture
def scheduler() -> Scheduler:
    costs = CostTable(WIDTHS)
    for width, ms in MS.items():
        for images in (1, 8):
            costs.set_measured(width, images, Measured(ms * images, ms * images))
    return Scheduler(costs, CAPACITY)


def auto(target_ms: float = 100.0) -> Choice:
    return Choice(WIDTHS, "budget", target_ms, True)


def explicit(width: str, due: float) -> Work:
    return Work((width,), due)


@pytest.mark.parametrize(
    ("target_ms", "spent_ms", "ladder"),
    [
        (100.0, 0.0, ("1.0", "0.5", "0.25")),
        (100.0, 90.0, ("0.5", "0.25")),
        (10.0, 0.0, ("0.5", "0.25")),
        (0.1, 0.0, ("0.25",)),
    ],
)
def test_a_ladder_begins_at_what_an_idle_server_would_take(
    scheduler: Scheduler, target_ms: float, spent_ms: float, ladder: tuple[str, ...]
) -> None:
    assert scheduler.work(auto(target_ms), at=5.0, spent_ms=spent_ms) == Work(ladder, 5.0 + target_ms / 1000)


def test_what_follows_a_batch_makes_its_request_due_earlier(scheduler: Scheduler) -> None:
    assert scheduler.work(auto(), at=0.0, after_ms=10.0).due == pytest.approx(0.09)
    for _ in range(400):
        scheduler.observe_return(4.0)
    assert scheduler.overhead_ms == pytest.approx(8.0, rel=0.02)
    assert scheduler.work(auto(), at=0.0, after_ms=10.0).due == pytest.approx(0.09 - scheduler.overhead_ms / 1000)


def test_a_loop_that_lags_takes_no_more_than_a_share_of_the_target(scheduler: Scheduler) -> None:
    for _ in range(400):
        scheduler.observe_return(500.0)
    assert scheduler.work(auto(), at=0.0).due == pytest.approx(0.1 * (1 - MAX_RESERVED_SHARE))


def test_what_is_being_decoded_takes_width_until_it_is_there(scheduler: Scheduler) -> None:
    waiting = [scheduler.work(auto(), at=0.0)]
    assert scheduler.next_batch(waiting, 0.0, 2).width == "1.0"
    for token in range(12):
        scheduler.decoding_began(token, scheduler.work(auto(), at=0.0))
    assert scheduler.next_batch(waiting, 0.0, 2).width == "0.5"
    for token in range(12):
        scheduler.decoding_ended(token)
    scheduler.decoding_ended("never announced")
    assert scheduler.next_batch([scheduler.work(auto(), at=1.0)], 1.0, 2).width == "1.0"


def test_a_rate_is_learned_within_some_batches_and_forgotten_as_soon(scheduler: Scheduler) -> None:
    work = scheduler.work(auto(), at=0.0)
    for n in range(200):
        scheduler.observe_arrival(Work(work.ladder, 0.001 * n + 0.1), 0.001 * n)
    (flow,) = scheduler.flows(0.2)
    assert (flow.ladder, flow.slack_s) == (work.ladder, pytest.approx(0.1))
    assert 700.0 <= flow.per_s <= 1000.0, "1000 a second, less what chance may have added"
    assert scheduler.flows(0.5)[0].per_s < 1.0


def test_few_requests_that_come_together_are_no_burst(scheduler: Scheduler) -> None:
    queue = [scheduler.work(auto(), at=0.0)] * 3
    for work in queue:
        scheduler.observe_arrival(work, 0.0)
    assert scheduler.next_batch(queue, 0.0, 2).width == "1.0"


def test_a_burst_takes_width_before_its_work_is_there(scheduler: Scheduler) -> None:
    for n in range(20):
        scheduler.observe_arrival(scheduler.work(auto(), at=0.001 * n), 0.001 * n)
    assert scheduler.next_batch([scheduler.work(auto(), at=0.02)], 0.02, 2).width == "0.5"
    assert scheduler.next_batch([scheduler.work(auto(), at=0.5)], 0.5, 2).width == "1.0"


def test_busy_workers_make_a_request_wait(scheduler: Scheduler) -> None:
    assert scheduler.wait_ms(0.0, 1.0, 0.0) == 0.0
    scheduler.next_batch([explicit("1.0", 1.0)], 0.0, 2)
    assert scheduler.wait_ms(0.0, 1.0, 0.0) == 0.0, "the other worker is free"
    scheduler.next_batch([explicit("1.0", 1.0)], 0.004, 1)
    assert scheduler.wait_ms(0.0, 1.0, 0.004) == pytest.approx(12.0)
    assert scheduler.wait_ms(0.0, 1.0, 0.010) == pytest.approx(6.0)
    assert scheduler.wait_ms(0.0, 1.0, 0.030) == 0.0


def test_only_what_is_more_urgent_makes_a_request_wait(scheduler: Scheduler) -> None:
    scheduler.decoding_began("near", explicit("0.5", 0.5))
    scheduler.decoding_began("far", explicit("1.0", 2.0))
    near_ms, far_ms = MS["0.5"], MS["0.5"] + MS["1.0"]
    one_of_two = 0.5
    assert scheduler.wait_ms(0.0, 1.0, 0.0) == pytest.approx(near_ms / 2 + one_of_two * near_ms)
    assert scheduler.wait_ms(6.0, 3.0, 0.0) == pytest.approx((far_ms + 6) / 2 + one_of_two * (far_ms + 6))


def test_late_requests_get_their_share_of_the_time(scheduler: Scheduler) -> None:
    """A late request of 16 ms and a timely one of 1 ms are always there; one worker is free again and again."""
    spent = {True: 0.0, False: 0.0}
    for n in range(400):
        now = 0.01 * n
        batch = scheduler.next_batch([explicit("1.0", now - 1.0), explicit("0.25", now + 1.0)], now, 1)
        spent[batch.late] += MS[batch.width] * len(batch.members)
    assert spent[True] / sum(spent.values()) == pytest.approx(LATE_SHARE, rel=0.25)
