"""The searchable copy of the database: exact inner-product search over the current versions of all items.

Invariants:
- One change is made at a time, searches run beside it. A search sees all of a change or nothing of it.
- A deleted version keeps its row as a tombstone until the rows around it are replaced by those of a new segment.
- An answer is that of brute force over the current versions, digit for digit.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from sfsc_bundle.runner import Device
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.allowed import Allowed, Mask
from sfsc_service.store.embedded.index.faiss_rows import make_index
from sfsc_service.store.embedded.index.growable_array import GrowableArray
from sfsc_service.store.embedded.index.replacement import COPIED_AT_ONCE, MappedRows, Replacement, Snapshot
from sfsc_service.store.embedded.index.vector_rows import TopK, VectorRows
from sfsc_service.store.embedded.rwlock import ReadWriteLock
from sfsc_service.store.protocol import Float32

__all__ = ["RowCount", "VectorIndex", "VersionNotIndexedError"]

# Further candidates beside the k that are asked for, so that near ties at the end seldom need a second search.
_SPARE = 16


class VersionNotIndexedError(Exception):
    """A version is not in the index: not yet, or not any more."""


class RowCount(NamedTuple):
    """How many rows there are, how many of them are no tombstones, and their file; None for the tail."""

    rows: int
    live: int
    source: Path | None = None


class VectorIndex:
    """`device` and `threads` as in faiss_rows.make_index, `dimension` D.

    `few_rows`: up to so many rows, scoring all of them exactly costs less than a search on the device before.
    The rows are those of some matrices, mapped, and then the tail, to which new ones are appended.
    """

    def __init__(self, dimension: int, device: Device, threads: int, few_rows: int = 2_048) -> None:
        self._arguments = (dimension, device, threads)
        self._few_rows = few_rows
        self._lock = ReadWriteLock()
        self._changing = Lock()
        self._mapped: list[MappedRows] = []
        self._rows = VectorRows(make_index(*self._arguments))
        # A float32 inner product of two vectors of length 1 is off by at most D roundings of 2^-24, the difference
        # of two by 2·D·2^-24; doubled, because lengths are not exactly 1.
        self._score_tolerance = 4 * dimension * 2.0**-24

    @property
    def dimension(self) -> int:
        return self._arguments[0]

    def __len__(self) -> int:
        return self._rows.live_count

    @property
    def row_count(self) -> int:
        """Of the rows, tombstones among them."""
        return len(self._rows)

    def fill(self, mapped: Sequence[MappedRows], sequences: Int64, vectors: Float32) -> None:
        """Replace everything by `mapped` rows, and by `sequences` [n] with `vectors` [n, D] as the tail."""
        with self._changing:
            host = make_index(*self._arguments, [part.vectors for part in mapped])
            host.add(vectors)
            every = [*(part.sequences for part in mapped), sequences]
            live = [*(part.live for part in mapped), np.ones(len(sequences), np.bool_)]
            rows = VectorRows(host, GrowableArray(np.int64, (), every), GrowableArray(np.bool_, (), live))
            with self._lock.exclusive():
                # Which rows are live is known to `rows` from now on.
                self._mapped = [part._replace(live=np.empty(0, np.bool_)) for part in mapped]
                self._rows = rows

    def apply(self, removed: Int64, sequences: Int64, vectors: Float32) -> None:
        """Delete `removed` (unknown ones are passed over), append `sequences` [n] with `vectors` [n, D].

        `sequences` ascend and are newer than all before; those that are in `removed` too are left out.
        """
        keep = ~np.isin(sequences, removed)
        with self._changing:
            deleted = self._rows.positions_of(removed)
            with self._lock.exclusive():
                self._rows.append(sequences[keep], vectors[keep])
                self._rows.mark_deleted(deleted)

    def sizes(self) -> tuple[list[RowCount], RowCount]:
        """Of the mapped matrices, and of the tail."""
        with self._changing:
            parts = [part for _, part in self._current_parts()]
            mapped = [RowCount(len(p.live), int(np.count_nonzero(p.live)), p.source) for p in parts]
            tail = self._rows.live[sum(count.rows for count in mapped) :]
            return mapped, RowCount(len(tail), int(np.count_nonzero(tail)))

    def live_rows(self, start: int, end: int) -> tuple[Int64, Int64]:
        """Positions and numbers of the live rows at the positions `start` .. `end` - 1."""
        with self._changing:
            live, sequences = self._rows.live[start:end].copy(), self._rows.sequences
        positions = start + np.flatnonzero(live)
        return positions, sequences[positions]

    def current(self) -> Allowed:
        """All versions that are searched now."""
        with self._lock.shared():
            return Allowed(self._rows.sequences, self._rows.live.copy())

    def count_after(self, sequence: int) -> int:
        """How many live versions are newer than `sequence`."""
        with self._lock.shared():
            return len(self._rows.live_positions_after(sequence))

    def rows_after(self, sequence: int, limit: int) -> tuple[Int64, Float32]:
        """The first `limit` live versions that are newer than `sequence`, and a copy of their vectors."""
        with self._lock.shared():
            positions = self._rows.live_positions_after(sequence, limit)
            return self._rows.sequences[positions], self._rows.vectors(positions)

    def sample(self, count: int, rng: np.random.Generator) -> Float32:
        """A copy of the vectors of `count` versions drawn at random, or of all; fewer where some go meanwhile."""
        with self._lock.shared():
            sequences = self._rows.sequences[self._rows.live_positions()]
        drawn = np.sort(rng.choice(sequences, min(count, len(sequences)), replace=False))
        parts = [np.empty((0, self.dimension), np.float32)]
        for first in range(0, len(drawn), COPIED_AT_ONCE):
            with self._lock.shared():
                part = drawn[first : first + COPIED_AT_ONCE]
                parts.append(self._rows.vectors(self._rows.positions_of(part)))
        return np.concatenate(parts)

    def vectors_at(self, positions: Int64) -> Float32:
        """A copy of the rows at positions that `live_rows` gave, before the next `replace`."""
        with self._lock.shared():
            return self._rows.vectors(positions)

    def prepare_replacement(self, start: int, end: int, fresh: MappedRows | None) -> Replacement:
        """For `replace`: `fresh` in the place of the rows at `start` .. `end` - 1, or nothing.

        These are whole matrices, the first rows of the tail, or both. `fresh` has all rows that `live_rows` gave.
        Changes go on meanwhile; only one replacement may be under way.
        """
        with self._changing:
            snapshot = Snapshot(self._rows, list(self._mapped), self._rows.live.copy())

        def take(positions: Int64) -> Float32:
            with self._lock.shared():
                return snapshot.rows.vectors(positions)

        return Replacement(snapshot, start, end, fresh, partial(make_index, *self._arguments), take)

    def replace(self, prepared: Replacement) -> list[MappedRows]:
        """Use the rows that were prepared, without those that were deleted since.

        Returns the matrices that are not used any more; to give them back to the system takes a while, in which to
        hold no lock.
        """
        with self._changing:
            kept = {part.source for part in prepared.mapped}
            unused = [part for part in self._mapped if part.source not in kept]
            rows = prepared.follow(self._rows)
            with self._lock.exclusive():
                self._mapped, self._rows = prepared.mapped, rows
            return unused

    def drop(self, sequences: Int64) -> None:
        """Search these versions no more; unknown ones are passed over."""
        with self._changing, self._lock.exclusive():
            self._rows.mark_deleted(self._rows.positions_of(sequences))

    def vectors_of(self, sequences: Int64) -> Float32:
        """A copy of the vectors [n, D] of these versions. Raises VersionNotIndexedError."""
        with self._lock.shared():
            positions = self._rows.positions_of(sequences)
            if len(positions) < len(sequences):
                raise VersionNotIndexedError
            return self._rows.vectors(positions)

    def search(self, queries: Float32, k: int, allowed: Allowed | None = None) -> list[TopK]:
        """The min(k, rows) best for each of `queries` [n, D], n > 0; `allowed`: among these versions only.

        Raises:
            VersionNotIndexedError: one of `allowed` is not in the index.
        """
        with self._lock.shared():
            rows = self._rows
            selected = None if allowed is None else rows.live_among(allowed)
            available = rows.live_count if selected is None else int(np.count_nonzero(selected))
            if allowed is not None and available < allowed.size:
                raise VersionNotIndexedError
            if available <= max(self._few_rows, 2 * k):
                compared = rows.live_positions() if selected is None else np.flatnonzero(selected)
                return [rows.exact_top_k(query, compared, k) for query in queries]
            return self._search_device(rows, queries, k, selected, available)

    def search_candidates(self, queries: Float32, k: int, candidates: Int64, covered: int) -> list[TopK]:
        """About the min(k, rows) best for each of `queries` [n, D], n > 0.

        They are of the versions `candidates` [n, m], of which unknown and deleted ones are passed over, and of all
        versions above `covered`. Where too few of the candidates are left, every row is searched.
        """
        with self._lock.shared():
            rows = self._rows
            enough = min(2 * k, rows.live_count)
            positions = [
                np.concatenate([rows.positions_of(np.unique(some)), newer])
                for some, newer in zip(candidates, self._best_above(rows, queries, k, covered), strict=True)
            ]
            answers = {
                number: rows.exact_top_k(queries[number], some, k)
                for number, some in enumerate(positions)
                if len(some) >= enough
            }
        if lacking := [number for number in range(len(queries)) if number not in answers]:
            answers.update(zip(lacking, self.search(queries[lacking], k), strict=True))
        return [answers[number] for number in range(len(queries))]

    def _best_above(self, rows: VectorRows, queries: Float32, k: int, covered: int) -> list[Int64]:
        """Positions, ascending, among which the k best versions above `covered` are, for each query."""
        newer = rows.live_positions_after(covered)
        if len(newer) <= max(self._few_rows, 2 * k):
            return [newer] * len(queries)
        selected = np.zeros(len(rows), np.bool_)
        selected[newer] = True
        found = rows.find_candidates(queries, k + _SPARE, selected, certain=True)
        return [one.positions for one in found]

    def _search_device(
        self, rows: VectorRows, queries: Float32, k: int, selected: Mask | None, available: int
    ) -> list[TopK]:
        """Score the device's candidates exactly; where a hit may be missing among them, ask for more."""
        answers: dict[int, TopK] = {}
        pending, spare = list(range(len(queries))), _SPARE
        while pending:
            wanted = min(k + spare, available)
            found = rows.find_candidates(queries[pending], wanted, selected, certain=spare > _SPARE)
            for number, one in zip(pending, found, strict=True):
                if len(one.scores) >= k and one.scores[k - 1] - one.bound > self._score_tolerance:
                    answers[number] = rows.exact_top_k(queries[number], one.positions, k)
            pending, spare = [number for number in pending if number not in answers], spare * 4
        return [answers[number] for number in range(len(queries))]

    def _current_parts(self) -> list[tuple[int, MappedRows]]:
        """The mapped matrices with what is live now, each with the position of its first row."""
        parts, start = [], 0
        for part in self._mapped:
            end = start + len(part.sequences)
            parts.append((start, part._replace(live=self._rows.live[start:end])))
            start = end
        return parts
