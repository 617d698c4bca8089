"""The write side of the database; one thread owns it.

A transaction: `begin`, any number of changes, each inside `attempt` so that one that fails leaves no trace, then
`commit` or `rollback`. Nothing is visible to readers before the commit, and a rollback undoes everything: rows,
sequence numbers and spaces.
"""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfsc_service.store.embedded.changes import AppliedChange, ItemColumns, RemovedVersion
from sfsc_service.store.embedded.sqlite.schema import check_fit, open_database
from sfsc_service.store.errors import FolderMismatchError, SpaceMismatchError
from sfsc_service.store.protocol import Outcome

__all__ = ["DatabaseWriter"]

_FIND = "SELECT id, sequence, width, picture FROM items WHERE id IN (SELECT value FROM json_each(?))"
_REMOVE = "DELETE FROM items WHERE sequence IN (SELECT value FROM json_each(?))"
_INSERT_VECTOR = "INSERT INTO vectors (sequence, vector) VALUES (?, ?)"


class _State(NamedTuple):
    """What a transaction changes beside rows. `space`: of new vectors, one of `spaces`."""

    last_sequence: int
    space: str
    spaces: frozenset[str]


class DatabaseWriter:
    def __init__(self, path: Path, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        self._connection = open_database(path, space, dimension, compatible_with)
        self._path = path
        self._state = _State(self._meta("last_sequence"), space, frozenset({space, *compatible_with}))
        self._committed = self._state

    @property
    def last_sequence(self) -> int:
        """The number of the newest committed change."""
        return self._committed.last_sequence

    @property
    def spaces(self) -> frozenset[str]:
        """The committed ones; may be read from any thread."""
        return self._committed.spaces

    @property
    def clean(self) -> bool:
        """Whether the database was closed in order the last time."""
        return bool(self._meta("clean"))

    def mark(self, *, clean: bool) -> None:
        self._set_meta("clean", int(clean))

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit; where this raises, the transaction may still be found committed after a crash."""
        self._connection.execute("COMMIT")
        self._committed = self._state

    def rollback(self) -> None:
        # A full disk makes SQLite roll back by itself; a second time would be an error.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._state = self._committed

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
        check_fit(self._connection, self._path, dimension, spaces)
        if self._state.space not in spaces:
            rule = f"must hold vectors of the space {' or '.join(sorted(spaces))} only"
            raise FolderMismatchError(f"folder: {self._path.parent} {rule}; {self._state.space} is being served")
        self._state = self._state._replace(space=space, spaces=spaces)
        return AppliedChange()

    def upsert(self, items: ItemColumns) -> AppliedChange:
        spaces = self._state.spaces
        # They were checked before the call was queued, against older spaces.
        for space in {*items.spaces} - spaces:
            raise SpaceMismatchError("space", f"must be one of {', '.join(sorted(spaces))}", repr(space))
        removed = self._remove(items.ids)
        change = AppliedChange(removed=list(removed.values()), outcomes=_outcomes(items.ids, removed))
        kept = sorted({identifier: i for i, identifier in enumerate(items.ids)}.values())
        first = self._take_sequences(len(kept))
        change.sequences = np.arange(first, first + len(kept), dtype=np.int64)
        change.widths = [items.widths[i] for i in kept]
        change.vectors = items.vectors if len(kept) == len(items.ids) else items.vectors[kept]
        self._insert(items, kept, change)
        return change

    def delete(self, ids: Sequence[str]) -> AppliedChange:
        removed = self._remove(ids)
        self._take_sequences(len(removed))
        first = {identifier: i for i, identifier in reversed(list(enumerate(ids)))}
        existed = [identifier in removed and first[identifier] == i for i, identifier in enumerate(ids)]
        return AppliedChange(removed=list(removed.values()), existed=existed)

    def close(self) -> None:
        self._connection.close()

    def _take_sequences(self, count: int) -> int:
        """The first of `count` new sequence numbers."""
        last = self._state.last_sequence
        self._state = self._state._replace(last_sequence=last + count)
        self._set_meta("last_sequence", last + count)
        return last + 1

    def _remove(self, ids: Sequence[str]) -> dict[str, RemovedVersion]:
        found = self._connection.execute(_FIND, (json.dumps(ids),))
        removed = {identifier: RemovedVersion(*version) for identifier, *version in found}
        if removed:
            numbers = json.dumps([version.sequence for version in removed.values()])
            self._connection.execute(_REMOVE, (numbers,))
        return removed

    def _insert(self, items: ItemColumns, kept: list[int], change: AppliedChange) -> None:
        numbers = change.sequences.tolist()
        spaces = [(space,) for space in set(items.spaces)]
        self._connection.executemany("INSERT OR IGNORE INTO spaces VALUES (?)", spaces)
        columns: dict[str, Sequence[str | None]] = {
            "id": items.ids,
            "space": items.spaces,
            "width": items.widths,
            "metadata": items.metadata,
            "picture": items.image_digests,
            "media_type": items.media_types,
        }
        insert = f"INSERT INTO items (sequence, {', '.join(columns)}) VALUES (?{', ?' * len(columns)})"
        values = (
            columns.values() if len(kept) == len(items.ids) else ([c[i] for i in kept] for c in columns.values())
        )
        self._connection.executemany(insert, zip(numbers, *values, strict=True))
        blobs = (vector.data for vector in change.vectors)
        self._connection.executemany(_INSERT_VECTOR, zip(numbers, blobs, strict=True))

    def _meta(self, name: str) -> int:
        (value,) = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(value)

    def _set_meta(self, name: str, value: int) -> None:
        self._connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))


def _outcomes(ids: Sequence[str], present: Collection[str]) -> list[Outcome]:
    seen = set(present)
    outcomes = []
    for identifier in ids:
        outcomes.append(Outcome.REPLACED if identifier in seen else Outcome.CREATED)
        seen.add(identifier)
    return outcomes
