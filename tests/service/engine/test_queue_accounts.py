"""What the queue keeps account of: order, backlog by priority, positions, and why an entry is dropped."""

import asyncio
from collections.abc import Iterator

import pytest

from sfsc_service.engine.queue import QueueEntry, RequestQueue

Entry = QueueEntry[str, str]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def entry(
    loop: asyncio.AbstractEventLoop,
    payload: str,
    due: float = 1.0,
    cost_ms: float = 1.0,
    expires: float | None = None,
) -> Entry:
    return QueueEntry(payload, "work", due, expires, cost_ms, 0.0, loop.create_future())


def filled(entries: list[Entry]) -> RequestQueue[str, str]:
    queue: RequestQueue[str, str] = RequestQueue()
    for each in entries:
        queue.insert(each)
    return queue


def payloads(entries: list[Entry]) -> str:
    return "".join(each.payload for each in entries)


def test_an_empty_queue_has_no_backlog() -> None:
    queue: RequestQueue[str, str] = RequestQueue()
    assert (len(queue), queue.backlog_ms(bulk=False), queue.backlog_ms(bulk=True)) == (0, 0.0, 0.0)
    assert queue.most_urgent(4, 0.0) == []
    assert queue.take_dropped(4, 0.0) == []


def test_bulk_does_not_count_against_what_is_not_bulk(loop: asyncio.AbstractEventLoop) -> None:
    bulk = entry(loop, "b", cost_ms=8.0)
    bulk.bulk = True
    queue = filled([entry(loop, "a", cost_ms=2.0), bulk])
    assert (queue.backlog_ms(bulk=False), queue.backlog_ms(bulk=True)) == (2.0, 10.0)
    queue.take([0])
    assert (queue.backlog_ms(bulk=False), queue.backlog_ms(bulk=True)) == (0.0, 8.0)
    queue.insert(entry(loop, "c", cost_ms=4.0))
    queue.take([0])
    assert (queue.backlog_ms(bulk=False), queue.backlog_ms(bulk=True)) == (4.0, 4.0)


def test_an_entry_that_was_taken_no_longer_counts_or_waits(loop: asyncio.AbstractEventLoop) -> None:
    entries = [entry(loop, name, due=due, cost_ms=due) for name, due in (("a", 1.0), ("b", 2.0), ("c", 4.0))]
    queue = filled(entries)
    assert all(each.waiting and not each.bulk for each in entries)
    assert payloads(queue.take([2, 0, 2])) == "ac"
    assert [each.waiting for each in entries] == [False, True, False]
    assert (len(queue), queue.backlog_ms(bulk=False)) == (1, 2.0)
    assert [queue.backlog_before_ms(due) for due in (2.0, 2.1)] == [0.0, 2.0]


def test_what_is_equally_urgent_is_not_before(loop: asyncio.AbstractEventLoop) -> None:
    queue = filled([entry(loop, name, 2.0) for name in "abcd"])
    assert [queue.backlog_before_ms(due) for due in (2.0, 2.1)] == [0.0, 4.0]


def test_rounding_errors_do_not_add_up(loop: asyncio.AbstractEventLoop) -> None:
    queue = filled([entry(loop, "a", cost_ms=cost_ms) for cost_ms in (0.1, 0.2, 0.3)])
    queue.take([0, 1, 2])
    assert (queue.backlog_ms(bulk=False), queue.backlog_ms(bulk=True)) == (0.0, 0.0)


def test_equally_urgent_entries_keep_the_order_of_their_arrival(loop: asyncio.AbstractEventLoop) -> None:
    queue = filled([entry(loop, name, due) for name, due in (("c", 2.0), ("a", 1.0), ("d", 2.0), ("b", 1.0))])
    assert payloads(queue.take([0, 1, 2, 3])) == "abcd"


@pytest.mark.parametrize(
    ("overdue", "timely", "count", "seen"),
    [
        (0, 5, 4, [0, 1, 2, 3]),
        (2, 9, 5, [0, 1, 2, 3, 4]),
        (2, 3, 4, [0, 1, 2, 3]),
        (3, 4, 4, [0, 1, 3, 4]),
        (5, 1, 4, [0, 1, 2, 5]),
        (5, 0, 4, [0, 1, 2, 3]),
        (3, 9, 5, [0, 1, 2, 3, 4]),
        (4, 9, 5, [0, 1, 2, 4, 5]),
    ],
)
def test_overdue_entries_fill_at_most_half_of_what_is_seen_while_others_wait(
    loop: asyncio.AbstractEventLoop, overdue: int, timely: int, count: int, seen: list[int]
) -> None:
    dues = [*[0.0] * timely, *[-1.0] * overdue]  # due now is not overdue, however early it arrived
    queue = filled([entry(loop, "x", due) for due in dues])
    assert [at for at, _ in queue.most_urgent(count, 0.0)] == seen
    assert len(queue) == len(dues)


def test_an_entry_expires_at_its_time_and_not_before(loop: asyncio.AbstractEventLoop) -> None:
    assert entry(loop, "a").drop_reason(1e9) is None
    assert entry(loop, "a", expires=5.0).drop_reason(4.9) is None
    assert entry(loop, "a", expires=5.0).drop_reason(5.0) == "deadline_passed"


def test_what_has_waited_for_too_long_is_dropped_with_what_expired(loop: asyncio.AbstractEventLoop) -> None:
    late, patient = entry(loop, "a", 1.0), entry(loop, "b", 2.0)
    late.times_out, patient.times_out = 5.0, 6.0
    queue = filled([late, patient])
    assert queue.take_dropped(4, 4.9) == []
    assert [(each.payload, reason) for each, reason in queue.take_dropped(4, 5.0)] == [("a", "queue_timeout")]
    assert payloads(queue.take([0])) == "b"


def test_every_dropped_entry_has_its_own_reason(loop: asyncio.AbstractEventLoop) -> None:
    gone, answered = entry(loop, "b", 2.0), entry(loop, "d", 4.0)
    queue = filled([entry(loop, "a", 1.0), gone, entry(loop, "c", 3.0, expires=0.5), answered])
    assert queue.take_dropped(4, 0.0) == []
    gone.future.cancel()
    answered.future.set_result(None)
    dropped = [(each.payload, reason) for each, reason in queue.take_dropped(3, 1.0)]
    assert dropped == [("b", "client_gone"), ("c", "deadline_passed")]
    assert [(each.payload, reason) for each, reason in queue.take_dropped(3, 1.0)] == [("d", "deadline_passed")]
    assert payloads(queue.take([0])) == "a"


def test_an_entry_is_removed_from_among_equally_urgent_ones(loop: asyncio.AbstractEventLoop) -> None:
    entries = [entry(loop, name, due) for name, due in (("a", 1.0), ("b", 2.0), ("c", 2.0), ("d", 3.0))]
    queue = filled(entries)
    queue.remove(entries[2])
    assert not entries[2].waiting
    queue.remove(entries[0])
    assert payloads(queue.take([0, 1])) == "bd"
