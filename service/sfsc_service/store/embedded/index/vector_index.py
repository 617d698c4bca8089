"""The searchable copy of the database: exact inner-product search over the current versions of all items.

Invariants:
- One thread changes it, any number search. A search sees all of a change or nothing of it.
- A deleted version keeps its row as a tombstone until compaction, which builds new rows beside the old ones and
  then swaps them in: searches never wait for the copying.
- An answer is that of brute force over the current versions, digit for digit.
"""

from collections.abc import Iterator

import numpy as np

from sfsc_bundle.runner import Device
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.faiss_rows import make_index
from sfsc_service.store.embedded.index.rwlock import ReadWriteLock
from sfsc_service.store.embedded.index.vector_rows import TopK, VectorRows
from sfsc_service.store.protocol import Float32

__all__ = ["VectorIndex", "VersionNotIndexedError"]

# Further candidates beside the k that are asked for, so that near ties at the end seldom need a second search.
_SPARE = 16
_CHUNK = 65_536


class VersionNotIndexedError(Exception):
    """A selected version is not in the index: not yet, or not any more."""


class VectorIndex:
    """`device` and `threads` as in faiss_rows.make_index, `dimension` D.

    `few_rows`: up to so many rows, scoring all of them exactly costs less than a search on the device before.
    """

    def __init__(self, dimension: int, device: Device, threads: int, few_rows: int = 2_048) -> None:
        self._arguments = (dimension, device, threads)
        self._few_rows = few_rows
        self._lock = ReadWriteLock()
        self._rows = self._empty()
        # A float32 inner product of two vectors of length 1 is off by at most D roundings of 2^-24, the difference
        # of two by 2·D·2^-24; doubled, because lengths are not exactly 1.
        self._score_tolerance = 4 * dimension * 2.0**-24

    @property
    def dimension(self) -> int:
        return self._arguments[0]

    def __len__(self) -> int:
        return self._rows.live_count

    def apply(self, removed: Int64, sequences: Int64, vectors: Float32) -> None:
        """Delete `removed` (unknown ones are passed over), append `sequences` [n] with `vectors` [n, D].

        `sequences` ascend and are newer than all before; those that are in `removed` too are left out.
        """
        keep = ~np.isin(sequences, removed)
        deleted = self._rows.positions_of(removed)
        if self._rows.needs_compaction(len(deleted)):
            fresh = self._compacted(deleted)
            fresh.append(sequences[keep], vectors[keep])
            self._swap(fresh)
            return
        with self._lock.exclusive():
            self._rows.append(sequences[keep], vectors[keep])
            self._rows.mark_deleted(deleted)

    def clear(self) -> None:
        self._swap(self._empty())

    def search(self, queries: Float32, k: int, selected: Int64 | None = None) -> list[TopK]:
        """The min(k, rows) best for each of `queries` [n, D], n > 0; `selected`: of these versions only.

        Raises:
            VersionNotIndexedError: one of `selected` is not in the index.
        """
        with self._lock.shared():
            rows = self._rows
            positions = None if selected is None else np.sort(rows.positions_of(selected))
            if selected is not None and positions is not None and len(positions) < len(selected):
                raise VersionNotIndexedError
            available = rows.live_count if positions is None else len(positions)
            if available <= max(self._few_rows, 2 * k):
                compared = rows.live_positions() if positions is None else positions
                return [rows.exact_top_k(query, compared, k) for query in queries]
            return self._search_device(rows, queries, k, positions)

    def chunks(self) -> Iterator[tuple[Int64, Float32]]:
        """All current versions, ascending. Takes no lock: only for the thread that changes the index."""
        return self._rows.chunks(self._rows.live_positions(), _CHUNK)

    def _search_device(self, rows: VectorRows, queries: Float32, k: int, positions: Int64 | None) -> list[TopK]:
        """Score the device's candidates exactly; where a hit may be missing among them, ask for more."""
        answers: dict[int, TopK] = {}
        pending, spare = list(range(len(queries))), _SPARE
        available = rows.live_count if positions is None else len(positions)
        while pending:
            found = rows.find_candidates(queries[pending], min(k + spare, available), positions)
            for number, one in zip(pending, found, strict=True):
                if one.scores[k - 1] - one.bound > self._score_tolerance:
                    answers[number] = rows.exact_top_k(queries[number], one.positions, k)
            pending, spare = [number for number in pending if number not in answers], spare * 4
        return [answers[number] for number in range(len(queries))]

    def _empty(self) -> VectorRows:
        return VectorRows(make_index(*self._arguments))

    def _compacted(self, deleted: Int64) -> VectorRows:
        fresh = self._empty()
        kept = np.setdiff1d(self._rows.live_positions(), deleted, assume_unique=True)
        for sequences, vectors in self._rows.chunks(kept, _CHUNK):
            fresh.append(sequences, vectors)
        return fresh

    def _swap(self, fresh: VectorRows) -> None:
        with self._lock.exclusive():
            self._rows = fresh
