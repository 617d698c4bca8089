"""The readers–writer lock: who may be inside together, who goes first, and that it is released on errors."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import sleep

import pytest

from sfsc_service.store.embedded.index.rwlock import ReadWriteLock

LONG_S = 60.0
# Long enough for a thread to enter where nothing keeps it out: without the lock these tests fail.
MOMENT_S = 0.3


@contextmanager
def other_thread(lock: ReadWriteLock, kind: str) -> Iterator[threading.Event]:
    """Another thread that enters `shared` or `exclusive`; the event is set once it is inside."""
    entered = threading.Event()

    def enter() -> None:
        with getattr(lock, kind)():
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    yield entered
    thread.join(LONG_S)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("inside", "outside"), [("exclusive", "exclusive"), ("exclusive", "shared"), ("shared", "exclusive")]
)
def test_a_writer_is_never_inside_with_anyone_else(inside: str, outside: str) -> None:
    lock = ReadWriteLock()
    with getattr(lock, inside)():
        waiting = other_thread(lock, outside)
        entered = waiting.__enter__()
        assert not entered.wait(MOMENT_S)
    assert entered.wait(LONG_S)
    waiting.__exit__(None, None, None)


def test_readers_are_inside_together() -> None:
    lock = ReadWriteLock()
    with lock.shared(), other_thread(lock, "shared") as entered:
        assert entered.wait(LONG_S)


def test_changes_of_several_writers_do_not_overlap() -> None:
    lock, count = ReadWriteLock(), 0

    def change() -> None:
        nonlocal count
        for _ in range(20):
            with lock.exclusive():
                before = count
                sleep(0.0005)  # lets others run: without the lock they would read the same number
                count = before + 1

    with ThreadPoolExecutor(3) as pool:
        for call in [pool.submit(change) for _ in range(3)]:
            call.result()
    assert count == 60


def test_a_waiting_writer_goes_before_readers_that_come_after_it() -> None:
    lock, order = ReadWriteLock(), []

    def write() -> None:
        with lock.exclusive():
            order.append("writer")

    def read() -> None:
        with lock.shared():
            order.append("reader")

    with ThreadPoolExecutor(2) as pool:
        with lock.shared():
            calls = [pool.submit(write)]
            while not lock._waiting_writers:
                sleep(0.001)
            calls.append(pool.submit(read))
            sleep(MOMENT_S)
            assert order == []
        for call in calls:
            call.result(LONG_S)
    assert order == ["writer", "reader"]


@pytest.mark.parametrize("kind", ["shared", "exclusive"])
def test_an_error_inside_releases_the_lock(kind: str) -> None:
    lock = ReadWriteLock()
    with pytest.raises(ZeroDivisionError), getattr(lock, kind)():
        _ = 1 / 0
    with other_thread(lock, "exclusive") as entered:
        assert entered.wait(LONG_S)
