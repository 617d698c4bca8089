"""The columns beside the index: filters judged by them agree with brute force, whatever happens to the columns."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.store.embedded.columns.filter_index import FilterIndex
from sfsc_service.store.embedded.columns.saved_columns import SavedColumns
from sfsc_service.store.embedded.columns.table import ColumnTable
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.write_queue import WriteRequest
from sfsc_service.store.filters.language import parse
from sfsc_service.store.protocol import Item
from tests.service.faulty import until
from tests.service.store.agreement import assert_search_agrees
from tests.service.store.making import DIMENSION, SPACE, make_item, unit_vectors
from tests.service.store.oracle import Oracle

FILTERS: list[dict[str, Any]] = [
    {"camera": 3},
    {"camera": {"$ne": 3}},
    {"place.city": {"$in": ["a", "b"]}},
    {"time": {"$gte": 20, "$lt": 60}},
    {"time": {"$in": [4, 7.5, True, "x"]}},
    {"camera": {"$gt": 2.5}},
    {"mixed": {"$lte": 2**60 + 1}},
    {"mixed": {"$gt": "m"}},
    {"mixed": 2.0},
    {"note": {"$exists": True}},
    {"tags": {"$contains": 2}},
    {"$or": [{"camera": 1}, {"$not": {"place.city": "a"}}], "$width": {"$gte": "0.5"}},
]


def item(number: int, turn: int = 0) -> Item:
    metadata = {
        "camera": (number + turn) % 5,
        "place": {"city": "abc"[number % 3]},
        "time": number + turn / 2,
        "mixed": ["n", 2, 2.5, True, 2**60 + 1, None, 2**60 + 3][number % 7],
        "tags": [number % 4, "x"],
        **({"note": f"n{number}"} if number % 7 == turn else {}),
    }
    return replace(make_item(f"i{number:03}", 100 * turn + number), metadata=metadata)


class Pair:
    """A store and what should be in it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._folder, self._options = folder, options
        self.oracle = Oracle()
        self.store = EmbeddedStore(folder, SPACE, DIMENSION, **options)

    @property
    def file(self) -> Path:
        """Of the columns that were saved."""
        return self._folder / "columns"

    def reopen(self) -> None:
        self.store.close()
        self.store = EmbeddedStore(self._folder, SPACE, DIMENSION, **self._options)

    def upsert(self, items: list[Item]) -> None:
        self.oracle.upsert(items)
        self.store.upsert(items)

    def delete(self, ids: list[str]) -> None:
        self.oracle.delete(ids)
        self.store.delete(ids)

    def judged(self) -> list[bool]:
        """Which of FILTERS are judged by columns."""
        filters = self.store._filters
        with filters.unchanged():
            return [filters.select(parse(document)) is not None for document in FILTERS]

    def agree(self) -> None:
        for document in FILTERS:
            assert_search_agrees(self.store, self.oracle, unit_vectors(9, 2), document)
            assert self.store.count(document) == len(self.oracle.ids(document))


@pytest.fixture(params=[1_024, 30, 0], ids=lambda most: f"{most} coded numbers")
def pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """With numbers as codes, as they are, or both."""
    monkeypatch.setattr("sfsc_service.store.embedded.columns.column._MOST_CODED_NUMBERS", request.param)
    made = Pair(tmp_path)
    yield made
    made.store.close()


def test_columns_follow_every_change_and_a_start(pair: Pair) -> None:
    pair.upsert([item(n) for n in range(60)])
    pair.upsert([item(n, turn=1) for n in range(0, 60, 2)])
    pair.delete([f"i{n:03}" for n in range(0, 60, 3)])
    assert all(pair.judged())
    pair.agree()
    pair.reopen()
    assert all(pair.judged())
    pair.agree()


