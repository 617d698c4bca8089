"""A folder of schema 1 becomes one of schema 2 at its first start.

The contract:
- Everything is there afterwards: vectors bit for bit, metadata, width, space, image, in the order of the changes.
- A process that is killed at any step leaves a folder that the next start converts.
- What cannot be converted stays as it is.
"""

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded.images import digest_of
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Item
from sfsc_service.store.validation import check_items
from tests.service.store.agreement import assert_agrees
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE, make_item
from tests.service.store.oracle import Oracle

SCHEMA_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spaces (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE items (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    space TEXT NOT NULL REFERENCES spaces (name),
    width TEXT NOT NULL,
    metadata TEXT NOT NULL,
    picture TEXT,
    media_type TEXT,
    CHECK ((picture IS NULL) = (media_type IS NULL))
) STRICT;
CREATE TABLE vectors (
    sequence INTEGER PRIMARY KEY REFERENCES items (sequence) ON DELETE CASCADE,
    vector BLOB NOT NULL
) STRICT;
CREATE INDEX items_by_width ON items (width);
CREATE INDEX items_by_picture ON items (picture) WHERE picture IS NOT NULL;
"""
CHANGED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
KILLED_AT = 14


def make_schema_1(folder: Path) -> Oracle:
    """As schema 1 left it when the process was killed: changes are in the log, and numbers have gaps."""
    items = [make_item(f"i{i}", i, image=i % 3 == 0, space=OLD_SPACE if i % 7 == 0 else SPACE) for i in range(40)]
    oracle = Oracle()
    oracle.upsert(items)
    (folder / "pictures" / "temporary").mkdir(parents=True)
    (folder / "index.snapshot").write_bytes(b"a snapshot")
    writing = sqlite3.connect(folder / "writing.sqlite")
    with closing(writing):
        writing.execute("PRAGMA journal_mode = WAL")
        writing.executescript(SCHEMA_1)
        meta = {"schema_version": 1, "dimension": DIMENSION, "last_sequence": 200, "clean": 0}
        with writing:
            writing.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            writing.executemany("INSERT INTO spaces VALUES (?)", [(SPACE,), (OLD_SPACE,)])
            for number, item in enumerate(items):
                insert(writing, folder, 3 * number + 1, item)
        for suffix in ("", "-wal"):
            (folder / f"record.sqlite{suffix}").write_bytes((folder / f"writing.sqlite{suffix}").read_bytes())
    for path in folder.glob("writing.sqlite*"):
        path.unlink()
    os.utime(folder / "record.sqlite", (CHANGED.timestamp(), CHANGED.timestamp()))
    return oracle


def insert(connection: sqlite3.Connection, folder: Path, sequence: int, item: Item) -> None:
    (metadata,) = check_items([item], [SPACE, OLD_SPACE], DIMENSION).metadata
    digest = kind = None
    if item.image:
        digest, kind = digest_of(item.image.data), item.image.media_type
        path = folder / "pictures" / digest[:2] / digest[2:4] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.image.data)
    row = (sequence, item.id, item.space, item.width, metadata, digest, kind)
    connection.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute("INSERT INTO vectors VALUES (?, ?)", (sequence, item.vector.tobytes()))


def open_store(folder: Path) -> EmbeddedStore:
    return EmbeddedStore(folder, SPACE, DIMENSION, [OLD_SPACE])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_converted(folder: Path, oracle: Oracle) -> None:
    store = open_store(folder)
    assert_agrees(store, oracle)
    assert store.faults == []
    for found in store.get(list(oracle.kept)):
        assert found is not None
        assert (found.created, found.reason) == (CHANGED, "requested" if found.image_digest else "vector")
    fresh = [make_item("fresh", 1, image=True), oracle.kept["i3"].item]
    assert store.upsert(fresh) == oracle.upsert(fresh)
    assert_agrees(store, oracle)
    store.close()
    store = open_store(folder)
    assert_agrees(store, oracle)
    store.close()
    assert names(folder) == {"lock", "database.sqlite", "segments", "images", "acknowledged", "reserve"}


def test_everything_is_there_after_the_conversion(tmp_path: Path) -> None:
    assert_converted(tmp_path, make_schema_1(tmp_path))


class _KilledError(BaseException):
    """In place of a kill: nothing in the code catches it."""


@pytest.mark.parametrize("killed_at", range(1, KILLED_AT + 1))
def test_a_conversion_that_is_killed_at_any_step_is_made_by_the_next_start(
    tmp_path: Path, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle, steps, opening = make_schema_1(tmp_path), [0], threading.get_ident()

    def stepping(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() == opening:  # a thread that another test left takes steps of its own
                steps[0] += 1
                if steps[0] == killed_at:
                    raise _KilledError
            return real(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "unlink", "mkdir", "fsync"):
            patch.setattr(os, name, stepping(getattr(os, name)))
        with pytest.raises(_KilledError):
            open_store(tmp_path)
    assert_converted(tmp_path, oracle)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM vectors WHERE sequence = 7", "version 7 must have a vector of 64 bytes, found none"),
        ("UPDATE vectors SET vector = x'00' WHERE sequence = 7", "must have a vector of 64 bytes, found 1 bytes"),
        (
            "UPDATE meta SET value = 32 WHERE name = 'dimension'",
            "must be of dimension 16 to be converted; found 32",
        ),
        ("UPDATE meta SET value = 3 WHERE name = 'schema_version'", "must be of schema version 1 .* found 3"),
    ],
)
def test_what_cannot_be_converted_stays_as_it_is(tmp_path: Path, sql: str, said: str) -> None:
    make_schema_1(tmp_path)
    with closing(sqlite3.connect(tmp_path / "record.sqlite")) as connection, connection:
        connection.execute(sql)
    before = (tmp_path / "record.sqlite").read_bytes()
    images = {path for path in (tmp_path / "pictures").rglob("*") if path.is_file()}
    for _ in range(2):
        with pytest.raises(errors.StoreError, match=said):
            open_store(tmp_path)
    assert (tmp_path / "record.sqlite").read_bytes() == before
    assert {path for path in (tmp_path / "pictures").rglob("*") if path.is_file()} == images


def test_a_folder_that_a_bundle_of_another_space_opens_stays_as_it_is(tmp_path: Path) -> None:
    oracle = make_schema_1(tmp_path)
    before = names(tmp_path)
    with pytest.raises(errors.FolderMismatchError, match=f"of the space {SPACE} only; found {OLD_SPACE}"):
        EmbeddedStore(tmp_path, SPACE, DIMENSION)
    assert names(tmp_path) - {"lock", "record.sqlite-shm"} == before
    assert_converted(tmp_path, oracle)


def test_a_folder_of_schema_1_without_its_database_is_no_new_gallery(tmp_path: Path) -> None:
    make_schema_1(tmp_path)
    for path in tmp_path.glob("record.sqlite*"):
        path.unlink()
    with pytest.raises(errors.DatabaseLostError, match="14 files in pictures/"):
        open_store(tmp_path)
