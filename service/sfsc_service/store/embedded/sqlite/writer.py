"""The write side of the record: one thread owns it.

Callers `begin`, make changes (each `attempt`ed, so that one that fails leaves no trace), and `commit`; nothing is
visible to readers before. `last_sequence` is the number of the newest committed or pending change.
"""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from sfsc_service.store.embedded.changes import Change, Old, Rows
from sfsc_service.store.embedded.sqlite.schema import check_fit, open_record
from sfsc_service.store.errors import FolderMismatchError, SpaceMismatchError
from sfsc_service.store.protocol import Outcome

__all__ = ["DatabaseWriter"]

_FIND = "SELECT id, sequence, width, picture FROM items WHERE id IN (SELECT value FROM json_each(?))"
_REMOVE = "DELETE FROM items WHERE sequence IN (SELECT value FROM json_each(?))"
_INSERT = "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_VECTOR = "INSERT INTO vectors VALUES (?, ?)"


class DatabaseWriter:
    def __init__(self, path: Path, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        self._connection = open_record(path, space, dimension, compatible_with)
        self._path = path
        self.spaces = frozenset({space, *compatible_with})
        self._space = space
        self.last_sequence = self._meta("last_sequence")

    @property
    def clean(self) -> bool:
        """Whether the record was closed in order the last time."""
        return bool(self._meta("clean"))

    def mark(self, *, clean: bool) -> None:
        self._set_meta("clean", int(clean))

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._set_meta("last_sequence", self.last_sequence)
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        # A full disk makes SQLite roll back by itself; a second time would be an error.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self.last_sequence = self._meta("last_sequence")

    def attempt(self, change: Callable[["DatabaseWriter"], Change]) -> Change:
        """Run one call's change; if it raises, the transaction is as it was before."""
        before = self.last_sequence
        self._connection.execute("SAVEPOINT attempt")
        try:
            done = change(self)
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO attempt")
                self._connection.execute("RELEASE attempt")
            self.last_sequence = before
            raise
        self._connection.execute("RELEASE attempt")
        return done

    def adopt(self, space: str, dimension: int, compatible_with: Collection[str]) -> Change:
        """Take on other spaces, as `protocol.Store.adopt`. Raises FolderMismatchError."""
        spaces = frozenset({space, *compatible_with})
        check_fit(self._connection, self._path, dimension, spaces)
        if self._space not in spaces:
            rule = f"must hold vectors of the space {' or '.join(sorted(spaces))} only"
            raise FolderMismatchError(f"folder: {self._path.parent} {rule}; {self._space} is being served")
        self.spaces, self._space = spaces, space
        return Change()

    def upsert(self, rows: Rows) -> Change:
        for space in {*rows.spaces} - self.spaces:  # checked before it was queued, when others may have held
            raise SpaceMismatchError("space", f"must be one of {', '.join(sorted(self.spaces))}", repr(space))
        old = self._take_out(rows.ids)
        change = Change(removed=list(old.values()), outcomes=_outcomes(rows.ids, old))
        kept = sorted({identifier: i for i, identifier in enumerate(rows.ids)}.values())
        change.sequences = np.arange(self.last_sequence + 1, self.last_sequence + 1 + len(kept), dtype=np.int64)
        change.widths = [rows.widths[i] for i in kept]
        change.vectors = rows.vectors if len(kept) == len(rows.ids) else rows.vectors[kept]
        self._insert(rows, kept, change)
        self.last_sequence += len(kept)
        return change

    def delete(self, ids: Sequence[str]) -> Change:
        old = self._take_out(ids)
        self.last_sequence += len(old)
        first = {identifier: i for i, identifier in reversed(list(enumerate(ids)))}
        existed = [identifier in old and first[identifier] == i for i, identifier in enumerate(ids)]
        return Change(removed=list(old.values()), existed=existed)

    def close(self) -> None:
        self._connection.close()

    def _take_out(self, ids: Sequence[str]) -> dict[str, Old]:
        found = self._connection.execute(_FIND, (json.dumps(ids),))
        old = {identifier: Old(*version) for identifier, *version in found}
        if old:
            self._connection.execute(_REMOVE, (json.dumps([version.sequence for version in old.values()]),))
        return old

    def _insert(self, rows: Rows, kept: list[int], change: Change) -> None:
        numbers = change.sequences.tolist()
        spaces = [(space,) for space in set(rows.spaces)]
        self._connection.executemany("INSERT OR IGNORE INTO spaces VALUES (?)", spaces)
        columns: list[Sequence[str | None]] = [rows.ids, rows.spaces, rows.widths, rows.metadata]
        columns += [rows.images, rows.media_types]
        if len(kept) < len(rows.ids):
            columns = [[column[i] for i in kept] for column in columns]
        self._connection.executemany(_INSERT, zip(numbers, *columns, strict=True))
        blobs = (vector.data for vector in change.vectors)
        self._connection.executemany(_INSERT_VECTOR, zip(numbers, blobs, strict=True))

    def _meta(self, name: str) -> int:
        (value,) = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(value)

    def _set_meta(self, name: str, value: int) -> None:
        self._connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))


def _outcomes(ids: Sequence[str], old: Collection[str]) -> list[Outcome]:
    seen = set(old)
    outcomes = []
    for identifier in ids:
        outcomes.append(Outcome.REPLACED if identifier in seen else Outcome.CREATED)
        seen.add(identifier)
    return outcomes
