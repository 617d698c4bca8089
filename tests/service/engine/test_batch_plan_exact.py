"""Where a plan changes, to the digit: each rule of the planner with numbers that meet its limit exactly."""

import pytest

from sfsc_service.engine.batch_plan import ArrivalFlow, BatchPlan, Capacity, Load, Work, plan_batch

BOTH = ("1.0", "0.5")
ONE_BY_ONE = Capacity(workers=1, max_batch=1, max_batch_ms=1e9)
MS = {"1.0": 10.0, "0.5": 4.0}
NOW = 5.0


def in_proportion(width: str, images: int) -> float:
    return MS[width] * images


def work(slack_ms: float, ladder: tuple[str, ...] = BOTH) -> Work:
    return Work(ladder, NOW + slack_ms / 1000)


def plan(queue: list[Work], capacity: Capacity = ONE_BY_ONE, load: Load | None = None) -> BatchPlan:
    return plan_batch(queue, in_proportion, NOW, capacity, load or Load())


def level(count: int, slack_ms: float, capacity: Capacity = ONE_BY_ONE, load: Load | None = None) -> int:
    return plan([work(slack_ms)] * count, capacity, load).level


def size_of(
    costs: dict[int, float], queued: int, slack_ms: float = 1e6, capacity: Capacity | None = None, idle: int = 1
) -> int:
    """How many of so many equal requests the batch takes when a batch costs that."""
    capacity = capacity or Capacity(workers=1, max_batch=64, max_batch_ms=1e9)
    queue = [work(slack_ms, ("1.0",))] * queued
    return len(plan_batch(queue, lambda _, images: costs[images], NOW, capacity, Load(idle=idle)).members)


def test_without_other_news_one_worker_is_idle_and_nothing_else_is_going_on() -> None:
    assert Load() == Load(idle=1, running_ms=0.0, decoding=(), flows=(), level=0, late_deficit_ms=0.0)


def test_a_width_is_so_many_steps_down_the_ladder_and_no_further() -> None:
    three = Work(("1.0", "0.5", "0.25"), 0.0)
    assert [three.width_at(steps) for steps in (0, 1, 2, 3, 99)] == ["1.0", "0.5", "0.25", "0.25", "0.25"]


@pytest.mark.parametrize(
    ("count", "slack_ms", "expected"), [(1, 10.0, 0), (1, 9.9, 1), (3, 30.0, 0), (3, 29.9, 1), (3, 12.1, 1)]
)
def test_requests_are_in_time_up_to_their_due(count: int, slack_ms: float, expected: int) -> None:
    assert level(count, slack_ms + 1e-6, load=None) == expected


@pytest.mark.parametrize(
    ("load", "needed_ms"),
    [
        (Load(running_ms=5.0), 35.0),
        (Load(decoding=[work(29.0)]), 40.0),
        (Load(decoding=[work(1e6)]), 30.0),
        (Load(decoding=[work(1.0, ("1.0",))]), 40.0),
    ],
    ids=["running", "being decoded and more urgent", "being decoded and less urgent", "fixed and late anyway"],
)
def test_what_comes_before_counts(load: Load, needed_ms: float) -> None:
    assert level(3, needed_ms + 1e-6, load=load) == 0
    assert level(3, needed_ms - 0.1, load=load) == 1


def test_two_workers_share_the_work_and_a_batch_is_ready_when_its_own_worker_is() -> None:
    two = Capacity(workers=2, max_batch=1, max_batch_ms=1e9)
    assert level(3, 20.0 + 1e-6, two) == 0, "3 × 10 / 2, and half of its own 10 ms"
    assert level(3, 19.9, two) == 1
    busy = Load(running_ms=11.0)
    assert level(3, 25.5 + 1e-6, two, busy) == 0
    assert level(3, 25.4, two, busy) == 1


