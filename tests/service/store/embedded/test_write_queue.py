"""The writer thread: groups, failures that stay with their cause, and a thread that outlives everything."""

import resource
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded.changes import AppliedChange
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.write_queue import WriteQueue, WriteRequest
from sfsc_service.store.protocol import Item, Outcome
from tests.service.store.agreement import assert_agrees, image_of
from tests.service.store.conftest import break_sqlite_commits
from tests.service.store.embedded.test_images import files
from tests.service.store.making import DIMENSION, SPACE, make_item, make_items
from tests.service.store.oracle import Oracle


class Held:
    """Keeps the writer thread from its next group, so that what is called meanwhile falls into one."""

    def __init__(self, store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[int] = []
        self._entered, self._go = threading.Event(), threading.Event()
        self._work = store._writes._handle
        monkeypatch.setattr(store._writes, "_handle", self._hold)
        self._store = store

    def _hold(self, jobs: list[WriteRequest]) -> None:
        self.groups.append(len(jobs))
        if len(self.groups) == 1:
            self._entered.set()
            assert self._go.wait(60)
        self._work(jobs)

    def __enter__(self) -> "Held":
        self._blocked = threading.Thread(target=self._store.upsert, args=([make_item("first")],))
        self._blocked.start()
        assert self._entered.wait(60)
        return self

    def wait_for_queue(self, calls: int) -> None:
        writer = self._store._writes
        with writer._changed:
            assert writer._changed.wait_for(lambda: len(writer._requests) >= calls, 60)

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._blocked.join()


def test_waiting_calls_are_committed_together_and_answered_one_by_one(
    embedded: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.upsert([make_item("there", 1)])
    with ThreadPoolExecutor(6) as pool, Held(embedded, monkeypatch) as held:
        calls: list[Any] = [pool.submit(embedded.upsert, [make_item(f"new-{i}", i)]) for i in range(3)]
        calls.append(pool.submit(embedded.upsert, [make_item("there", 2), make_item("other", 3)]))
        calls.append(pool.submit(embedded.delete, ["nowhere"]))
        held.wait_for_queue(5)
        held._go.set()
        answers = [call.result() for call in calls]
    assert held.groups[1] == 5
    assert answers == [[Outcome.CREATED]] * 3 + [[Outcome.REPLACED, Outcome.CREATED], [False]]
    assert embedded.count() == 6


def test_a_change_that_fails_in_a_group_fails_alone(
    embedded: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert = DatabaseWriter.upsert

    def poisoned(database: DatabaseWriter, items: Any) -> AppliedChange:
        change = upsert(database, items)
        if "poison" in items.ids:
            raise ValueError("poison")
        return change

    monkeypatch.setattr(DatabaseWriter, "upsert", poisoned)
    oracle = Oracle()
    good = [[make_item(f"good-{i}", i, image=True)] for i in range(2)]
    with ThreadPoolExecutor(4) as pool, Held(embedded, monkeypatch) as held:
        calls = [pool.submit(embedded.upsert, items) for items in good[:1]]
        held.wait_for_queue(1)
        bad = pool.submit(embedded.upsert, [make_item("innocent", 8), make_item("poison", 9, image=True)])
        held.wait_for_queue(2)
        calls += [pool.submit(embedded.upsert, items) for items in good[1:]]
        held.wait_for_queue(3)
        held._go.set()
        assert [call.result() for call in calls] == [[Outcome.CREATED]] * 2
        with pytest.raises(errors.StoreFailedError, match="poison"):
            bad.result()
    assert held.groups == [1, 3]
    for items in ([make_item("first")], *good):
        oracle.upsert(items)
    assert_agrees(embedded, oracle)
    assert len(files(tmp_path / "store")) == 2
    assert embedded.alive


def fill_disk(store: EmbeddedStore) -> None:
    """SQLite's own limit on pages stands in for the end of the disk; what it raises is the same."""
    connection = store._committer._database._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


def free_disk(store: EmbeddedStore) -> None:
    store._committer._database._connection.execute("PRAGMA max_page_count = 1000000")


def test_a_full_disk_fails_the_change_and_leaves_database_and_index_in_agreement(
    embedded: EmbeddedStore, tmp_path: Path
) -> None:
    oracle, items = Oracle(), make_items(50)
    embedded.upsert(items)
    oracle.upsert(items)
    fill_disk(embedded)
    for first in (0, 400):
        with pytest.raises(errors.StoreFailedError, match="full"):
            embedded.upsert([make_item(f"more-{i:04d}", i, image=i < 3) for i in range(first, first + 400)])
        assert_agrees(embedded, oracle)
        assert files(tmp_path / "store") == set()
    free_disk(embedded)
    embedded.upsert(items[:3])
    oracle.upsert(items[:3])
    assert_agrees(embedded, oracle)
    assert embedded.alive


def test_the_error_of_a_change_names_no_path_of_the_machine(embedded: EmbeddedStore, tmp_path: Path) -> None:
    (segments,) = tmp_path.rglob("segments")
    segments.rename(segments.with_name("elsewhere"))
    with pytest.raises(errors.StoreFailedError, match="could not be written") as refusal:
        embedded.upsert([make_item("a")])
    assert "No such file" in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)
    segments.with_name("elsewhere").rename(segments)
    embedded.upsert([make_item("a")])


def test_a_commit_that_fails_is_undone_while_the_store_is_open(
    embedded: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle, items = Oracle(), make_items(5)
    embedded.upsert(items)
    oracle.upsert(items)

    def broken(_database: DatabaseWriter) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(DatabaseWriter, "commit", broken)
        with pytest.raises(errors.OutcomeUnknownError, match="Input/output error"):
            embedded.upsert([make_item("lost", 1), items[0]])
        with pytest.raises(errors.OutcomeUnknownError, match="Input/output error"):
            embedded.delete([items[1].id])
    assert_agrees(embedded, oracle)
    assert embedded.upsert([make_item("found", 1)]) == oracle.upsert([make_item("found", 1)])
    assert_agrees(embedded, oracle)


@contextmanager
def no_file_may_grow(path: Path) -> Iterator[None]:
    """The system's own limit: writes of this process beyond the end of `path` fail."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_log_that_cannot_be_written_at_the_commit_leaves_the_outcome_unknown(
    embedded: EmbeddedStore, tmp_path: Path
) -> None:
    oracle, items = Oracle(), make_items(5)
    embedded.upsert(items)
    oracle.upsert(items)
    with no_file_may_grow(tmp_path / "store" / "database.sqlite-wal"), pytest.raises(errors.OutcomeUnknownError):
        embedded.upsert([make_item("lost", 1)])
    assert_agrees(embedded, oracle)
    assert embedded.upsert([make_item("lost", 1)]) == oracle.upsert([make_item("lost", 1)])
    assert_agrees(embedded, oracle)


def test_images_of_an_unknown_outcome_are_kept_until_the_next_start_knows(tmp_path: Path) -> None:
    for reaches_disk in (True, False):
        folder, copy = tmp_path / f"store-{reaches_disk}", tmp_path / f"copy-{reaches_disk}"
        store, item = EmbeddedStore(folder, SPACE, DIMENSION), make_item("a", 1, image=True)
        with break_sqlite_commits(reaches_disk=reaches_disk), pytest.raises(errors.OutcomeUnknownError):
            store.upsert([item])
        assert len(files(folder)) == 1
        shutil.copytree(folder, copy)
        store.close()
        again = EmbeddedStore(copy, SPACE, DIMENSION)
        assert image_of(again, "a") == (item.image if reaches_disk else None)
        assert len(files(copy)) == reaches_disk
        again.close()


def test_an_index_that_cannot_follow_is_rebuilt(embedded: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle, index = Oracle(), embedded._committer._index
    apply, failures = index.apply, iter([True])

    def failing(*change: Any) -> None:
        if next(failures, False):
            raise MemoryError
        apply(*change)

    monkeypatch.setattr(index, "apply", failing)
    for items in (make_items(5), [make_item("a")]):
        assert embedded.upsert(items) == oracle.upsert(items)
        assert_agrees(embedded, oracle)
    assert embedded.alive


def test_an_index_that_cannot_be_rebuilt_is_told_and_the_next_start_finds_everything(
    embedded: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise MemoryError

    for change in ("apply", "fill"):
        monkeypatch.setattr(embedded._committer._index, change, failing)
    for identifier, kind in (("a", errors.OutcomeUnknownError), ("b", errors.StoreFailedError)):
        with pytest.raises(kind, match="restart the service"):
            embedded.upsert([make_item(identifier)])
        assert not embedded.alive
    embedded.close()
    again = EmbeddedStore(tmp_path / "store", SPACE, DIMENSION)
    assert again.alive
    assert [hit.id for hit in again.search(make_item("a").vector[None], 5)[0]] == ["a"]
    again.close()


def test_whatever_the_work_raises_the_thread_lives_and_everyone_is_answered() -> None:
    def work(jobs: list[WriteRequest]) -> None:
        if jobs[0].items == 1:
            raise RuntimeError("surprise")
        if jobs[0].items == 2:
            return
        jobs[0].future.set_result(AppliedChange())

    writer = WriteQueue(work, max_items=10, max_group_items=1, timeout_s=1)
    for items, message in ((1, "surprise"), (2, "did not answer")):
        with pytest.raises(errors.OutcomeUnknownError, match=message):
            writer.submit(WriteRequest(lambda _: AppliedChange(), items)).result()
        assert writer.alive
    assert writer.submit(WriteRequest(lambda _: AppliedChange(), 3)).result().outcomes == []
    writer.close()
    assert not writer.alive
    with pytest.raises(errors.StoreClosedError):
        writer.submit(WriteRequest(lambda _: AppliedChange(), 1))


def test_groups_are_filled_up_to_their_number_of_items_and_a_larger_request_goes_alone() -> None:
    entered, go = threading.Event(), threading.Event()
    groups: list[list[int]] = []

    def work(jobs: list[WriteRequest]) -> None:
        entered.set()
        assert go.wait(60)
        groups.append([job.items for job in jobs])
        for job in jobs:
            job.future.set_result(AppliedChange())

    writer = WriteQueue(work, max_items=100, max_group_items=10, timeout_s=1)
    futures = [writer.submit(WriteRequest(lambda _: AppliedChange(), 1))]
    assert entered.wait(60)
    for items in (3, 4, 3, 1, 11, 5, 6):
        futures.append(writer.submit(WriteRequest(lambda _: AppliedChange(), items)))
    go.set()
    for future in futures:
        future.result(60)
    writer.close()
    assert groups == [[1], [3, 4, 3], [1], [11], [5], [6]]


def test_what_may_wait_is_bounded_and_close_finishes_it() -> None:
    go, done = threading.Event(), []

    def work(jobs: list[WriteRequest]) -> None:
        assert go.wait(60)
        for job in jobs:
            done.append(job.items)
            job.future.set_result(AppliedChange())

    writer = WriteQueue(work, max_items=10, max_group_items=100, timeout_s=0.01)
    futures = [writer.submit(WriteRequest(lambda _: AppliedChange(), 50))]
    with writer._changed:
        assert writer._changed.wait_for(lambda: not writer._requests, 60)
    futures += [writer.submit(WriteRequest(lambda _: AppliedChange(), items)) for items in (6, 4)]
    with pytest.raises(errors.StoreBusyError, match=r"at most 10 changed items may wait; found 10 after 0\.01 s"):
        writer.submit(WriteRequest(lambda _: AppliedChange(), 1))
    closing = threading.Thread(target=writer.close)
    closing.start()
    go.set()
    closing.join()
    assert done == [50, 6, 4]
    assert all(future.done() for future in futures)


def test_a_busy_store_keeps_nothing_of_what_it_refused(
    embedded: EmbeddedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded._writes, "_max_items", 1)
    monkeypatch.setattr(embedded._writes, "_timeout_s", 0.01)
    with ThreadPoolExecutor(1) as pool, Held(embedded, monkeypatch) as held:
        waiting = pool.submit(embedded.upsert, [make_item("waits", 1)])
        held.wait_for_queue(1)
        with pytest.raises(errors.StoreBusyError):
            embedded.upsert([make_item("refused", 2, image=True)])
        held._go.set()
        assert waiting.result() == [Outcome.CREATED]
    assert embedded.get(["refused"]) == [None]
    assert files(tmp_path / "store") == set()


def test_close_lets_calls_under_way_finish(embedded: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    items: list[Item] = make_items(20)
    with ThreadPoolExecutor(2) as pool, Held(embedded, monkeypatch) as held:
        waiting = pool.submit(embedded.upsert, items)
        held.wait_for_queue(1)
        closing = pool.submit(embedded.close)
        held._go.set()
        assert waiting.result() == [Outcome.CREATED] * 20
        closing.result()
    assert np.all([not embedded.alive])
