"""The write side of the database; one thread owns it.

A transaction: `begin`, any number of changes, each inside `attempt` so that one that fails leaves no trace, then
`commit` or `rollback`. Nothing is visible to readers before the commit, and a rollback undoes everything: rows and
spaces. Sequence numbers are taken back as well, unless vectors may be stored under them: those are given once.
"""

import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfsc_service.store.embedded.changes import (
    AppliedChange,
    Int64,
    ItemColumns,
    RemovedVersion,
    VectorColumns,
    outcomes_of,
)
from sfsc_service.store.embedded.sqlite.row_checksum import row_checksum, row_is_whole
from sfsc_service.store.embedded.sqlite.schema import (
    COLLECTION,
    ROW_COLUMNS,
    check_fit,
    open_database,
)
from sfsc_service.store.embedded.sqlite.write_ahead_log import WriteAheadLog
from sfsc_service.store.errors import FolderMismatchError, SpaceMismatchError, StoreFailedError
from sfsc_service.store.protocol import Float32, Outcome

__all__ = ["DatabaseWriter"]

_COLUMNS = ", ".join((*ROW_COLUMNS, "checksum"))
_FIND = f"SELECT {_COLUMNS} FROM items WHERE collection = ? AND id IN (SELECT value FROM json_each(?))"
_FIND_VERSIONS = f"SELECT {_COLUMNS} FROM items WHERE sequence IN (SELECT value FROM json_each(?))"
_REMOVE = "DELETE FROM items WHERE sequence IN (SELECT value FROM json_each(?))"
_FORGET_SPACES = """
DELETE FROM spaces WHERE name NOT IN (SELECT value FROM json_each(?))
AND NOT EXISTS (SELECT 1 FROM items WHERE space = name)
"""
_INSERT = f"INSERT INTO items ({_COLUMNS}) VALUES (?{', ?' * len(ROW_COLUMNS)})"


class _State(NamedTuple):
    """What a transaction changes beside rows.

    `checksum_sum`: of all rows. `space`: of new vectors, one of `spaces`.
    """

    last_sequence: int
    checksum_sum: int
    space: str
    spaces: frozenset[str]


