"""The readers–writer lock: who may be inside together, who goes first, and that it is released on errors."""

import threading
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from sfsc_service.store.embedded.rwlock import ReadWriteLock

LONG_S = 60.0
# Long enough for a thread to enter where nothing keeps it out: without the lock these tests fail.
MOMENT_S = 0.3


def start_entering(lock: ReadWriteLock, kind: str) -> tuple[threading.Thread, threading.Event]:
    """A thread that enters `shared` or `exclusive`; the event is set once it is inside."""
    entered = threading.Event()

    def enter() -> None:
        with getattr(lock, kind)():
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    return thread, entered


@pytest.mark.parametrize(
    ("inside", "outside"), [("exclusive", "exclusive"), ("exclusive", "shared"), ("shared", "exclusive")]
)
def test_a_writer_is_never_inside_with_anyone_else(inside: str, outside: str) -> None:
    lock = ReadWriteLock()
    with getattr(lock, inside)():
        thread, entered = start_entering(lock, outside)
        assert not entered.wait(MOMENT_S)
    thread.join(LONG_S)
    assert entered.is_set()


def test_readers_are_inside_together() -> None:
    lock = ReadWriteLock()
    with lock.shared():
        thread, entered = start_entering(lock, "shared")
        assert entered.wait(LONG_S)
    thread.join()


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
            while not lock._waiting_writers and not order:
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
    thread, entered = start_entering(lock, "exclusive")
    assert entered.wait(LONG_S)
    thread.join()
