"""The read side of the database: a pool of connections, each used by one thread at a time.

A pool instead of a connection per thread: a server's threads come and go, and each would leave its own open.
Every read is a short transaction of its own, so that the write-ahead log can be reset between them.
"""

import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfsc_service.store.embedded.changes import Int64, Versions
from sfsc_service.store.embedded.rwlock import ReadWriteLock
from sfsc_service.store.embedded.sqlite.row_checksum import row_is_whole
from sfsc_service.store.embedded.sqlite.schema import (
    COLLECTION,
    ROW_COLUMNS,
    DatabaseError,
    connect,
    connect_read_only,
)
from sfsc_service.store.filters.sql import Condition
from sfsc_service.store.filters.terms import Scalar
from sfsc_service.store.protocol import WidthReason

__all__ = ["Contents", "DatabaseReader", "ItemRow", "MalformedMetadataError", "ReaderPool"]

_PAGES_AT_ONCE = 1_024
_STEPS_AT_ONCE = 100_000
"""Of SQLite's virtual machine: some milliseconds."""
_ROWS = f"SELECT {', '.join(ROW_COLUMNS)}, checksum FROM items"


class MalformedMetadataError(Exception):
    """A filter came upon metadata that are no JSON: a row is damaged."""


class ItemRow(NamedTuple):
    """A row of `items`: schema.ROW_COLUMNS and `checksum`."""

    sequence: int
    collection: str
    id: str
    space: str
    width: str
    reason: WidthReason
    metadata: str
    image: str | None
    media_type: str | None
    created: int
    checksum: int

    @property
    def whole(self) -> bool:
        """Whether it is as it was written."""
        return row_is_whole(self)


class Contents(NamedTuple):
    """The sequence numbers of all versions, ascending, and whether the sum of their checksums is as expected."""

    sequences: Int64
    complete: bool