def test_removed_rows_are_given_up_when_they_are_many(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.store.embedded.columns.table._MIN_TOMBSTONES", 10)
    for turn in range(5):
        pair.upsert([item(n, turn) for n in range(30)])
        pair.agree()
    assert len(pair.store._filters._table) < 2 * 30 + 10


def test_items_that_are_written_while_columns_are_loaded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.upsert([item(n) for n in range(60)])
    monkeypatch.setattr("sfsc_service.store.embedded.store._SMALL", 0)
    monkeypatch.setattr("sfsc_service.store.embedded.columns.filter_index._ROWS_AT_ONCE", 3)
    pair.reopen()
    assert not any(pair.judged())
    for turn in range(1, 4):
        pair.upsert([item(n, turn) for n in range(0, 60, 7)])
        pair.delete([f"i{n:03}" for n in range(turn, 60, 20)])
    pair.agree()
    deadline = time.monotonic() + 20
    while not all(pair.judged()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pair.agree()


@pytest.fixture
def large(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """As if it were large: columns are saved, and loaded in the background."""
    monkeypatch.setattr("sfsc_service.store.embedded.store._SMALL", 0)
    monkeypatch.setattr("sfsc_service.store.embedded.columns.filter_index._MIN_UNSAVED", 20)
    monkeypatch.setattr("sfsc_service.store.embedded.columns.table._MIN_TOMBSTONES", 10)
    pair.reopen()
    return pair


def save(pair: Pair, first: int = 0) -> bytes:
    """Add items until columns were saved with them; the file."""
    filters, before = pair.store._filters, pair.file.stat().st_mtime_ns if pair.file.exists() else 0
    until(lambda: filters.loaded, 20)
    pair.upsert([item(n) for n in range(first, first + 60)])
    until(lambda: pair.file.exists() and pair.file.stat().st_mtime_ns != before and filters._unsaved == 0, 20)
    return pair.file.read_bytes()


def reopened(pair: Pair) -> int:
    """How many versions came from the file."""
    found: list[int] = []
    plain = FilterIndex._load_saved

    def noted(self: FilterIndex) -> int:
        last = plain(self)
        found.append(int(self._table._live.view().sum()))
        return last

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FilterIndex, "_load_saved", noted)
        pair.reopen()
        until(lambda: pair.store._filters.loaded, 20)
    pair.agree()
    assert all(pair.judged())
    return found[0]


def test_a_start_reads_what_was_saved_and_what_is_newer(large: Pair) -> None:
    save(large)
    assert reopened(large) == 60
    large.upsert([item(n, turn=1) for n in range(0, 60, 15)])
    large.upsert([item(n) for n in range(60, 65)])
    large.delete([f"i{n:03}" for n in range(0, 60, 20)])
    large.agree()
    assert reopened(large) < 60
    large.delete([f"i{n:03}" for n in range(50)])
    assert reopened(large) <= 15
    save(large, first=100)
    assert reopened(large) == len(large.oracle.ids())


def test_fewer_are_saved_once_nothing_more_comes(large: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    save(large)
    large.upsert([item(n) for n in range(60, 65)])
    monkeypatch.setattr("sfsc_service.store.embedded.columns.filter_index._MIN_UNSAVED", 6)
    monkeypatch.setattr("sfsc_service.store.embedded.columns.filter_index._QUIET_S", 0.2)
    large.upsert([item(65)])
    until(lambda: large.store._filters._unsaved == 0, 20)
    assert reopened(large) == 66


def test_changes_while_what_was_saved_is_read(large: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    save(large)
    plain, reading, go_on = ColumnTable.of, threading.Event(), threading.Event()

    def held(*words: Any) -> ColumnTable:
        reading.set()
        assert go_on.wait(20)
        return plain(*words)

    monkeypatch.setattr(ColumnTable, "of", held)
    large.reopen()
    assert reading.wait(20)
    large.delete([f"i{n:03}" for n in range(0, 60, 7)])
    large.upsert([item(n, turn=1) for n in range(1, 60, 7)])
    large.agree()
    go_on.set()
    until(lambda: large.store._filters.loaded, 20)
    large.agree()
    assert all(large.judged())


@pytest.mark.parametrize(
    "case", ["flipped", "cut", "empty", "huge", "of before", "of another copy", "less memory before"]
)
def test_a_file_that_is_not_this_database_s_own_is_not_used(
    large: Pair, case: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = save(large)
    newer = save(large, first=60)
    content = {
        "flipped": newer[:700] + bytes([newer[700] ^ 4]) + newer[701:],
        "cut": newer[:-1],
        "empty": b"",
        "huge": newer + bytes(2**20),
        "of before": older,
    }
    if case == "less memory before":
        filters = large.store._filters
        token = filters._saved.write(filters._table.contents._replace(complete=False), 1_000, lambda: False)
        assert token is not None
        large.store._submit(WriteRequest(lambda database: database.note_columns(token), items=0))
    large.store.close()
    monkeypatch.setattr("sfsc_service.store.embedded.columns.saved_columns._SIZE_TIMES", 0)
    monkeypatch.setattr("sfsc_service.store.embedded.columns.saved_columns._HEAD_BYTES", 2**20)
    if case in content:
        large.file.write_bytes(content[case])
    elif case == "of another copy":
        with closing(sqlite3.connect(large.file.with_name("database.sqlite"))) as database, database:
            database.execute("UPDATE meta SET value = value + 1 WHERE name = 'columns'")
    assert reopened(large) == 0
    warned = any("cannot be used" in line for line in caplog.messages)
    assert warned is (case in ("flipped", "cut", "empty", "huge"))
    if case == "huge":
        assert any("it may have" in line for line in caplog.messages)


def test_no_file_is_left_half_written(large: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is closed, or the disk fails, while columns are saved."""
    whole = save(large)
    monkeypatch.setattr("sfsc_service.store.embedded.columns.saved_columns._WRITTEN_AT_ONCE", 64)
    saved, contents = large.store._filters._saved, large.store._filters._table.contents
    assert saved.write(contents, 2**28, lambda: True) is None
    monkeypatch.setattr("sfsc_service.store.embedded.columns.saved_columns._FREE_TIMES", 2**60)
    assert saved.write(contents, 2**28, lambda: False) is None
    assert large.file.read_bytes() == whole
    assert not list(large.file.parent.glob("*.tmp"))


def test_columns_that_cannot_be_saved_are_told(
    large: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> int:
        raise OSError("no more")

    monkeypatch.setattr(SavedColumns, "write", fail)
    until(lambda: large.store._filters.loaded, 20)
    large.upsert([item(n) for n in range(60)])
    until(lambda: any("could not be saved" in line for line in caplog.messages), 20)
    large.agree()
    assert all(large.judged())


def test_what_has_no_room_in_memory_is_asked_of_the_database(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair(tmp_path, filter_memory_bytes=60_000)
    with caplog.at_level(logging.WARNING):
        for turn in range(4):
            pair.upsert([item(n, turn) for n in range(40)])
            pair.agree()
    assert any(pair.judged())
    assert not all(pair.judged())
    assert sum("SFSC_FILTER_MEMORY_BYTES" in line for line in caplog.messages) == 1
    pair.store.close()


def test_columns_that_fail_are_used_no_more(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.upsert([item(n) for n in range(20)])
    assert not pair.store.sizes().columns_failed

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(ColumnTable, "append", fail)
    pair.upsert([item(n, turn=1) for n in range(10, 30)])
    assert not any(pair.judged())
    assert pair.store.sizes().columns_failed
    pair.agree()


def test_columns_that_cannot_be_loaded_are_told(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.upsert([item(n) for n in range(20)])

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("sfsc_service.store.embedded.columns.filter_index.read_fields", fail)
    pair.reopen()
    assert pair.store.sizes().columns_failed
    assert not any(pair.judged())
    pair.agree()


def test_an_item_that_is_replaced_meanwhile_is_not_removed_by_a_filter(pair: Pair) -> None:
    pair.upsert([item(n) for n in range(10)])
    versions = pair.store._reads.versions(parse({"camera": 3}))
    pair.upsert([item(3, turn=5)])
    change = pair.store._delete_versions(versions)
    assert [removed.id for removed in change.removed] == ["i008"]
    pair.delete(["i008"])
    pair.agree()