@pytest.mark.parametrize(("workers", "decoding"), [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)])
def test_an_image_costs_its_part_of_the_batch_that_a_worker_will_make(workers: int, decoding: int) -> None:
    """A batch of n takes 40 + 2 n ms at full width; what is being decoded will be in it, after the others."""
    capacity, load = Capacity(workers, 64, 1e9), Load(decoding=[work(1e6)] * decoding)
    costs = {"1.0": lambda n: 40.0 + 2 * n, "0.5": lambda n: 1.0 * n}

    def planned(slack_ms: float) -> int:
        queue = [work(slack_ms)] * 2
        return plan_batch(queue, lambda width, n: costs[width](n), NOW, capacity, load).level

    size = -(-(2 + decoding) // workers)
    batch_ms = 40.0 + 2 * size
    exact = 2 * batch_ms / size / workers + batch_ms * (1 - 1 / workers)
    assert planned(exact + 1e-6) == 0
    assert planned(exact - 0.01) == 1


@pytest.mark.parametrize(
    ("before", "slack_ms", "expected"), [(0, 70.1, 0), (1, 100.1, 0), (1, 99.9, 1), (0, 69.9, 1)]
)
def test_going_wider_again_needs_the_work_within_seven_tenths_of_the_slack(
    before: int, slack_ms: float, expected: int
) -> None:
    assert level(7, slack_ms, load=Load(level=before)) == expected


@pytest.mark.parametrize(("per_s", "expected"), [(199.0, 0), (201.0, 1)])
def test_a_flow_counts_for_twice_its_slack_at_half_its_number(per_s: float, expected: int) -> None:
    """200 a second with 100 ms of slack are 20 requests, due in 200 ms; one more than that is not in time."""
    flow = ArrivalFlow(BOTH, per_s, 0.1)
    assert plan([work(1e6)], load=Load(flows=[flow])).level == expected


def test_a_flow_comes_before_what_is_due_after_it() -> None:
    flow = ArrivalFlow(("1.0",), 150.0, 0.1)
    assert plan([work(199.0)], load=Load(flows=[flow])).level == 0
    assert plan([work(201.0)], load=Load(flows=[flow])).level == 0
    flow = ArrivalFlow(("1.0",), 195.0, 0.1)
    assert plan([work(199.0)], load=Load(flows=[flow])).level == 0
    assert plan([work(201.0)], load=Load(flows=[flow])).level == 1


def test_what_is_ready_exactly_when_it_is_due_is_in_time() -> None:
    """At time 0, where milliseconds of these dues are exact."""

    def at_zero(count: int, due: float) -> BatchPlan:
        return plan_batch([Work(BOTH, due)] * count, in_proportion, 0.0, ONE_BY_ONE, Load())

    assert at_zero(3, 0.03) == BatchPlan("1.0", (0,), 0, late=False)
    assert at_zero(1, 0.004) == BatchPlan("0.5", (0,), 1, late=False)


def test_a_request_that_does_not_reach_its_due_at_the_narrowest_width_is_late() -> None:
    assert not plan([work(4.0 + 1e-6)]).late
    assert plan([work(3.999)]).late


def test_where_no_level_is_enough_it_is_the_deepest_that_a_timely_request_has() -> None:
    hopeless = Load(decoding=[work(1.0)] * 9)
    assert plan([work(100.0)], load=hopeless).level == 1
    assert plan([work(100.0, ("1.0",))], load=hopeless).level == 0
    assert plan([work(-1.0)], load=hopeless).level == 0, "none is timely"


def test_the_costliest_request_becomes_late_where_not_all_can_be_in_time() -> None:
    queue = [work(14.0, ("1.0",)), work(14.1, ("0.5",)), work(14.2, ("0.5",))]
    assert plan(queue) == BatchPlan("0.5", (1,), 0, late=False)
    assert plan(queue, load=Load(late_deficit_ms=0.1)) == BatchPlan("1.0", (0,), 0, late=True)
    assert not plan([work(18.1, each.ladder) for each in queue], load=Load(late_deficit_ms=0.1)).late


def test_giving_up_the_costliest_makes_room_for_all_that_it_costs() -> None:
    """10 ms are given up; the four of 4 ms that are left just fit, in nine tenths of the time."""
    queue = [work(14.0, ("1.0",)), *[work(slack_ms, ("0.5",)) for slack_ms in (14.1, 14.2, 14.3, 17.85)]]
    assert plan(queue).members == (1,)
    assert plan([*queue[:4], work(17.7, ("0.5",))]).members == (2,)


def test_what_runs_makes_requests_late_too() -> None:
    two = Capacity(2, 1, 1e9)
    queue = [work(10.1, ("1.0",)), work(10.2, ("1.0",))]
    assert not plan(queue, two, Load(running_ms=0.1, late_deficit_ms=1.0)).late
    assert plan(queue, two, Load(running_ms=1.0, late_deficit_ms=1.0)).late
    assert not plan(queue, two, Load(running_ms=0.3, late_deficit_ms=1.0)).late


@pytest.mark.parametrize(
    ("slack_ms", "given_up", "alone"), [(100.1, 0, 0), (99.9, 1, 0), (90.1, 1, 0), (89.9, 1, 1), (88.8, 2, 2)]
)
def test_beside_late_requests_the_others_have_nine_tenths_of_the_time(
    slack_ms: float, given_up: int, alone: int
) -> None:
    """Nine of 10 ms each; of equally costly ones the most urgent are given up."""
    queue = [work(-1.0, ("1.0",)), *[work(slack_ms, ("1.0",))] * 9]
    assert plan(queue).members == (1 + given_up,)
    assert plan(queue[1:]).members == (alone,)


def test_beside_late_requests_a_level_is_planned_with_nine_tenths_of_the_time() -> None:
    late = work(-1.0, ("0.5",))
    assert plan([late, *[work(100.1)] * 9]).level == 0
    assert plan([late, *[work(99.9)] * 9]).level == 1
    assert plan([work(99.9)] * 9).level == 0


@pytest.mark.parametrize(("deficit_ms", "first"), [(0.1, 0), (0.0, 1), (-0.1, 1)])
def test_late_requests_have_their_turn_while_they_are_owed_time(deficit_ms: float, first: int) -> None:
    queue = [work(-1.0), work(1e3), work(-1.0 + 1e4)]
    batch = plan(queue, load=Load(late_deficit_ms=deficit_ms))
    assert batch.members == (first,)
    assert batch.width == ("0.5" if first == 0 else "1.0")


@pytest.mark.parametrize("deficit_ms", [1.0, -1.0])
def test_where_all_are_late_or_none_is_the_most_urgent_one_comes_first(deficit_ms: float) -> None:
    load = Load(late_deficit_ms=deficit_ms)
    assert plan([work(-2.0), work(-1.0)], load=load) == BatchPlan("0.5", (0,), 0, late=True)
    assert plan([work(1e3), work(2e3)], load=load) == BatchPlan("1.0", (0,), 0, late=False)


def test_a_batch_holds_the_members_of_its_width_that_are_late_or_timely_like_the_first() -> None:
    queue = [work(-1.0, ("0.5",)), work(1e3, ("1.0",)), work(2e3, ("0.5",)), work(3e3), work(4e3, ("1.0",))]
    capacity = Capacity(1, 64, 1e9)

    def cheap(_width: str, images: int) -> float:
        return 1.0 + 0.1 * images

    assert plan_batch(queue, cheap, NOW, capacity, Load()).members == (1, 3, 4)
    assert plan_batch(queue, cheap, NOW, capacity, Load(late_deficit_ms=1.0)).members == (0,)


def test_a_late_request_does_not_fill_the_batch_of_a_timely_one_before_it() -> None:
    """Batches of two cost hardly more than one, larger ones far more. The last request is given up."""
    costs = {"1.0": {1: 10.0, 2: 10.5}, "0.5": {1: 4.0, 2: 4.1}}
    queue = [work(11.0), *[work(11.5, ("0.5",))] * 9, work(12.0, ("1.0",))]
    capacity = Capacity(workers=2, max_batch=64, max_batch_ms=1e9)
    batch = plan_batch(queue, lambda width, images: costs[width].get(images, 1e6), NOW, capacity, Load())
    assert batch == BatchPlan("1.0", (0,), 0, late=False)


@pytest.mark.parametrize(("slack_ms", "size"), [(30.01, 2), (29.99, 1), (25.0, 1), (20.0 + 1e-6, 1)])
def test_a_batch_ends_before_its_first_member_is_due(slack_ms: float, size: int) -> None:
    costs = {1: 20.0, 2: 30.0}
    queue = [work(slack_ms, ("1.0",)), work(1e6, ("1.0",))]
    batch = plan_batch(queue, lambda _, images: costs[images], NOW, Capacity(1, 64, 1e9), Load())
    assert batch.members == tuple(range(size))


def test_a_first_member_that_is_ready_exactly_when_it_is_due_is_not_delayed() -> None:
    costs = {1: 20.0, 2: 30.0}
    queue = [Work(("1.0",), 0.02), Work(("1.0",), 1e3)]
    assert plan_batch(queue, lambda _, images: costs[images], 0.0, Capacity(1, 64, 1e9), Load()).members == (0,)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({1: 20.0, 2: 39.0}, 2),
        ({1: 20.0, 2: 39.1}, 1),
        ({1: 5.0, 2: 10.0}, 2),
        ({1: 5.0, 2: 10.1}, 1),
        ({1: 5.0, 2: 9.9}, 2),
    ],
    ids=["just cheaper", "too little gain", "short", "no longer short", "below short"],
)
def test_a_batch_grows_while_it_is_short_or_images_get_cheaper(costs: dict[int, float], expected: int) -> None:
    assert size_of(costs, 2) == expected


