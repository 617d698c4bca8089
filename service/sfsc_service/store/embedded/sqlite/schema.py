"""The database file: its tables, how it is opened, and which spaces and dimension it may be opened for.

`items.sequence` numbers the versions of items: every change makes a new version, no version is ever altered, no
number is given twice, and segments and index identify vectors by this number alone. `items.checksum` covers the
other columns of its row (row_checksum.py); `checksum_sum` in `meta` is the sum over all rows, so that a missing
row is noticed.
"""

import sqlite3
from collections.abc import Collection
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from sfsc_service.store.errors import FolderMismatchError, StoreFailedError
from sfsc_service.store.filters.sql import add_functions

__all__ = [
    "BUSY_TIMEOUT_S",
    "COLLECTION",
    "ROW_COLUMNS",
    "SCHEMA_VERSION",
    "DatabaseError",
    "check_fit",
    "committed_sequence",
    "connect",
    "connect_read_only",
    "create_tables",
    "has_tables",
    "open_database",
]

DatabaseError = sqlite3.Error
"""What connections raise; modules outside of this folder know the database's errors by this name only."""

SCHEMA_VERSION = 2
COLLECTION = "default"
"""What the column holds in every row: a database has the items of one collection, and its folder tells which."""

ROW_COLUMNS = (
    "sequence",
    "collection",
    "id",
    "space",
    "width",
    "reason",
    "metadata",
    "image",
    "media_type",
    "created",
)
"""The columns of `items` that a row's checksum covers, in its order."""

BUSY_TIMEOUT_S = 10.0

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE spaces (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE items (
    sequence INTEGER PRIMARY KEY,
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    space TEXT NOT NULL REFERENCES spaces (name),
    width TEXT NOT NULL,
    reason TEXT NOT NULL CHECK (reason IN ('requested', 'budget', 'load', 'vector')),
    metadata TEXT NOT NULL,
    image TEXT,
    media_type TEXT,
    created INTEGER NOT NULL, -- microseconds since 1970, UTC
    checksum INTEGER NOT NULL,
    UNIQUE (collection, id),
    CHECK ((image IS NULL) = (media_type IS NULL))
) STRICT;
CREATE INDEX items_by_width ON items (width);
CREATE INDEX items_by_image ON items (image) WHERE image IS NOT NULL;
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection for one thread at a time; transactions are begun explicitly, checkpoints made elsewhere."""
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    # One damaged text must not fail a query of many rows; its checksum tells.
    connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    add_functions(connection)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection for one thread at a time that changes nothing, not even the log when it is closed."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    return connection


def open_database(
    path: Path, space: str, dimension: int, compatible_with: Collection[str], gallery: int
) -> sqlite3.Connection:
    """The write connection to a database that fits; a missing file is created, for the `gallery` of this number.

    Raises:
        FolderMismatchError: it was made for another schema, dimension or space.
        StoreFailedError: the file is not a readable database.
    """
    with ExitStack() as close_on_error:
        try:
            connection = connect(path)
            close_on_error.callback(connection.close)
            if not has_tables(connection):
                create_tables(connection, space, dimension, gallery)
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            check_fit(connection, path, dimension, {space, *compatible_with})
        except sqlite3.Error as error:
            raise StoreFailedError(f"the database {path} cannot be opened: {error}") from error
        close_on_error.pop_all()
    return connection


def committed_sequence(path: Path, dimension: int, spaces: Collection[str]) -> int | None:
    """The number of the newest committed change; None where there is no database. Nothing is written.

    Raises:
        FolderMismatchError: the database was made for another schema, dimension or space.
        StoreFailedError: the file is not a readable database.
    """
    if not path.exists() or not path.stat().st_size:
        return None
    try:
        with closing(connect_read_only(path)) as connection:
            if not has_tables(connection):
                return None
            check_fit(connection, path, dimension, spaces)
            rows = connection.execute("SELECT value FROM meta WHERE name = 'last_sequence'").fetchall()
    except sqlite3.Error as error:
        raise StoreFailedError(f"the database {path} cannot be opened: {error}") from error
    if not rows:
        raise StoreFailedError(f"the database {path} is damaged: it has no last_sequence")
    return int(rows[0][0])


def has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone())


def create_tables(connection: sqlite3.Connection, space: str, dimension: int, gallery: int) -> None:
    """Make the tables of an empty database. `gallery`: a random number that its segments carry, too."""
    meta = {
        "schema_version": SCHEMA_VERSION,
        "dimension": dimension,
        "gallery": gallery,
        "last_sequence": 0,
        "checksum_sum": 0,
        "clean": 0,
    }
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
