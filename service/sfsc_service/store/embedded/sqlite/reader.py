"""The read side of the database: a pool of connections, each used by one thread at a time.

A pool instead of a connection per thread: a server's threads come and go, and each would leave its own open.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.sqlite.schema import DatabaseError, connect
from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.filters.sql import Condition
from sfsc_service.store.protocol import Float32, Hit, StoredItem

__all__ = ["DatabaseReader", "HitFields", "ReaderPool"]

HitFields = tuple[Any, ...]
"""The fields of a Hit in its order, all but the score."""

# The column of each field of a Hit, all but the score, which the index knows.
_COLUMNS = {"id": "id", "space": "space", "width": "width", "metadata_json": "metadata", "image_digest": "picture"}
_HIT = ", ".join(_COLUMNS[field] for field in Hit._fields[:-1])
_ITEM = f"SELECT {_HIT}, vector FROM items JOIN vectors USING (sequence)"
_ROWS_PER_FETCH = 8192


class DatabaseReader:
    def __init__(self, path: Path, dimension: int) -> None:
        self._connection = connect(path)
        self._connection.execute("PRAGMA query_only = ON")
        self._dimension = dimension

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one state of the database."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def get(self, ids: Sequence[str]) -> list[StoredItem | None]:
        rows = self._connection.execute(
            f"{_ITEM} WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),)
        )
        found = {item.id: item for item in map(self._item, rows)}
        return [found.get(identifier) for identifier in ids]

    def page(self, after: str, limit: int, condition: Condition | None) -> list[StoredItem]:
        """The first `limit` items whose id comes after `after` and that meet `condition`."""
        sql, values = (condition.sql, condition.values) if condition else ("true", ())
        rows = self._connection.execute(
            f"{_ITEM} WHERE id > ? AND ({sql}) ORDER BY id LIMIT ?", (after, *values, limit)
        )
        return [self._item(row) for row in rows]

    def select(self, condition: Condition) -> Int64:
        """The sequence numbers of all items that meet `condition`, ascending."""
        return self._numbers(f"SELECT sequence FROM items WHERE {condition.sql}", condition.values)

    def sequences(self) -> Int64:
        """The sequence numbers of all items, ascending."""
        return self._numbers("SELECT sequence FROM items", ())

    def composition(self) -> dict[str, int]:
        """The number of items per width."""
        return dict(self._connection.execute("SELECT width, count(*) FROM items GROUP BY width"))

    def hits(self, sequences: Int64) -> dict[int, HitFields]:
        """What hits show of these versions; a version that is no longer current is left out."""
        rows: Iterable[HitFields] = self._connection.execute(
            f"SELECT sequence, {_HIT} FROM items WHERE sequence IN (SELECT value FROM json_each(?))",
            (json.dumps(sequences.tolist()),),
        )
        return {row[0]: row[1:] for row in rows}

    def vectors_above(self, sequence: int) -> Iterator[tuple[Int64, Float32]]:
        """Versions newer than `sequence` with their vectors [n, D], ascending, some thousands at a time."""
        rows = self._connection.execute(
            "SELECT sequence, vector FROM vectors WHERE sequence > ? ORDER BY sequence", (sequence,)
        )
        while chunk := rows.fetchmany(_ROWS_PER_FETCH):
            vectors = np.stack([self._vector(blob) for _, blob in chunk])
            yield np.array([number for number, _ in chunk], np.int64), vectors

    def image(self, identifier: str) -> tuple[str, str] | None:
        """Digest and media type of an item's image."""
        row: Any = self._connection.execute(
            "SELECT picture, media_type FROM items WHERE id = ? AND picture IS NOT NULL", (identifier,)
        ).fetchone()
        return row and (row[0], row[1])

    def uses_image(self, digest: str) -> bool:
        rows = self._connection.execute("SELECT 1 FROM items WHERE picture = ? LIMIT 1", (digest,))
        return any(rows)

    def close(self) -> None:
        self._connection.close()

    def _numbers(self, sql: str, values: Sequence[str]) -> Int64:
        found = self._connection.execute(sql, values)
        return np.sort(np.fromiter((number for (number,) in found), np.int64))

    def _item(self, row: Sequence[Any]) -> StoredItem:
        *fields, vector = row
        shown = Hit._make((*fields, 0.0))
        return StoredItem(
            shown.id, shown.space, shown.width, self._vector(vector), shown.metadata, shown.image_digest
        )

    def _vector(self, blob: bytes) -> Float32:
        if len(blob) != 4 * self._dimension:
            raise StoreFailedError(
                f"the database is damaged: a vector has {len(blob)} bytes instead of {4 * self._dimension}"
            )
        return np.frombuffer(blob, "<f4")


class ReaderPool:
    """As many connections as were ever in use at the same time."""

    def __init__(self, path: Path, dimension: int) -> None:
        self._path = path
        self._dimension = dimension
        self._idle: deque[DatabaseReader] = deque()

    @contextmanager
    def acquire(self) -> Iterator[DatabaseReader]:
        try:
            reader = self._idle.pop()
        except IndexError:
            reader = DatabaseReader(self._path, self._dimension)
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

    def close(self) -> None:
        """Close all connections; none may be in use."""
        while self._idle:
            self._idle.pop().close()
