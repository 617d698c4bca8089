"""The rows of an index with some of them written anew, prepared while it is searched and changed.

At ten million rows this takes a second or more. What is left for the moment of the exchange takes milliseconds:
the rows that were added or deleted since the snapshot.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.allowed import Mask
from sfsc_service.store.embedded.index.faiss_rows import HostRows
from sfsc_service.store.embedded.index.growable_array import GrowableArray
from sfsc_service.store.embedded.index.vector_rows import VectorRows
from sfsc_service.store.protocol import Float32

__all__ = ["COPIED_AT_ONCE", "MappedRows", "Replacement", "Snapshot"]

COPIED_AT_ONCE = 4_096
"""A change waits while so many rows are copied."""


class MappedRows(NamedTuple):
    """Rows that are searched where they are, in the file `source`.

    Numbers [n], ascending, vectors [n, D], and which of them are `live` [n].
    """

    source: Path
    sequences: Int64
    vectors: Float32
    live: Mask


class Snapshot(NamedTuple):
    """The rows of an index, those of `mapped` and then the tail, and a copy of which were live [n]."""

    rows: VectorRows
    mapped: Sequence[MappedRows]
    live: Mask


class Replacement:
    """The rows of a snapshot with `fresh`, or nothing, in the place of those at `start` .. `end` - 1.

    Args:
        fresh: all rows that were live there, or some of them.
        make_host: as faiss_rows.make_index with matrices only.
        take: a copy [m, D] of the vectors at positions [m] of the snapshot.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        start: int,
        end: int,
        fresh: MappedRows | None,
        make_host: Callable[[Sequence[Float32]], HostRows],
        take: Callable[[Int64], Float32],
    ) -> None:
        self._before, self._start, self._end = snapshot, start, end
        rows, parts = snapshot.rows, _with_starts(snapshot.mapped)
        count, mapped_count = len(snapshot.live), sum(len(part.sequences) for part in snapshot.mapped)
        self.mapped = [part for first, part in parts if first + len(part.sequences) <= start]
        if fresh is not None:
            self.mapped.append(fresh._replace(live=np.empty(0, np.bool_)))
        self.mapped += [part for first, part in parts if first >= end]
        matrices = [part.vectors for part in self.mapped]

        sequences, live = rows.sequences[:count], snapshot.live
        self._fresh = np.empty(0, np.int64) if fresh is None else fresh.sequences
        still = _still_live(fresh, sequences[start:end], live[start:end])
        self._sequences: GrowableArray[np.int64] = GrowableArray(
            np.int64, (), [sequences[:start], self._fresh, sequences[end:]]
        )
        self._live: GrowableArray[np.bool_] = GrowableArray(np.bool_, (), [live[:start], still, live[end:]])

        tail = np.arange(max(end, mapped_count), count)
        chunks = (tail[first : first + COPIED_AT_ONCE] for first in range(0, len(tail), COPIED_AT_ONCE))
        self._tail: GrowableArray[np.float32] = GrowableArray(
            np.float32, (rows.host.dimension,), [take(chunk) for chunk in chunks]
        )
        self._host: HostRows | None = None
        if len(self._fresh) != end - start:
            self._host = make_host(matrices)
            self._host.add(self._tail.view())

    def follow(self, rows: VectorRows) -> VectorRows:
        """The new rows, with what was added to `rows` and deleted there since the snapshot; to be called once.

        `rows` are those of the snapshot. No change may be made meanwhile, and none to them afterwards.
        """
        count = len(self._before.live)
        later = np.arange(count, len(rows))
        vectors = rows.vectors(later)
        host = self._host
        if host is None:
            self._tail.extend(vectors)
            host = rows.host.rearranged([part.vectors for part in self.mapped], self._tail)
        else:
            host.add(vectors)
        self._sequences.extend(rows.sequences[later])
        self._live.extend(rows.live[later])
        fresh = VectorRows(host, self._sequences, self._live)
        gone = self._positions_now(np.flatnonzero(self._before.live & ~rows.live[:count]), rows.sequences)
        fresh.mark_deleted(gone[fresh.live[gone]])
        return fresh

    def _positions_now(self, positions: Int64, sequences: Int64) -> Int64:
        """Where the rows at positions of the snapshot are now; those that are nowhere are left out."""
        before, after = positions[positions < self._start], positions[positions >= self._end]
        wanted = sequences[positions[(positions >= self._start) & (positions < self._end)]]
        found = np.searchsorted(self._fresh, wanted)
        inside = found < len(self._fresh)
        found, wanted = found[inside], wanted[inside]
        found = found[self._fresh[found] == wanted]
        shift = len(self._fresh) - (self._end - self._start)
        return np.concatenate([before, self._start + found, after + shift])


def _with_starts(mapped: Sequence[MappedRows]) -> list[tuple[int, MappedRows]]:
    """The matrices, each with the position of its first row."""
    ends = np.cumsum([len(part.sequences) for part in mapped], dtype=np.int64).tolist()
    return list(zip([0, *ends], mapped, strict=False))


def _still_live(fresh: MappedRows | None, sequences: Int64, live: Mask) -> Mask:
    """Which rows of `fresh` are whole and `live`, as those with `sequences` are; its own are among them."""
    if fresh is None:
        return np.empty(0, np.bool_)
    if len(fresh.sequences) == len(sequences):
        return fresh.live & live
    still: Mask = fresh.live & live[np.searchsorted(sequences, fresh.sequences)]
    return still
