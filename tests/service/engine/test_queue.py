"""What a plan gets to see of the queue."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfsc_service.engine.queue import QueueEntry, RequestQueue


def queue_of(dues: list[float], loop: asyncio.AbstractEventLoop, expires: float | None = None) -> Any:
    queue: RequestQueue[str, int] = RequestQueue()
    for payload, due in enumerate(dues):
        queue.insert(QueueEntry(payload, "work", due, expires, 1.0, 0.0, loop.create_future()))
    return queue


@given(dues=st.lists(st.integers(-50, 50), max_size=60), count=st.integers(2, 40))
def test_a_view_is_of_the_most_urgent_and_of_what_can_still_be_in_time(dues: list[int], count: int) -> None:
    loop = asyncio.new_event_loop()
    try:
        queue = queue_of([float(due) for due in dues], loop)
        view = queue.most_urgent(count, 0.0)
    finally:
        loop.close()
    positions = [at for at, _ in view]
    assert positions == sorted(set(positions))
    assert len(positions) == min(count, len(dues)), "no place of the view is left empty"
    assert [entry.due for _, entry in view] == [sorted(dues)[at] for at in positions]
    assert not dues or positions[0] == 0, "the most urgent is always seen"
    timely = sum(due >= 0 for due in dues)
    seen = sum(entry.due >= 0 for _, entry in view)
    assert seen >= min(timely, count // 2), "however many are overdue"


def test_weights_ahead_are_those_of_what_is_more_urgent() -> None:
    loop = asyncio.new_event_loop()
    try:
        queue = queue_of([1.0, 2.0, 3.0, 3.0], loop)
        assert [queue.backlog_before_ms(due) for due in (0.5, 1.5, 3.0, 4.0)] == [0.0, 1.0, 2.0, 4.0]
    finally:
        loop.close()


def test_an_entry_that_is_removed_takes_its_cost_with_it_and_nobody_elses() -> None:
    loop = asyncio.new_event_loop()
    try:
        queue = queue_of([2.0, 1.0, 2.0, 2.0, 3.0], loop)
        by_payload = {entry.payload: entry for _, entry in queue.most_urgent(5, 0.0)}
        for payload, left in ((2, [1, 0, 3, 4]), (4, [1, 0, 3]), (1, [0, 3])):
            queue.remove(by_payload[payload])
            assert not by_payload[payload].waiting
            assert [entry.payload for _, entry in queue.most_urgent(5, 0.0)] == left
            assert queue.backlog_ms(bulk=False) == len(left)
            assert queue.backlog_before_ms(2.5) == sum(payload in (0, 1, 2, 3) for payload in left)
    finally:
        loop.close()


@pytest.mark.parametrize("now", [0.0, 10.0])
def test_what_expired_is_taken_out_of_the_whole_view(now: float) -> None:
    loop = asyncio.new_event_loop()
    try:
        queue = queue_of([-3.0, -2.0, -1.0, 1.0, 2.0], loop, expires=5.0)
        dead = queue.take_dropped(4, now)
        assert [entry.payload for entry, _ in dead] == ([] if now < 5 else [0, 1, 2, 3])
        assert {cause for _, cause in dead} <= {"deadline_passed"}
    finally:
        loop.close()
