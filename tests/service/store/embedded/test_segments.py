"""Vectors in segments.

The contract:
- A vector is durable before the row that has its number commits.
- What was appended and never committed is cut at the next start, and no number is given to two vectors.
- A start needs nothing but database and segments; which rows are in the log and which in segments does not matter.
- A crash between writing a segment and deleting what it replaces does no harm.
- A block that is not as it was written is noticed: its items are named and not served, everything else is.
- A damaged file is never deleted.
"""

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded.segments.folder import SegmentFolder
from sfsc_service.store.embedded.segments.format import ALIGNMENT, BLOCK_ROWS
from sfsc_service.store.embedded.segments.merge_plan import FANOUT, next_merge
from sfsc_service.store.embedded.segments.segment import SegmentDamagedError, open_segment, write_segment
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Item
from tests.service.store.agreement import assert_agrees, walk
from tests.service.store.conftest import break_sqlite_commits
from tests.service.store.making import DIMENSION, SPACE, make_item, make_items, unit_vectors
from tests.service.store.oracle import Oracle

GALLERY = 7
TIMEOUT_S = 30.0


def open_store(folder: Path, seal_rows: int = 65_536) -> EmbeddedStore:
    return EmbeddedStore(folder, SPACE, DIMENSION, seal_rows=seal_rows)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def logs(folder: Path) -> list[Path]:
    return sorted((folder / "segments").glob("*.log"))


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "segments").glob("*.segment"))


def filled(folder: Path, seal_rows: int) -> Oracle:
    """A closed store after insertions, replacements and deletions."""
    oracle, store = Oracle(), open_store(folder, seal_rows)
    for items in (make_items(80), make_items(10, 500), make_items(25, 900, "more")):
        store.upsert(items)
        oracle.upsert(items)
    gone = [f"item-{i:05d}" for i in range(40, 60)]
    store.delete(gone)
    oracle.delete(gone)
    if seal_rows < 65_536:
        until(lambda: bool(segments(folder)))
    store.close()
    return oracle


def upsert_and_seal(store: EmbeddedStore, items: list[Item], seal_rows: int) -> None:
    """Insert, and wait until no more rows are in the log than may be there."""
    store.upsert(items)
    until(lambda: store._index.sizes()[1].rows < seal_rows)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_vector_is_durable_before_the_row_that_names_it_commits(
    embedded: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.upsert([make_item("before")])
    steps: list[str] = []
    pwrite, sync, commit = os.pwrite, os.fdatasync, DatabaseWriter.commit

    def traced_write(descriptor: int, data: Any, offset: int) -> int:
        steps.append(f"write {Path(os.readlink(f'/proc/self/fd/{descriptor}')).suffix}")
        return pwrite(descriptor, data, offset)

    def traced_sync(descriptor: int) -> None:
        steps.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).suffix}")
        sync(descriptor)

    def traced_commit(database: DatabaseWriter) -> None:
        steps.append("commit")
        commit(database)

    monkeypatch.setattr(os, "pwrite", traced_write)
    monkeypatch.setattr(os, "fdatasync", traced_sync)
    monkeypatch.setattr(DatabaseWriter, "commit", traced_commit)
    embedded.upsert([make_item("a")])
    assert steps == ["write .log", "sync .log", "commit", "write "]


