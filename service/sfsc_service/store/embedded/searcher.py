"""Consistent search over the database and an index that is updated after it.

The index finds versions, the database gives the fields of exactly those versions. Where one of them is gone from
the database, or a version that the filter selected is not in the index (not yet, or not any more), a commit came
between, and the search is repeated; the last time with the commit lock held, so that no commit can come between.
"""

from contextlib import ExitStack
from threading import Lock

import numpy as np

from sfsc_service.store.embedded.index.vector_index import VectorIndex, VersionNotIndexedError
from sfsc_service.store.embedded.sqlite.reader import ReaderPool
from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.filters.sql import Condition
from sfsc_service.store.protocol import Float32, Hit

__all__ = ["Searcher"]

_ATTEMPTS_WITHOUT_LOCK = 2


class Searcher:
    """`commit_lock`: held by the writer thread from a commit until the index is up to date."""

    def __init__(self, index: VectorIndex, readers: ReaderPool, commit_lock: Lock) -> None:
        self._index = index
        self._readers = readers
        self._commit_lock = commit_lock

    def search(self, queries: Float32, k: int, condition: Condition | None) -> list[list[Hit]]:
        """The best hits for each of `queries` [n, D], n > 0; `condition`: among these items only."""
        for _ in range(_ATTEMPTS_WITHOUT_LOCK):
            hits = self._attempt(queries, k, condition)
            if hits is not None:
                return hits
        with self._commit_lock:
            hits = self._attempt(queries, k, condition)
        if hits is None:
            raise StoreFailedError("index and database are out of sync; restart the service")
        return hits

    def _attempt(self, queries: Float32, k: int, condition: Condition | None) -> list[list[Hit]] | None:
        """The hits, or None where a commit came between."""
        with ExitStack() as stack:
            reader = stack.enter_context(self._readers.acquire())
            selected = None
            if condition is not None:
                # The versions that are selected must be those that are read afterwards.
                stack.enter_context(reader.snapshot())
                selected = reader.select(condition)
            try:
                answers = self._index.search(queries, k, selected)
            except VersionNotIndexedError:
                return None
            wanted = np.unique(np.concatenate([answer.sequences for answer in answers]))
            fields = reader.hits(wanted)
        if len(fields) < len(wanted):
            return None
        return [
            [
                Hit._make((*fields[sequence], score))
                for sequence, score in zip(answer.sequences.tolist(), answer.scores.tolist(), strict=True)
            ]
            for answer in answers
        ]
