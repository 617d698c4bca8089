"""The read side of the record: connections that are lent to one thread at a time.

A pool instead of one connection per thread: a server's threads come and go, and each would leave its own open.
"""

import json
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.sqlite.schema import connect
from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.filters.sql import Condition
from sfsc_service.store.protocol import Float32, StoredItem

__all__ = ["DatabaseReader", "HitRow", "ReaderPool"]

HitRow = tuple[str, int, str, str, str, str | None, str | None]

_HIT = "id, sequence, space, width, metadata, picture, media_type"
_RECORD = f"SELECT {_HIT}, vector FROM items JOIN vectors USING (sequence)"
_ROWS_AT_ONCE = 8192


class DatabaseReader:
    def __init__(self, path: Path, dimension: int) -> None:
        self._connection = connect(path)
        self._connection.execute("PRAGMA query_only = ON")
        self._dimension = dimension

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one state of the record."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def get(self, ids: Sequence[str]) -> list[StoredItem | None]:
        rows = self._connection.execute(
            f"{_RECORD} WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),)
        )
        found = {row[0]: row for row in rows}
        return [self._record(found[i]) if i in found else None for i in ids]

    def page(self, after: str, limit: int, condition: Condition | None) -> list[StoredItem]:
        """The first `limit` items whose id comes after `after` and that meet `condition`."""
        sql, values = (condition.sql, condition.values) if condition else ("true", ())
        rows = self._connection.execute(
            f"{_RECORD} WHERE id > ? AND ({sql}) ORDER BY id LIMIT ?", (after, *values, limit)
        )
        return [self._record(row) for row in rows]

    def select(self, condition: Condition) -> Int64:
        """The sequence numbers of all items that meet `condition`, ascending."""
        return self._numbers(f"SELECT sequence FROM items WHERE {condition.sql}", condition.values)

    def sequences(self) -> Int64:
        """The sequence numbers of all items, ascending."""
        return self._numbers("SELECT sequence FROM items", ())

    def composition(self) -> dict[str, int]:
        """The number of items per width."""
        return dict(self._connection.execute("SELECT width, count(*) FROM items GROUP BY width"))

    def hits(self, sequences: Int64) -> dict[int, HitRow]:
        """What hits show of these versions; a version that is no longer current is left out."""
        rows: Iterable[HitRow] = self._connection.execute(
            f"SELECT {_HIT} FROM items WHERE sequence IN (SELECT value FROM json_each(?))",
            (json.dumps(sequences.tolist()),),
        )
        return {row[1]: row for row in rows}

    def vectors_above(self, sequence: int) -> Iterator[tuple[Int64, Float32]]:
        """Versions newer than `sequence` with their vectors [n, D], ascending, some thousands at a time."""
        rows = self._connection.execute(
            "SELECT sequence, vector FROM vectors WHERE sequence > ? ORDER BY sequence", (sequence,)
        )
        while chunk := rows.fetchmany(_ROWS_AT_ONCE):
            vectors = np.stack([self._vector(blob) for _, blob in chunk])
            yield np.array([number for number, _ in chunk], np.int64), vectors

    def image(self, identifier: str) -> tuple[str, str] | None:
        """Digest and media type of an item's image."""
        row: Any = self._connection.execute(
            "SELECT picture, media_type FROM items WHERE id = ? AND picture IS NOT NULL", (identifier,)
        ).fetchone()
        return row and (row[0], row[1])

    def names_image(self, digest: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM items WHERE picture = ? LIMIT 1", (digest,))
        return found.fetchone() is not None

    def close(self) -> None:
        self._connection.close()

    def _numbers(self, sql: str, values: Sequence[str]) -> Int64:
        found = self._connection.execute(sql, values)
        return np.sort(np.fromiter((number for (number,) in found), np.int64))

    def _record(self, row: Any) -> StoredItem:
        identifier, sequence, space, width, metadata, image, media_type, vector = row
        parsed = json.loads(metadata)
        return StoredItem(identifier, sequence, space, width, self._vector(vector), parsed, image, media_type)

    def _vector(self, blob: bytes) -> Float32:
        if len(blob) != 4 * self._dimension:
            rule = f"a vector must have {4 * self._dimension} bytes"
            raise StoreFailedError(f"record: {rule}; found {len(blob)}: the file is damaged")
        return np.frombuffer(blob, "<f4")


class ReaderPool:
    """As many connections as calls ran at the same time."""

    def __init__(self, path: Path, dimension: int) -> None:
        self._path = path
        self._dimension = dimension
        self._idle: deque[DatabaseReader] = deque()

    @contextmanager
    def lend(self) -> Iterator[DatabaseReader]:
        try:
            reader = self._idle.pop()
        except IndexError:
            reader = DatabaseReader(self._path, self._dimension)
        try:
            yield reader
        except sqlite3.Error:
            # Whatever state it is in, nobody else shall get it.
            reader.close()
            raise
        except BaseException:
            self._idle.append(reader)
            raise
        self._idle.append(reader)

    def close(self) -> None:
        """Close all; none may be lent any more."""
        while self._idle:
            self._idle.pop().close()