@pytest.mark.parametrize("seal_rows", [65_536, 30])
def test_a_start_finds_everything_in_log_and_segments(
    tmp_path: Path, seal_rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = filled(tmp_path, seal_rows)
    assert bool(segments(tmp_path)) == (seal_rows == 30)
    with caplog.at_level(logging.WARNING):
        store = open_store(tmp_path)
        assert_agrees(store, oracle)
        for items in (make_items(25, 1_900), [make_item("fresh", 1)]):
            assert store.upsert(items) == oracle.upsert(items)
        assert_agrees(store, oracle)
        store.close()
    store = open_store(tmp_path)
    assert_agrees(store, oracle)
    assert store.faults == []
    store.close()
    assert caplog.text == ""


def test_what_was_never_committed_is_cut_and_its_numbers_are_not_given_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle, store = Oracle(), open_store(tmp_path)
    store.upsert(make_items(5))
    oracle.upsert(make_items(5))
    (log,) = logs(tmp_path)
    size = log.stat().st_size
    with break_sqlite_commits(reaches_disk=False), pytest.raises(errors.OutcomeUnknownError):
        store.upsert([make_item("lost", 1), make_item("lost-too", 2)])
    assert log.stat().st_size > size
    shutil.copytree(tmp_path, tmp_path.with_name("crashed"))
    assert store.upsert([make_item("kept", 3)]) == oracle.upsert([make_item("kept", 3)])
    assert_agrees(store, oracle)
    store.close()
    with sqlite3.connect(tmp_path / "database.sqlite") as connection:
        numbers = [number for (number,) in connection.execute("SELECT sequence FROM items ORDER BY sequence")]
    connection.close()
    assert numbers == [1, 2, 3, 4, 5, 8]
    with caplog.at_level(logging.INFO):
        store = open_store(tmp_path.with_name("crashed"))
    assert "never committed" in caplog.text
    (log,) = logs(tmp_path.with_name("crashed"))
    assert log.stat().st_size == size
    assert [found.id for found in walk(store)] == [f"item-{i:05d}" for i in range(5)]
    store.close()


def test_a_log_that_cannot_be_written_fails_the_change_alone(
    embedded: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle, items = Oracle(), make_items(5)
    embedded.upsert(items)
    oracle.upsert(items)

    def short(descriptor: int, data: Any, offset: int) -> int:
        written = os.lseek(descriptor, 0, os.SEEK_END) >= 0 and pwrite(descriptor, bytes(data)[:100], offset)
        raise OSError(28, f"No space left on device after {written} bytes")

    pwrite = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", short)
        with pytest.raises(errors.StoreFailedError, match="No space left"):
            embedded.upsert([make_item("lost", 1), items[0]])
    assert_agrees(embedded, oracle)
    assert embedded.upsert([make_item("found", 1)]) == oracle.upsert([make_item("found", 1)])
    assert_agrees(embedded, oracle)


def test_many_changes_are_merged_into_few_segments_without_dead_rows(tmp_path: Path) -> None:
    oracle, store = Oracle(), open_store(tmp_path, seal_rows=50)
    for turn in range(60):
        items = make_items(40, 100 * turn, f"p{turn % 7}")
        store.upsert(items)
        oracle.upsert(items)

    def settled() -> bool:
        mapped, tail = store._index.sizes()
        sizes = [(size.rows, size.live) for size in mapped]
        return tail.rows < 50 and next_merge(sizes, 50) is None

    until(settled)
    assert_agrees(store, oracle)
    assert len(segments(tmp_path)) <= 2 * FANOUT
    assert sum(size.rows for size in store._index.sizes()[0]) < 280 + 60 * 25
    store.close()
    store = open_store(tmp_path)
    assert_agrees(store, oracle)
    store.close()


def damaged_ids(store: EmbeddedStore) -> set[str]:
    return set(store._damage._ids.values())


def test_a_damaged_block_of_the_log_loses_its_items_by_name_and_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle, store = Oracle(), open_store(tmp_path)
    for turn in range(5):
        store.upsert(make_items(4, 10 * turn, f"p{turn}"))
        oracle.upsert(make_items(4, 10 * turn, f"p{turn}"))
    store.close()
    (log,) = logs(tmp_path)
    block = log.stat().st_size // 5
    flip(log, 2 * block + ALIGNMENT + 4 * 8 + 5)
    store = open_store(tmp_path)
    lost = {f"p2-{i:05d}" for i in range(4)}
    assert damaged_ids(store) == lost
    assert "'p2-00000', 'p2-00001', 'p2-00002', 'p2-00003'" in caplog.text
    assert store.faults == [
        "damaged items: 'p2-00000', 'p2-00001', 'p2-00002', 'p2-00003'; they are not served; upsert them again or "
        "delete them"
    ]
    assert [found.id for found in walk(store)] == sorted(set(oracle.kept) - lost)
    assert {hit.id for hit in store.search(unit_vectors(0, 1), 50)[0]} == set(oracle.kept) - lost
    filtered = store.search(unit_vectors(0, 1), 50, {"place.camera": 1})[0]
    assert {hit.id for hit in filtered} == set(oracle.ids({"place.camera": 1})) - lost
    for name in lost:
        with pytest.raises(errors.StoreFailedError, match=f"{name}' is damaged .* upsert it again or delete it"):
            store.get([name])
    healed = make_items(2, 20, "p2")
    store.upsert(healed)
    assert store.delete(["p2-00002", "p2-00003"]) == [True, True]
    oracle.upsert(healed)
    oracle.delete(["p2-00002", "p2-00003"])
    assert store.faults == []
    assert_agrees(store, oracle)
    store.close()


def test_a_damaged_block_of_a_segment_loses_its_items_by_name_and_the_file_is_kept(tmp_path: Path) -> None:
    oracle = filled(tmp_path, seal_rows=30)
    path = segments(tmp_path)[0]
    flip(path, path.stat().st_size // 2)
    store = open_store(tmp_path, seal_rows=30)
    lost = damaged_ids(store)
    assert lost
    assert {found.id for found in walk(store)} == set(oracle.kept) - lost
    store.upsert([oracle.kept[name].item for name in lost])
    assert store.faults == []
    for turn in range(12):
        upsert_and_seal(store, make_items(30, 100 * turn, f"p{turn}"), 30)
    until(lambda: not path.exists())
    store.close()
    assert (tmp_path / "segments" / "quarantine" / path.name).exists()


@pytest.mark.parametrize("where", ["first header", "last header", "first table", "last table"])
def test_header_and_table_of_a_segment_are_there_twice(tmp_path: Path, where: str) -> None:
    vectors, sequences = unit_vectors(1, 3_000), np.arange(1, 3_001)
    path = tmp_path / "a.segment"
    write_segment(path, [(sequences[:100], vectors[:100]), (sequences[100:], vectors[100:])], 3_000, 16, GALLERY)
    size = path.stat().st_size
    flip(
        path,
        {
            "first header": 12,
            "last header": size - ALIGNMENT + 12,
            "first table": ALIGNMENT + 3,
            "last table": size - ALIGNMENT - 3,
        }[where],
    )
    segment = open_segment(path, 16, GALLERY)
    assert segment.whole.all()
    assert np.array_equal(segment.sequences, sequences)
    assert np.array_equal(segment.vectors, vectors)
    flip(path, {"first": size - ALIGNMENT + 20, "last": 20}[where.split()[0]])
    flip(path, {"first": size - ALIGNMENT - 5, "last": ALIGNMENT + 5}[where.split()[0]])
    with pytest.raises(SegmentDamagedError, match="neither"):
        open_segment(path, 16, GALLERY)


def test_a_flipped_bit_loses_one_block_of_a_segment(tmp_path: Path) -> None:
    vectors, path = unit_vectors(1, 3_000), tmp_path / "a.segment"
    write_segment(path, [(np.arange(3_000), vectors)], 3_000, 16, GALLERY)
    flip(path, path.stat().st_size - 3_000)
    assert np.flatnonzero(~open_segment(path, 16, GALLERY).whole).tolist() == list(range(2 * BLOCK_ROWS, 3_000))


def test_a_block_that_is_found_damaged_when_it_is_merged_is_not_copied(tmp_path: Path) -> None:
    oracle, store = Oracle(), open_store(tmp_path, seal_rows=30)
    store.upsert(make_items(30))
    oracle.upsert(make_items(30))
    until(lambda: len(segments(tmp_path)) == 1 and not logs(tmp_path))
    (path,) = segments(tmp_path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    for turn in range(1, FANOUT + 1):
        upsert_and_seal(store, make_items(30, 100 * turn, f"p{turn}"), 30)
    until(lambda: not path.exists())
    assert damaged_ids(store) == {f"item-{i:05d}" for i in range(30)}
    store.close()
    store = open_store(tmp_path)
    assert damaged_ids(store) == {f"item-{i:05d}" for i in range(30)}
    store.close()


def test_segments_of_another_database_are_refused(tmp_path: Path) -> None:
    for name, seal_rows in (("a", 65_536), ("b", 30)):
        filled(tmp_path / name, seal_rows)
    for mine, others in (("a", "b"), ("b", "a")):
        mixed = tmp_path / f"mixed-{mine}"
        shutil.copytree(tmp_path / mine, mixed)
        shutil.rmtree(mixed / "segments")
        shutil.copytree(tmp_path / others / "segments", mixed / "segments")
        with pytest.raises(errors.FolderMismatchError, match="of the gallery"):
            open_store(mixed)


def test_numbers_in_files_are_ascending_and_unique_whatever_is_loaded(tmp_path: Path) -> None:
    folder = SegmentFolder(tmp_path / "segments", DIMENSION, GALLERY)
    vectors = unit_vectors(1, 100)
    folder.append(np.arange(1, 51), vectors[:50])
    folder.write([(np.arange(1, 31), vectors[:30])], 30)
    folder.append(np.arange(51, 101), vectors[50:])
    folder.write([(np.arange(20, 41), vectors[19:40])], 21)
    folder.close()
    known = np.array([1, 5, 25, 31, 45, 60, 100])
    loaded = SegmentFolder(tmp_path / "segments", DIMENSION, GALLERY).load(known, 100)
    found = np.concatenate([*(part.sequences for part in loaded.segments), loaded.sequences])
    assert np.array_equal(found, known)
    rows = np.concatenate([*(part.segment.vectors[part.used] for part in loaded.segments), loaded.vectors])
    assert np.array_equal(rows, vectors[known - 1])
    assert (len(loaded.lost), loaded.last_sequence) == (0, 100)


@pytest.mark.parametrize(
    ("sizes", "merged"),
    [
        ([], None),
        ([(100, 100)] * 3, None),
        ([(100, 100)] * 4, (0, 4)),
        ([(400, 400)] + [(100, 100)] * 3, None),
        ([(400, 400)] + [(100, 100)] * 4, (1, 5)),
        ([(400, 400)] * 4 + [(100, 100)] * 3, (0, 7)),
        ([(100, 100), (5_000, 3_900), (100, 100)], (1, 2)),
        ([(100, 0)], None),
    ],
)
def test_neighbours_of_a_size_are_merged_and_mostly_dead_ones_written_anew(
    sizes: list[tuple[int, int]], merged: tuple[int, int] | None
) -> None:
    assert next_merge(sizes, 100) == merged
