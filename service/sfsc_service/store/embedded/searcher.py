"""Search over two parts that change one after the other: the record first, then the index.

A ranking from the index is turned into hits with the record's rows of exactly those versions. If one of them is no
longer there, or a version that the filter chose is not (yet, or any more) in the index, the search is done again;
the last time while no commit can come between.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from threading import Lock

import numpy as np

from sfsc_service.store.embedded.index.rows import Ranking
from sfsc_service.store.embedded.index.vector_index import StaleSelectionError, VectorIndex
from sfsc_service.store.embedded.sqlite.reader import HitRow, ReaderPool
from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.filters.sql import Condition
from sfsc_service.store.protocol import Float32, Hit

__all__ = ["Searcher"]

_HASTY_ATTEMPTS = 2


class Searcher:
    """`gate`: held by the writer from a commit until the index has followed."""

    def __init__(self, index: VectorIndex, readers: ReaderPool, gate: Lock) -> None:
        self._index = index
        self._readers = readers
        self._gate = gate

    def search(self, queries: Float32, k: int, condition: Condition | None) -> list[list[Hit]]:
        """The best hits for each of `queries` [n, D], n > 0; `condition`: among these items only."""
        for _ in range(_HASTY_ATTEMPTS):
            hits = self._attempt(queries, k, condition)
            if hits is not None:
                return hits
        with self._gate:
            hits = self._attempt(queries, k, condition)
        if hits is None:
            raise StoreFailedError("store: index and record must agree; found that they do not")
        return hits

    def _attempt(self, queries: Float32, k: int, condition: Condition | None) -> list[list[Hit]] | None:
        with ExitStack() as stack:
            reader = stack.enter_context(self._readers.lend())
            among = None
            if condition is not None:
                # What was chosen must be what is read afterwards.
                stack.enter_context(reader.snapshot())
                among = reader.select(condition)
            try:
                rankings = self._index.search(queries, k, among)
            except StaleSelectionError:
                return None
            wanted = np.unique(np.concatenate([ranking.sequences for ranking in rankings]))
            rows = reader.hits(wanted)
        return _hits(rankings, rows) if len(rows) == len(wanted) else None


def _hits(rankings: Sequence[Ranking], rows: dict[int, HitRow]) -> list[list[Hit]]:
    return [
        [
            Hit._make((*rows[sequence], score))
            for sequence, score in zip(ranking.sequences.tolist(), ranking.scores.tolist(), strict=True)
        ]
        for ranking in rankings
    ]
