"""The searchable copy of the record: exact inner-product search over the current versions of all items.

Invariants:
- One thread changes it; any number search. A search sees all of a change or nothing of it.
- A version that is gone keeps its row, marked dead, until compaction, which builds new rows beside the old ones
  and swaps them in: searches never wait for the copying.
- The answer is that of brute force over the living versions, digit for digit.
"""

from collections.abc import Iterator

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.faiss_rows import make_index
from sfsc_service.store.embedded.index.rows import Ranking, Rows
from sfsc_service.store.embedded.index.rwlock import ReadWriteLock
from sfsc_service.store.protocol import Float32

__all__ = ["StaleSelectionError", "VectorIndex"]

# More candidates than asked for, so that near ties at the end seldom need a second search.
_SPARE = 16
_CHUNK = 65_536


class StaleSelectionError(Exception):
    """A version that was to be searched is not in the index: not any more, or not yet."""


class VectorIndex:
    """`device` and `threads` as in device.make_index, `dimension` D.

    `few_rows`: up to so many, ranking all costs less than asking the device and ranking what it proposes.
    """

    def __init__(self, dimension: int, device: str, threads: int, few_rows: int = 2_048) -> None:
        self._arguments = (dimension, device, threads)
        self._few_rows = few_rows
        self._exclusion = ReadWriteLock()
        self._rows = self._empty()
        # A float32 inner product of two vectors of length 1 is off by at most D roundings of 2^-24; two of them
        # are compared, and the other half is for lengths that are not quite 1.
        self._doubt = 4 * dimension * 2.0**-24

    @property
    def dimension(self) -> int:
        return self._arguments[0]

    def __len__(self) -> int:
        return self._rows.living

    def apply(self, removed: Int64, sequences: Int64, vectors: Float32) -> None:
        """Take out `removed` (unknown ones are passed over), append `sequences` [n] with `vectors` [n, D].

        `sequences` ascend and are newer than all before; those that are in `removed` too are left out.
        """
        keep = ~np.isin(sequences, removed)
        dead = self._rows.find(removed)
        if self._rows.too_many_dead(len(dead)):
            fresh = self._compacted(dead)
            fresh.append(sequences[keep], vectors[keep])
            self._swap(fresh)
            return
        with self._exclusion.exclusive():
            self._rows.append(sequences[keep], vectors[keep])
            self._rows.bury(dead)

    def clear(self) -> None:
        self._swap(self._empty())

    def search(self, queries: Float32, k: int, among: Int64 | None = None) -> list[Ranking]:
        """The min(k, living) best for each of `queries` [n, D], n > 0; `among`: of these versions only.

        Raises:
            StaleSelectionError: one of `among` is not here.
        """
        with self._exclusion.shared():
            rows = self._rows
            chosen = None if among is None else np.sort(rows.find(among))
            if among is not None and chosen is not None and len(chosen) < len(among):
                raise StaleSelectionError
            available = rows.living if chosen is None else len(chosen)
            if available <= max(self._few_rows, 2 * k):
                positions = rows.living_positions() if chosen is None else chosen
                return [rows.rank(query, positions, k) for query in queries]
            return self._narrowed(rows, queries, k, chosen)

    def chunks(self) -> Iterator[tuple[Int64, Float32]]:
        """All living versions, ascending. Takes no lock: only for the thread that changes the index."""
        return self._rows.chunks(self._rows.living_positions(), _CHUNK)

    def _narrowed(self, rows: Rows, queries: Float32, k: int, chosen: Int64 | None) -> list[Ranking]:
        """Rank the device's candidates; where they may lack a hit, ask again for more of them."""
        answers: dict[int, Ranking] = {}
        pending, spare = list(range(len(queries))), _SPARE
        available = rows.living if chosen is None else len(chosen)
        while pending:
            found = rows.candidates(queries[pending], min(k + spare, available), chosen)
            for number, one in zip(pending, found, strict=True):
                if one.scores[k - 1] - one.bound > self._doubt:
                    answers[number] = rows.rank(queries[number], one.positions, k)
            pending, spare = [number for number in pending if number not in answers], spare * 4
        return [answers[number] for number in range(len(queries))]

    def _empty(self) -> Rows:
        return Rows(make_index(*self._arguments))

    def _compacted(self, dead: Int64) -> Rows:
        fresh = self._empty()
        living = np.setdiff1d(self._rows.living_positions(), dead, assume_unique=True)
        for sequences, vectors in self._rows.chunks(living, _CHUNK):
            fresh.append(sequences, vectors)
        return fresh

    def _swap(self, fresh: Rows) -> None:
        with self._exclusion.exclusive():
            self._rows = fresh