class DatabaseReader:
    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """`read_only`: the file stays as it is, the log too; slower where the store has the folder open itself."""
        self._connection = connect_read_only(path) if read_only else connect(path)
        self._connection.execute("PRAGMA query_only = ON")

    def rows_of(self, ids: Sequence[str]) -> list[ItemRow]:
        """The rows of these ids, in any order."""
        return self._rows(
            f"{_ROWS} WHERE collection = ? AND id IN (SELECT value FROM json_each(?))", COLLECTION, json.dumps(ids)
        )

    def rows_at(self, sequences: Int64) -> list[ItemRow]:
        """The rows of these versions, ascending; a version that is no longer current is left out."""
        numbers = json.dumps(sequences.tolist())
        return self._rows(f"{_ROWS} WHERE sequence IN (SELECT value FROM json_each(?)) ORDER BY sequence", numbers)

    def rows_after(
        self, after: str, limit: int, condition: Condition | None, excluded: Sequence[int]
    ) -> list[ItemRow]:
        """The first `limit` rows by id that come after `after` and meet `condition`, without `excluded` ones."""
        sql, values = _guarded(condition, excluded)
        query = f"{_ROWS} WHERE collection = ? AND id > ? AND {sql} ORDER BY id LIMIT ?"
        return self._rows(query, COLLECTION, after, *values, limit)

    def rows_above(self, sequence: int, limit: int) -> list[ItemRow]:
        """The first `limit` rows by sequence number above `sequence`."""
        return self._rows(f"{_ROWS} WHERE sequence > ? ORDER BY sequence LIMIT ?", sequence, limit)

    def versions_above(self, sequence: int, limit: int) -> Versions:
        """What filters judge of the first `limit` versions above `sequence`."""
        query = "SELECT sequence, width, created, metadata FROM items WHERE sequence > ? ORDER BY sequence LIMIT ?"
        rows = self._connection.execute(query, (sequence, limit)).fetchall()
        sequences, widths, created, metadata = zip(*rows, strict=True) if rows else ((), (), (), ())
        return Versions(np.array(sequences, np.int64), widths, created, metadata)

    def ids_at(self, sequences: Int64) -> dict[str, int]:
        """The ids of these versions, with their numbers; a version that is no longer current is left out."""
        query = "SELECT id, sequence FROM items WHERE sequence IN (SELECT value FROM json_each(?))"
        return dict(self._connection.execute(query, (json.dumps(sequences.tolist()),)))

    def select(self, condition: Condition, excluded: Sequence[int]) -> Int64:
        """The sequence numbers of all items that meet `condition`, ascending, without `excluded`.

        Raises:
            MalformedMetadataError: metadata are no JSON text.
        """
        sql, values = _guarded(condition, excluded)
        try:
            # Without its likelihood, an index that has the collection would be used for every condition.
            query = f"SELECT sequence FROM items WHERE likelihood(collection = ?, 0.99) AND {sql}"
            found = self._connection.execute(query, (COLLECTION, *values))
            return np.sort(np.fromiter((number for (number,) in found), np.int64))
        except DatabaseError as error:
            raise _translated(error) from error

    def contents(self) -> Contents:
        """All versions at once, without a Python object for each."""
        text, found = self._connection.execute(
            "SELECT group_concat(sequence), coalesce(sum(checksum), 0) FROM items NOT INDEXED"
        ).fetchone()
        (expected,) = self._connection.execute("SELECT value FROM meta WHERE name = 'checksum_sum'").fetchone()
        sequences = np.fromstring(text, np.int64, sep=",") if text else np.empty(0, np.int64)
        return Contents(np.sort(sequences), found == expected)

    def meta(self) -> dict[str, int]:
        """The numbers of the gallery as a whole, see schema.create_tables."""
        return dict(self._connection.execute("SELECT name, value FROM meta"))

    def spaces(self) -> list[str]:
        """The spaces of all vectors, and past ones that are not forgotten yet."""
        return [name for (name,) in self._connection.execute("SELECT name FROM spaces ORDER BY name")]

    def image_digests(self) -> list[str]:
        """The digests of all images that items refer to, each once."""
        return [
            digest
            for (digest,) in self._connection.execute("SELECT DISTINCT image FROM items WHERE image IS NOT NULL")
        ]

    def copy_to(self, path: Path, look: Callable[[], None] = lambda: None) -> None:
        """Write the database, as it is at one moment, to a new file at `path`.

        Args:
            look: called every few megabytes; what it raises ends the copy.
        """
        with closing(sqlite3.connect(path)) as copy:
            self._connection.execute("BEGIN")
            try:
                # From the first read on, the transaction sees one moment; without it, each write would begin the
                # copy anew.
                self._connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
                self._connection.backup(copy, pages=_PAGES_AT_ONCE, progress=lambda *_: look())
            finally:
                self._connection.execute("ROLLBACK")

    def integrity_errors(self, look: Callable[[], None] = lambda: None) -> list[str]:
        """What SQLite's own check finds wrong with tables and indexes.

        Args:
            look: called every now and then; what it raises ends the check.
        """
        raised: list[BaseException] = []

        def is_over() -> bool:
            try:
                look()
            except BaseException as error:
                raised.append(error)
            return bool(raised)

        self._connection.set_progress_handler(is_over, _STEPS_AT_ONCE)
        try:
            found = [text for (text,) in self._connection.execute("PRAGMA integrity_check(10)")]
        except DatabaseError:
            if raised:
                raise raised[0] from None
            raise
        finally:
            self._connection.set_progress_handler(None, 0)
        return [] if found == ["ok"] else found

    def composition(self) -> dict[str, int]:
        """The number of items per width."""
        return dict(self._connection.execute("SELECT width, count(*) FROM items GROUP BY width"))

    def uses_image(self, digest: str) -> bool:
        rows = self._connection.execute("SELECT 1 FROM items WHERE image = ? LIMIT 1", (digest,))
        return any(rows)

    def interrupt(self) -> None:
        """Make a read that is under way in another thread fail."""
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()

    def _rows(self, sql: str, *values: Scalar) -> list[ItemRow]:
        try:
            return [ItemRow._make(row) for row in self._connection.execute(sql, values)]
        except DatabaseError as error:
            raise _translated(error) from error


class ReaderPool:
    """As many connections as were ever in use at the same time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: deque[DatabaseReader] = deque()
        self.gate = ReadWriteLock()
        """Held while a connection is in use; held exclusively, no read is under way and none begins."""

    @contextmanager
    def acquire(self) -> Iterator[DatabaseReader]:
        with self.gate.shared():
            try:
                reader = self._idle.pop()
            except IndexError:
                reader = DatabaseReader(self._path)
            try:
                yield reader
            except DatabaseError:
                # Its state is unknown, so it is not used again.
                reader.close()
                raise
            except BaseException:
                self._idle.append(reader)
                raise
            self._idle.append(reader)

    def uses_image(self, digest: str) -> bool:
        """As of DatabaseReader."""
        with self.acquire() as reader:
            return reader.uses_image(digest)

    def close(self) -> None:
        """Close all connections; none may be in use."""
        while self._idle:
            self._idle.pop().close()


def _guarded(condition: Condition | None, excluded: Sequence[int]) -> tuple[str, tuple[Scalar, ...]]:
    """A condition that is not evaluated for `excluded` versions, whose metadata may be no JSON."""
    sql, values = (condition.sql, condition.values) if condition else ("true", ())
    if not excluded:
        return f"({sql})", values
    guard = "CASE WHEN sequence IN (SELECT value FROM json_each(?)) THEN false ELSE"
    return f"{guard} ({sql}) END", (json.dumps(list(excluded)), *values)


def _translated(error: DatabaseError) -> Exception:
    return MalformedMetadataError() if "malformed JSON" in str(error) else error
