"""What is remembered between two cuts, and what is predicted of the present."""

import pytest

from sfsc_service.engine.batch_plan import LATE_SHARE, Machine, Work
from sfsc_service.engine.costs import CostTable, Measured
from sfsc_service.engine.policy import Choice
from sfsc_service.engine.scheduler import MOST_AROUND, Planner

MS = {"0.25": 1.0, "0.5": 4.0, "1.0": 16.0}
WIDTHS = tuple(MS)
MACHINE = Machine(workers=2, max_batch=8, batch_ms=50.0)


@pytest.fixture
def planner() -> Planner:
    costs = CostTable(WIDTHS)
    for width, ms in MS.items():
        for images in (1, 8):
            costs.measured(width, images, Measured(ms * images, ms * images))
    return Planner(costs, MACHINE)


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
    planner: Planner, target_ms: float, spent_ms: float, ladder: tuple[str, ...]
) -> None:
    assert planner.work(auto(target_ms), at=5.0, spent_ms=spent_ms) == Work(ladder, 5.0 + target_ms / 1000)


def test_what_follows_a_batch_makes_its_request_due_earlier(planner: Planner) -> None:
    assert planner.work(auto(), at=0.0, after_ms=10.0).due == pytest.approx(0.09)
    for _ in range(400):
        planner.answered(4.0)
    assert planner.around_ms == pytest.approx(8.0, rel=0.02)
    assert planner.work(auto(), at=0.0, after_ms=10.0).due == pytest.approx(0.09 - planner.around_ms / 1000)


def test_a_loop_that_lags_takes_no_more_than_a_share_of_the_target(planner: Planner) -> None:
    for _ in range(400):
        planner.answered(500.0)
    assert planner.work(auto(), at=0.0).due == pytest.approx(0.1 * (1 - MOST_AROUND))


def test_what_is_being_decoded_takes_width_until_it_is_there(planner: Planner) -> None:
    waiting = [planner.work(auto(), at=0.0)]
    assert planner.cut(waiting, 0.0, 2).width == "1.0"
    for token in range(12):
        planner.expect(token, planner.work(auto(), at=0.0))
    assert planner.cut(waiting, 0.0, 2).width == "0.5"
    for token in range(12):
        planner.expected(token)
    planner.expected("never announced")
    assert planner.cut([planner.work(auto(), at=1.0)], 1.0, 2).width == "1.0"


def test_a_rate_is_learned_within_some_batches_and_forgotten_as_soon(planner: Planner) -> None:
    work = planner.work(auto(), at=0.0)
    for n in range(200):
        planner.arrived(Work(work.ladder, 0.001 * n + 0.1), 0.001 * n)
    (flow,) = planner.flows(0.2)
    assert (flow.ladder, flow.slack_s) == (work.ladder, pytest.approx(0.1))
    assert 700.0 <= flow.per_s <= 1000.0, "1000 a second, less what chance may have added"
    assert planner.flows(0.5)[0].per_s < 1.0


def test_few_requests_that_come_together_are_no_burst(planner: Planner) -> None:
    queue = [planner.work(auto(), at=0.0)] * 3
    for work in queue:
        planner.arrived(work, 0.0)
    assert planner.cut(queue, 0.0, 2).width == "1.0"


def test_a_burst_takes_width_before_its_work_is_there(planner: Planner) -> None:
    for n in range(20):
        planner.arrived(planner.work(auto(), at=0.001 * n), 0.001 * n)
    assert planner.cut([planner.work(auto(), at=0.02)], 0.02, 2).width == "0.5"
    assert planner.cut([planner.work(auto(), at=0.5)], 0.5, 2).width == "1.0"


def test_busy_workers_make_a_request_wait(planner: Planner) -> None:
    assert planner.wait_ms(0.0, 1.0, 0.0) == 0.0
    planner.cut([explicit("1.0", 1.0)], 0.0, 2)
    assert planner.wait_ms(0.0, 1.0, 0.0) == 0.0, "the other worker is free"
    planner.cut([explicit("1.0", 1.0)], 0.004, 1)
    assert planner.wait_ms(0.0, 1.0, 0.004) == pytest.approx(12.0)
    assert planner.wait_ms(0.0, 1.0, 0.010) == pytest.approx(6.0)
    assert planner.wait_ms(0.0, 1.0, 0.030) == 0.0


def test_only_what_is_more_urgent_makes_a_request_wait(planner: Planner) -> None:
    planner.expect("near", explicit("0.5", 0.5))
    planner.expect("far", explicit("1.0", 2.0))
    near_ms, far_ms = MS["0.5"], MS["0.5"] + MS["1.0"]
    one_of_two = 0.5
    assert planner.wait_ms(0.0, 1.0, 0.0) == pytest.approx(near_ms / 2 + one_of_two * near_ms)
    assert planner.wait_ms(6.0, 3.0, 0.0) == pytest.approx((far_ms + 6) / 2 + one_of_two * (far_ms + 6))


def test_late_requests_get_their_share_of_the_time(planner: Planner) -> None:
    """A late request of 16 ms and a timely one of 1 ms are always there; one worker is free again and again."""
    spent = {True: 0.0, False: 0.0}
    for n in range(400):
        now = 0.01 * n
        cut = planner.cut([explicit("1.0", now - 1.0), explicit("0.25", now + 1.0)], now, 1)
        spent[cut.late] += MS[cut.width] * len(cut.members)
    assert spent[True] / sum(spent.values()) == pytest.approx(LATE_SHARE, rel=0.25)