class DatabaseWriter:
    def __init__(
        self, path: Path, space: str, dimension: int, compatible_with: Collection[str], new_gallery: int
    ) -> None:
        """`new_gallery`: the number of the gallery if there is none yet."""
        self._connection = open_database(path, space, dimension, compatible_with, new_gallery)
        self._path = path
        self.log = WriteAheadLog(self._connection, path)
        spaces = frozenset({space, *compatible_with})
        self._state = _State(self._meta("last_sequence"), self._meta("checksum_sum"), space, spaces)
        self._committed = self._state
        self.gallery = self._meta("gallery")
        self.columns_token = self._meta("columns", 0)
        """What `note_columns` noted last, when the database was opened."""
        self._lock_changes = 0

    @property
    def last_sequence(self) -> int:
        """The highest number that may have been given to a stored vector or a committed change."""
        return self._committed.last_sequence

    @property
    def spaces(self) -> frozenset[str]:
        """The committed ones; may be read from any thread."""
        return self._committed.spaces

    @property
    def checksum_sum(self) -> int:
        """Of the checksums of all committed rows, as it was kept with each change."""
        return self._committed.checksum_sum

    @property
    def clean(self) -> bool:
        """Whether the database was closed in order the last time."""
        return bool(self._meta("clean"))

    def skip_sequences(self, last: int) -> None:
        """Give no number up to `last` any more; outside of a transaction."""
        highest = max(last, self._committed.last_sequence)
        self._state = self._committed = self._committed._replace(last_sequence=highest)

    def correct_checksum_sum(self, found: int) -> None:
        """Replace the sum of the rows' checksums by that of the rows, each of which was found whole."""
        self._state = self._committed = self._committed._replace(checksum_sum=found)
        self._set_meta("checksum_sum", found)

    def rebuild_indexes(self) -> None:
        """Build the indexes of the tables anew."""
        self._connection.execute("REINDEX")

    def mark(self, *, clean: bool) -> None:
        self._set_meta("clean", int(clean))

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    @property
    def holds_lock(self) -> bool:
        """Whether nobody else can change the database now."""
        return self.in_transaction or self.log.emptying

    @property
    def lock_changes(self) -> int:
        """How often it has kept others from changing the database, or let them again."""
        return self._lock_changes + self.log.lock_changes

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._lock_changes += 1

    def commit(self) -> None:
        """Commit; where this raises, the transaction may still be found committed after a crash."""
        self._connection.execute("COMMIT")
        self._lock_changes += 1
        self._committed = self._state

    def rollback(self, *, vectors_stored: bool = False) -> None:
        """Undo the transaction; `vectors_stored`: its vectors may be on disk, so its numbers are used up."""
        last = self._state.last_sequence
        # A full disk makes SQLite roll back by itself; a second time would be an error.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._lock_changes += 1
        self._state = self._committed
        if vectors_stored:
            self.skip_sequences(last)

    def attempt(self, change: Callable[["DatabaseWriter"], AppliedChange]) -> AppliedChange:
        """Run one call's change; if it raises, the transaction is as it was before."""
        before = self._state
        self._connection.execute("SAVEPOINT attempt")
        try:
            applied = change(self)
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO attempt")
                self._connection.execute("RELEASE attempt")
            self._state = before
            raise
        self._connection.execute("RELEASE attempt")
        return applied

    def adopt(self, space: str, dimension: int, compatible_with: Collection[str]) -> AppliedChange:
        """Change the spaces, as `protocol.Store.adopt`. Raises FolderMismatchError."""
        spaces = frozenset({space, *compatible_with})
        self._connection.execute(_FORGET_SPACES, (json.dumps(sorted(spaces)),))
        check_fit(self._connection, self._path, dimension, spaces)
        if self._state.space not in spaces:
            rule = f"must hold vectors of the space {' or '.join(sorted(spaces))} only"
            raise FolderMismatchError(f"folder: {self._path.parent} {rule}; {self._state.space} is being served")
        self._state = self._state._replace(space=space, spaces=spaces)
        self._take_sequences(0)  # the mark of acknowledged changes follows, and must not be ahead of the database
        return AppliedChange()

    def note_columns(self, token: int) -> AppliedChange:
        """Note which file of columns is this database's own."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('columns', ?)", (token,))
        self._take_sequences(0)
        return AppliedChange()

    def upsert(self, items: ItemColumns) -> AppliedChange:
        self._check_spaces(items.spaces)
        found = self._remove(items.ids)
        removed = [_removed(row) for row in found.values()]
        change = AppliedChange(removed=removed, outcomes=outcomes_of(items.ids, found))
        kept = sorted({identifier: i for i, identifier in enumerate(items.ids)}.values())
        first = self._take_sequences(len(kept))
        now = _microseconds()
        change.created = [_created(found.get(items.ids[i]), now) for i in kept]
        change.sequences = np.arange(first, first + len(kept), dtype=np.int64)
        change.widths = [items.widths[i] for i in kept]
        change.metadata = [items.metadata[i] for i in kept]
        change.vectors = items.vectors if len(kept) == len(items.ids) else items.vectors[kept]
        self._insert(items, kept, change)
        return change

    def replace_metadata(self, sequence: int, metadata: str, vector: Float32) -> AppliedChange:
        """Replace a version by one with other metadata and its `vector` [D].

        Nothing is changed, and there is no outcome, where the version is no longer current.
        """
        rows = list(self._remove_versions(np.array([sequence], np.int64)).values())
        if not rows:
            return AppliedChange()
        change = self._insert_again(rows, [rows[0]["space"]], [rows[0]["width"]], [metadata], vector[None])
        change.outcomes = [Outcome.REPLACED]
        return change

    def replace_vectors(self, sequences: Int64, columns: VectorColumns) -> AppliedChange:
        """Make a new version of each of these that is still current; only vector, space and width differ.

        Raises StoreFailedError: one of them is damaged.
        """
        self._check_spaces(columns.spaces)
        found = {row["sequence"]: row for row in self._remove_versions(sequences).values()}
        if damaged := [row["id"] for row in found.values() if not row["whole"]]:
            raise StoreFailedError(f"the item {damaged[0]!r} is damaged; upsert it again or delete it")
        rows = [found.pop(sequence, None) for sequence in sequences.tolist()]
        kept = [i for i, row in enumerate(rows) if row is not None]
        current = [row for row in rows if row is not None]
        spaces, widths = [columns.spaces[i] for i in kept], [columns.widths[i] for i in kept]
        metadata = [row["metadata"] for row in current]
        change = self._insert_again(current, spaces, widths, metadata, columns.vectors[kept])
        change.existed = [row is not None for row in rows]
        return change

    def delete(self, ids: Sequence[str]) -> AppliedChange:
        found = self._remove(ids)
        self._take_sequences(len(found))
        first = {identifier: i for i, identifier in reversed(list(enumerate(ids)))}
        existed = [identifier in found and first[identifier] == i for i, identifier in enumerate(ids)]
        return AppliedChange(removed=[_removed(row) for row in found.values()], existed=existed)

    def delete_versions(self, sequences: Int64) -> AppliedChange:
        """Delete these versions; those that are no longer current are passed over."""
        found = self._remove_versions(sequences)
        self._take_sequences(len(found))
        return AppliedChange(removed=[_removed(row) for row in found.values()])

    def copy_meta(self, spaces: Collection[str], last_sequence: int) -> None:
        """Take over the spaces and the newest change of another database, whose rows follow."""
        self.begin()
        self._insert_spaces(spaces)
        self._take_sequences(last_sequence)
        self.commit()

    def copy_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows of another database with their own numbers and checksums."""
        self.begin()
        self._connection.executemany(_INSERT, rows)
        self._count_checksums(sum(row[-1] for row in rows))
        self.commit()

    def close(self) -> None:
        self._connection.close()

    def _check_spaces(self, found: Collection[str]) -> None:
        """They were checked before the call was queued, against older spaces. Raises SpaceMismatchError."""
        spaces = self._state.spaces
        for space in {*found} - spaces:
            raise SpaceMismatchError("space", f"must be one of {', '.join(sorted(spaces))}", repr(space))

    def _take_sequences(self, count: int) -> int:
        """The first of `count` new sequence numbers."""
        last = self._state.last_sequence
        self._state = self._state._replace(last_sequence=last + count)
        self._set_meta("last_sequence", last + count)
        return last + 1

    def _remove(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        return self._remove_rows(_FIND, COLLECTION, json.dumps(ids))

    def _remove_versions(self, sequences: Int64) -> dict[str, dict[str, Any]]:
        return self._remove_rows(_FIND_VERSIONS, json.dumps(sequences.tolist()))

    def _remove_rows(self, query: str, *values: str) -> dict[str, dict[str, Any]]:
        """Remove the rows that a query finds and give them, by id and column, with whether they were `whole`."""
        rows = self._connection.execute(query, values).fetchall()
        if rows:
            self._connection.execute(_REMOVE, (json.dumps([row[0] for row in rows]),))
            self._count_checksums(-sum(row[-1] for row in rows))
        found = (dict(zip(ROW_COLUMNS, row, strict=False)) | {"whole": row_is_whole(row)} for row in rows)
        return {row["id"]: row for row in found}

    def _insert_again(
        self,
        rows: list[dict[str, Any]],
        spaces: list[str],
        widths: list[str],
        metadata: list[str],
        vectors: Float32,
    ) -> AppliedChange:
        """Insert removed rows as new versions with these spaces, widths, metadata and vectors [n, D]."""
        first, now = self._take_sequences(len(rows)), _microseconds()
        items = ItemColumns(
            ids=[row["id"] for row in rows],
            spaces=spaces,
            widths=widths,
            reasons=[row["reason"] for row in rows],
            metadata=metadata,
            image_digests=[row["image"] for row in rows],
            media_types=[row["media_type"] for row in rows],
            vectors=vectors,
        )
        change = AppliedChange(
            removed=[_removed(row) for row in rows],
            sequences=np.arange(first, first + len(rows), dtype=np.int64),
            widths=widths,
            created=[_created(row, now) for row in rows],
            metadata=metadata,
            vectors=vectors,
        )
        self._insert(items, list(range(len(rows))), change)
        return change

    def _insert(self, items: ItemColumns, kept: list[int], change: AppliedChange) -> None:
        self._insert_spaces(set(items.spaces))
        columns = (
            items.ids,
            items.spaces,
            items.widths,
            items.reasons,
            items.metadata,
            items.image_digests,
            items.media_types,
        )
        values = columns if len(kept) == len(items.ids) else ([column[i] for i in kept] for column in columns)
        covered = (change.sequences.tolist(), [COLLECTION] * len(kept), *values, change.created)
        checksums = list(map(row_checksum, zip(*covered, strict=True)))
        self._connection.executemany(_INSERT, zip(*covered, checksums, strict=True))
        self._count_checksums(sum(checksums))

    def _insert_spaces(self, spaces: Collection[str]) -> None:
        self._connection.executemany("INSERT OR IGNORE INTO spaces VALUES (?)", [(space,) for space in spaces])

    def _count_checksums(self, difference: int) -> None:
        total = self._state.checksum_sum + difference
        self._state = self._state._replace(checksum_sum=total)
        self._set_meta("checksum_sum", total)

    def _meta(self, name: str, missing: int | None = None) -> int:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        value: Any = row[0] if row else missing
        return int(value)

    def _set_meta(self, name: str, value: int) -> None:
        self._connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))


def _removed(row: dict[str, Any]) -> RemovedVersion:
    return RemovedVersion(row["sequence"], row["id"], row["width"], row["image"], row["whole"])


def _created(replaced: dict[str, Any] | None, now: int) -> int:
    return int(replaced["created"]) if replaced and replaced["whole"] else now


def _microseconds() -> int:
    return time.time_ns() // 1_000
