"""Consistent reads over the database and an index that is updated after it.

The database has the fields of a version, the index its vector. Each is asked by itself, in no transaction that
spans both. Where a version that one of them gave is not in the other (not yet, or not any more), a commit came
between, and the read is repeated; the last time with the commit lock held, so that no commit can come between.
Versions that are found damaged are named, searched no more, and left out.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TypeVar

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.columns.filter_index import FilterIndex
from sfsc_service.store.embedded.damage import Damage
from sfsc_service.store.embedded.index.allowed import Allowed
from sfsc_service.store.embedded.index.approximate import ApproximateSearch
from sfsc_service.store.embedded.index.vector_index import VectorIndex, VersionNotIndexedError
from sfsc_service.store.embedded.index.vector_rows import TopK
from sfsc_service.store.embedded.sqlite.reader import ItemRow, MalformedMetadataError, ReaderPool
from sfsc_service.store.embedded.verification import name_damaged_rows
from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.filters.sql import to_sql
from sfsc_service.store.filters.terms import Term
from sfsc_service.store.protocol import Float32, Hit, StoredItem

__all__ = ["Reads"]

T = TypeVar("T")

_ATTEMPTS_WITHOUT_LOCK = 2
# Each attempt but two names damaged versions that were not known before.
_ATTEMPTS = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _DamageFoundError(Exception):
    """Damaged versions were found and named; the read goes on without them."""


class Reads:
    """`commit_lock`: held by the writer thread from a commit until the index is up to date."""

    def __init__(
        self, index: VectorIndex, filters: FilterIndex, readers: ReaderPool, commit_lock: Lock, damage: Damage
    ) -> None:
        self._index = index
        self._filters = filters
        self._readers = readers
        self._commit_lock = commit_lock
        self._damage = damage

    def search(self, queries: Float32, k: int, term: Term | None, with_vectors: bool) -> list[list[Hit]]:
        """The best hits for each of `queries` [n, D], n > 0; `term`: among items that meet it."""
        return self._repeated(lambda: self._hits(self._search(queries, k, term), with_vectors))

    def search_approximately(
        self, approximate: ApproximateSearch | None, queries: Float32, k: int, with_vectors: bool
    ) -> tuple[list[list[Hit]], bool]:
        """About the best hits for each of `queries` [n, D], and whether they are exactly the best ones."""
        if not len(queries):
            return [], True

        def attempt() -> tuple[list[list[Hit]], bool]:
            found = None if approximate is None else approximate.search(queries, k)
            exact = found is None
            return self._hits(self._index.search(queries, k) if found is None else found, with_vectors), exact

        return self._repeated(attempt)

    def get(self, ids: Sequence[str]) -> list[StoredItem | None]:
        """Look up; None where there is no such item. Raises StoreFailedError: one of them is damaged."""
        return self._repeated(lambda: self._get(ids))

    def current(self, id: str) -> tuple[int, StoredItem] | None:
        """An item and the number of its version; None where there is none. Raises as `get`."""
        return self._repeated(lambda: self._current(id))

    def page(self, after: str, limit: int, term: Term | None) -> tuple[list[StoredItem], bool]:
        """The first `limit` items by id after `after` that meet `term`, and whether there are more."""
        return self._repeated(lambda: self._page(after, limit, term))

    def versions(self, term: Term) -> Int64:
        """The numbers of the items that meet `term`, ascending."""
        return self._repeated(lambda: self._select(term)).versions

    def versions_of(self, items: Sequence[StoredItem]) -> Int64:
        """The number of each item's current version; −1 where it is not as it was read any more, or damaged."""
        return self._repeated(lambda: self._versions_of(items))

    def image(self, id: str) -> tuple[str, str] | None:
        """Digest and media type of an item's image. Raises StoreFailedError: the item is damaged."""
        with self._readers.acquire() as reader:
            rows = reader.rows_of([id])
        self._refuse_damaged(rows)
        if not rows or rows[0].image is None or rows[0].media_type is None:
            return None
        return rows[0].image, rows[0].media_type

    def _repeated(self, attempt: Callable[[], T]) -> T:
        overtaken = 0
        for _ in range(_ATTEMPTS):
            locked = overtaken >= _ATTEMPTS_WITHOUT_LOCK
            try:
                with self._commit_lock if locked else nullcontext():
                    return attempt()
            except _DamageFoundError:
                continue
            except VersionNotIndexedError:
                if locked:
                    raise StoreFailedError("index and database are out of sync; restart the service") from None
                overtaken += 1
        raise StoreFailedError("the database is damaged in too many places; put a copy in its place")

    def _search(self, queries: Float32, k: int, term: Term | None) -> list[TopK]:
        return self._index.search(queries, k) if term is None else self._search_among(queries, k, term)

    def _hits(self, answers: Sequence[TopK], with_vectors: bool) -> list[list[Hit]]:
        wanted = np.unique(np.concatenate([answer.sequences for answer in answers]))
        with self._readers.acquire() as reader:
            rows = reader.rows_at(wanted)
        self._leave_out_damaged(rows)
        if len(rows) < len(wanted):
            raise VersionNotIndexedError
        fields = {row.sequence: (row.id, row.space, row.width, row.metadata, row.image) for row in rows}
        vectors = self._vectors(wanted) if with_vectors else {}
        return [
            [
                Hit._make((*fields[sequence], score, vectors.get(sequence)))
                for sequence, score in zip(answer.sequences.tolist(), answer.scores.tolist(), strict=True)
            ]
            for answer in answers
        ]

    def _search_among(self, queries: Float32, k: int, term: Term) -> list[TopK]:
        with self._filters.unchanged():
            allowed = self._filters.select(term)
            if allowed is not None:
                return self._index.search(queries, k, allowed.without(self._damage.sequences))
        return self._index.search(queries, k, self._ask_database(term))

    def _select(self, term: Term) -> Allowed:
        with self._filters.unchanged():
            if (allowed := self._filters.select(term)) is not None:
                # A copy: the next change may move what it shows.
                return Allowed.all_of(allowed.without(self._damage.sequences).versions)
        return self._ask_database(term)

    def _ask_database(self, term: Term) -> Allowed:
        damaged = self._damage.sequences
        try:
            with self._readers.acquire() as reader:
                return Allowed.all_of(reader.select(to_sql(term), damaged)).without(damaged)
        except MalformedMetadataError:
            self._find_damage()
            raise _DamageFoundError from None

    def _get(self, ids: Sequence[str]) -> list[StoredItem | None]:
        with self._readers.acquire() as reader:
            rows = reader.rows_of(ids)
        self._refuse_damaged(rows)
        found = {item.id: item for item in self._items(rows)}
        return [found.get(identifier) for identifier in ids]

    def _current(self, id: str) -> tuple[int, StoredItem] | None:
        with self._readers.acquire() as reader:
            rows = reader.rows_of([id])
        self._refuse_damaged(rows)
        return (rows[0].sequence, self._items(rows)[0]) if rows else None

    def _versions_of(self, items: Sequence[StoredItem]) -> Int64:
        with self._readers.acquire() as reader:
            rows = reader.rows_of([item.id for item in items])
        rows = [row for row in rows if row.whole and row.sequence not in self._damage]
        current = {item.id: (row.sequence, item) for row, item in zip(rows, self._items(rows), strict=True)}
        found = (current.get(item.id) for item in items)
        numbers = (
            now[0] if now is not None and now[1].equals(item) else -1
            for now, item in zip(found, items, strict=True)
        )
        return np.fromiter(numbers, np.int64, len(items))

    def _page(self, after: str, limit: int, term: Term | None) -> tuple[list[StoredItem], bool]:
        if (rows := None if term is None else self._few_rows(after, limit, term)) is not None:
            self._leave_out_damaged(rows)
            return self._items(rows[:limit]), len(rows) > limit
        damaged, condition = self._damage.sequences, None if term is None else to_sql(term)
        try:
            with self._readers.acquire() as reader:
                rows = reader.rows_after(after, limit + 1, condition, damaged)
        except MalformedMetadataError:
            self._find_damage()
            raise _DamageFoundError from None
        self._leave_out_damaged(rows)
        return self._items(rows[:limit]), len(rows) > limit

    def _few_rows(self, after: str, limit: int, term: Term) -> list[ItemRow] | None:
        """As `rows_after`, where that would read more rows than meet `term`; None where columns do not tell."""
        with self._filters.unchanged():
            allowed = self._filters.select(term)
            if allowed is None or allowed.size**2 > limit * len(allowed.sequences):
                return None
            versions = allowed.without(self._damage.sequences).versions
        with self._readers.acquire() as reader:
            ids = reader.ids_at(versions)
            chosen = [ids[name] for name in sorted(name for name in ids if name > after)[: limit + 1]]
            rows = reader.rows_at(np.array(chosen, np.int64))
        if len(ids) < len(versions) or len(rows) < len(chosen):
            raise VersionNotIndexedError
        return sorted(rows, key=lambda row: row.id)

    def _items(self, rows: Sequence[ItemRow]) -> list[StoredItem]:
        vectors = self._vectors(np.array([row.sequence for row in rows], np.int64))
        return [_item(row, vectors[row.sequence]) for row in rows]

    def _vectors(self, sequences: Int64) -> dict[int, Float32]:
        vectors = self._index.vectors_of(sequences)
        vectors.setflags(write=False)
        return dict(zip(sequences.tolist(), vectors, strict=True))

    def _refuse_damaged(self, rows: Sequence[ItemRow]) -> None:
        for row in rows:
            if not row.whole or row.sequence in self._damage:
                self._name([row])
                raise StoreFailedError(
                    f"the item {row.id!r} is damaged and is not served; upsert it again or delete it"
                )

    def _leave_out_damaged(self, rows: Sequence[ItemRow]) -> None:
        damaged = [row for row in rows if not row.whole]
        if damaged:
            self._name(damaged)
            raise _DamageFoundError

    def _name(self, rows: Sequence[ItemRow]) -> None:
        self._damage.add({row.sequence: row.id for row in rows}, "rows of the database")
        self._index.drop(np.array([row.sequence for row in rows], np.int64))

    def _find_damage(self) -> None:
        """Check every row; a filter has come upon one that is damaged."""
        with self._readers.acquire() as reader:
            found = name_damaged_rows(reader, self._damage, lambda: False)
        if not len(found.damaged):
            raise StoreFailedError("the database is damaged: metadata that are no JSON are in no damaged row")
        self._index.drop(found.damaged)


def _item(row: ItemRow, vector: Float32) -> StoredItem:
    shown = Hit(row.id, row.space, row.width, row.metadata, row.image, 0.0)
    created = _EPOCH + timedelta(microseconds=row.created)
    return StoredItem(row.id, row.space, row.width, vector, shown.metadata, row.image, row.reason, created)
