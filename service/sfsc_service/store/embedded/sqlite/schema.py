"""The database file: its tables, how it is opened, and which spaces and dimension it may be opened for.

`items.sequence` numbers the versions of items: every change makes a new version, no version is ever altered, and
the index identifies its rows by this number alone. Vectors have a table of their own, so that reading many items
without them (hits, filters) reads few pages.
"""

import sqlite3
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

from sfsc_service.store.errors import FolderMismatchError, StoreFailedError

__all__ = ["SCHEMA_VERSION", "DatabaseError", "check_fit", "connect", "open_database"]

DatabaseError = sqlite3.Error
"""What connections raise; modules outside of this folder know the database's errors by this name only."""

SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 10.0
# 16 MB: with SQLite's default, a bulk insertion would stop for two more fsyncs every few calls.
_CHECKPOINT_PAGES = 4_000

_SCHEMA = """
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


def connect(path: Path) -> sqlite3.Connection:
    """A connection for one thread at a time; transactions are begun explicitly."""
    connection = sqlite3.connect(
        path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_database(path: Path, space: str, dimension: int, compatible_with: Collection[str]) -> sqlite3.Connection:
    """The write connection to a database that fits; a missing file is created.

    Raises:
        FolderMismatchError: it was made for another schema, dimension or space.
        StoreFailedError: the file is not a readable database.
    """
    with ExitStack() as close_on_error:
        try:
            connection = connect(path)
            close_on_error.callback(connection.close)
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
                _create(connection, space, dimension)
            check_fit(connection, path, dimension, {space, *compatible_with})
        except sqlite3.Error as error:
            raise StoreFailedError(f"the database {path} cannot be opened: {error}") from error
        close_on_error.pop_all()
    return connection


def _create(connection: sqlite3.Connection, space: str, dimension: int) -> None:
    meta = {"schema_version": SCHEMA_VERSION, "dimension": dimension, "last_sequence": 0, "clean": 0}
    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
    connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    connection.execute("INSERT INTO spaces VALUES (?)", (space,))
    connection.execute("COMMIT")


def check_fit(connection: sqlite3.Connection, path: Path, dimension: int, spaces: Collection[str]) -> None:
    """Refuse another schema or dimension, or vectors of other spaces. Raises FolderMismatchError."""
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    if (version := meta.get("schema_version")) != SCHEMA_VERSION:
        raise FolderMismatchError(
            f"folder: {path.parent} must be of schema version {SCHEMA_VERSION}; found version {version}"
        )
    if (found := meta.get("dimension")) != dimension:
        raise FolderMismatchError(
            f"folder: {path.parent} must hold vectors of dimension {dimension}; found {found}"
        )
    present = {name for (name,) in connection.execute("SELECT name FROM spaces")}
    if others := sorted(present - set(spaces)):
        rule = f"must hold vectors of the space {' or '.join(sorted(spaces))} only"
        raise FolderMismatchError(f"folder: {path.parent} {rule}; found {', '.join(others)}")
