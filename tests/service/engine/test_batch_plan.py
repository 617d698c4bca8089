"""(queue, costs, clock) → (width, members): the rules at the top of engine/batch_plan.py."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_service.engine.batch_plan import ArrivalFlow, Capacity, Load, Work, plan_batch

PER_IMAGE_MS = {"0.25": 0.8, "0.5": 3.1, "0.75": 7.9, "1.0": 13.7}
WIDTHS = tuple(PER_IMAGE_MS)
CAPACITY = Capacity(workers=2, max_batch=32, max_batch_ms=50.0)


def costs(width: str, images: int) -> float:
    """Milliseconds of a batch: a little less per image in larger ones."""
    return PER_IMAGE_MS[width] * (0.2 + 0.8 * images)


def flexible(due: float, ideal: str = "1.0") -> Work:
    return Work(WIDTHS[WIDTHS.index(ideal) :: -1], due)


def explicit(width: str, due: float) -> Work:
    return Work((width,), due)


timely = st.builds(flexible, st.floats(0.5, 2), st.sampled_from(WIDTHS)) | st.builds(
    explicit, st.sampled_from(WIDTHS), st.floats(0.5, 2)
)
works = st.builds(flexible, st.floats(-1, 2), st.sampled_from(WIDTHS)) | st.builds(
    explicit, st.sampled_from(WIDTHS), st.floats(-1, 2)
)
flows = st.builds(
    ArrivalFlow, st.sampled_from([WIDTHS[at::-1] for at in range(4)]), st.floats(0, 5000), st.floats(0, 1)
)
loads = st.builds(
    Load,
    idle=st.integers(1, 4),
    running_ms=st.floats(0, 200),
    decoding=st.lists(works, max_size=20),
    flows=st.lists(flows, max_size=4),
    level=st.integers(0, 5),
    late_deficit_ms=st.floats(-50, 50),
)


def planned(queue: Sequence[Work], load: Load | None = None, capacity: Capacity = CAPACITY) -> tuple[str, int]:
    batch = plan_batch(queue, costs, 0.0, capacity, load or Load())
    return batch.width, len(batch.members)


@given(
    queue=st.lists(works, min_size=1, max_size=60),
    max_batch=st.integers(1, 40),
    max_batch_ms=st.floats(1, 200),
    load=loads,
)
def test_every_plan_keeps_the_rules(queue: list[Work], max_batch: int, max_batch_ms: float, load: Load) -> None:
    queue.sort(key=lambda work: work.due)
    batch = plan_batch(queue, costs, 0.0, Capacity(4, max_batch, max_batch_ms), load)
    assert list(batch.members) == sorted(set(batch.members))
    assert 1 <= len(batch.members) <= max_batch
    assert len(batch.members) == 1 or costs(batch.width, len(batch.members)) <= max_batch_ms
    assert all(batch.width in queue[member].ladder for member in batch.members)
    late = [1000 * work.due < costs(work.ladder[-1], 1) for work in queue]
    assert all(batch.late for member in batch.members if late[member])
    assert all(batch.width == queue[member].ladder[-1] for member in batch.members if batch.late)


@given(queue=st.lists(timely, min_size=1, max_size=20), load=loads)
def test_where_all_can_be_in_time_the_most_urgent_decides_and_nobody_is_passed_over(
    queue: list[Work], load: Load
) -> None:
    """Twenty of the widest take 70 ms of four workers, what runs 50 ms; the most urgent is due in 500 ms."""
    queue.sort(key=lambda work: work.due)
    batch = plan_batch(queue, costs, 0.0, Capacity(4, 32, 50.0), load)
    assert not batch.late
    assert batch.members[0] == 0
    passed = [queue[at] for at in range(batch.members[-1]) if at not in batch.members]
    assert all(work.width_at(batch.level) != batch.width for work in passed)


def test_an_idle_server_gives_the_ideal_width() -> None:
    assert planned([flexible(1.0)], Load(idle=2)) == ("1.0", 1)


def test_load_degrades_flexible_requests_and_not_explicit_ones() -> None:
    queue = [flexible(0.1) for _ in range(50)]
    assert planned(queue)[0] == "0.5"
    assert planned([explicit("1.0", 0.05), *queue])[0] == "1.0"


def test_what_runs_and_what_is_being_decoded_counts() -> None:
    queue = [flexible(0.1)] * 4
    assert planned(queue)[0] == "1.0"
    assert planned(queue, Load(running_ms=150.0))[0] == "0.75"
    assert planned(queue, Load(decoding=[flexible(0.1)] * 12))[0] == "0.75"


@pytest.mark.parametrize(("per_s", "width"), [(100.0, "1.0"), (400.0, "0.75"), (600.0, "0.5"), (2500.0, "0.25")])
def test_what_keeps_arriving_counts(per_s: float, width: str) -> None:
    """Two workers do about 180, 310, 800 and 3100 a second, widest first; for one slack nearly twice that."""
    flow = ArrivalFlow(WIDTHS[::-1], per_s, 0.1)
    assert planned([flexible(0.1)] * 4, Load(flows=[flow]))[0] == width


def test_what_arrives_later_does_not_count_for_what_is_due_earlier() -> None:
    wide = ArrivalFlow(("1.0",), 1000.0, 10.0)
    assert planned([flexible(0.1)] * 4, Load(flows=[wide]))[0] == "1.0"
    assert planned([flexible(0.1), *[explicit("1.0", 60.0)] * 99], Load(decoding=[flexible(0.1)]))[0] == "1.0"


def test_a_narrow_budget_does_not_drag_others_down() -> None:
    hasty = flexible(0.005, ideal="0.25")
    assert plan_batch([hasty, flexible(0.1)], costs, 0.0, CAPACITY, Load()).members == (0,)
    assert planned([hasty, flexible(0.1)])[0] == "0.25"


def test_what_is_late_anyway_gets_its_narrowest_width() -> None:
    assert planned([flexible(-1.0)] * 3)[0] == "0.25"
    assert planned([explicit("1.0", -1.0)] * 3)[0] == "1.0"


@pytest.mark.parametrize(
    ("late_deficit_ms", "member", "late"), [(0.0, 1, False), (1.0, 0, True), (-1.0, 1, False)]
)
def test_late_and_timely_requests_take_turns(late_deficit_ms: float, member: int, late: bool) -> None:
    queue = [explicit("1.0", -1.0), flexible(0.1)]
    batch = plan_batch(queue, costs, 0.0, CAPACITY, Load(late_deficit_ms=late_deficit_ms))
    assert (batch.members, batch.late) == ((member,), late)


def test_as_few_as_possible_become_late() -> None:
    """Four wide ones do not fit in 40 ms with ten narrow ones behind them; the narrow ones are not the victims."""
    queue = [*[explicit("1.0", 0.04)] * 4, *[explicit("0.25", 0.041)] * 10]
    batch = plan_batch(queue, costs, 0.0, Capacity(1, 32, 50.0), Load(late_deficit_ms=-1.0))
    assert (batch.width, batch.late) == ("1.0", False)
    after = plan_batch(queue[:3] + queue[4:], costs, 0.0, Capacity(1, 32, 50.0), Load(late_deficit_ms=1.0))
    assert (after.width, after.late) == ("1.0", True)


def test_free_workers_share_what_waits() -> None:
    queue = [flexible(10.0) for _ in range(8)]
    assert planned(queue, Load(idle=4), Capacity(4, 32, 1e6)) == ("1.0", 2)


def test_a_batch_is_no_larger_than_it_pays() -> None:
    def per_image(width: str, images: int) -> float:
        return PER_IMAGE_MS[width] * images

    queue = [flexible(10.0) for _ in range(8)]
    assert len(plan_batch(queue, per_image, 0.0, CAPACITY, Load()).members) == 1
    assert len(plan_batch(queue, costs, 0.0, Capacity(2, 32, 1e6), Load()).members) == 8


def test_going_wider_needs_room_to_spare_and_going_narrower_does_not() -> None:
    """One request that fits exactly at full width: kept there, but not gone back to."""
    queue = [flexible(costs("1.0", 1) / 1000 * 1.1)]
    assert planned(queue, Load(level=0))[0] == "1.0"
    assert planned(queue, Load(level=1))[0] == "0.75"


@pytest.mark.parametrize("width", WIDTHS)
def test_an_explicit_width_is_kept_whatever_the_load(width: str) -> None:
    queue = [explicit(width, 0.01 * at) for at in range(100)]
    assert planned(queue, Load(level=3, running_ms=500.0))[0] == width