def test_growth_compares_the_images_added_with_those_before_them() -> None:
    cheap = {1: 20.0, 2: 30.0}
    assert size_of({**cheap, 3: 44.0}, 3) == 3
    assert size_of({**cheap, 3: 44.5}, 3) == 2
    assert size_of({**cheap, 4: 58.0}, 4) == 4
    assert size_of({**cheap, 4: 59.0}, 4) == 2
    assert size_of({**cheap, 4: 50.0, 7: 84.0}, 7) == 7
    assert size_of({**cheap, 4: 50.0, 7: 86.0}, 7) == 4
    assert size_of({**cheap, 4: 50.0, 8: 90.0, 16: 260.0}, 16) == 8, "twice as many at a time"


@pytest.mark.parametrize(
    ("max_batch_ms", "slack_ms", "expected"),
    [
        (30.0, 1e6, 2),
        (29.9, 1e6, 1),
        (1e9, 30.1, 2),
        (1e9, 29.9, 1),
        (1e9, 19.9, 2),
        (29.9, 19.9, 1),
        (1e9, 20.1, 1),
    ],
)
def test_a_batch_is_within_the_longest_and_within_the_slack_of_a_timely_first(
    max_batch_ms: float, slack_ms: float, expected: int
) -> None:
    costs = {1: 20.0, 2: 30.0}
    assert size_of(costs, 2, slack_ms, Capacity(1, 64, max_batch_ms)) == expected


@pytest.mark.parametrize(
    ("queued", "idle", "max_batch", "expected"),
    [
        (8, 4, 64, 2),
        (9, 4, 64, 3),
        (8, 1, 64, 8),
        (8, 0, 64, 8),
        (8, 1, 4, 4),
        (8, 2, 3, 3),
        (1, 4, 64, 1),
        (3, 4, 64, 1),
    ],
)
def test_idle_workers_share_what_fits(queued: int, idle: int, max_batch: int, expected: int) -> None:
    costs = dict.fromkeys(range(1, 65), 1.0)
    assert size_of(costs, queued, capacity=Capacity(4, max_batch, 1e9), idle=idle) == expected
