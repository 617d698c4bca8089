"""Index rows by sequence number, with tombstones.

The device proposes candidates by its own scores, exact scores decide among them: so an answer does not depend on
the device, on the other queries of the call, or on what was deleted before.
"""

from typing import NamedTuple

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.allowed import Allowed, Mask
from sfsc_service.store.embedded.index.faiss_rows import HostRows
from sfsc_service.store.embedded.index.growable_array import GrowableArray, GrowthComparison
from sfsc_service.store.protocol import Float32

__all__ = ["Candidates", "TopK", "VectorRows", "exact_scores"]

# So many tombstones may come first before a search is repeated with a selector, with which faiss uses no matrix
# product.
_OVERFETCH = 256
_CHUNK = 1_024


class TopK(NamedTuple):
    """The k best rows for one query, best first: float32 [k] and int64 [k]."""

    scores: Float32
    sequences: Int64


class Candidates(NamedTuple):
    """What the device proposes for one query: positions [m] ascending, and device scores [m] descending.

    `bound`: no other row has a device score above it.
    """

    positions: Int64
    scores: Float32
    bound: float


def exact_scores(vectors: Float32, query: Float32) -> Float32:
    """Inner products of `vectors` [n, D] with `query` [D], summed in float64, as float32 [n].

    einsum sums each row by itself and always in the same order; a matrix product does not.
    """
    scores = np.empty(len(vectors), np.float32)
    scores[:] = np.einsum("ij,j->i", vectors.astype(np.float64), query.astype(np.float64))
    return scores


class VectorRows:
    """Methods that change rows must run alone; all others may run in parallel."""

    def __init__(
        self,
        host: HostRows,
        sequences: GrowableArray[np.int64] | None = None,
        live: GrowableArray[np.bool_] | None = None,
    ) -> None:
        """`sequences`: of all rows that `host` has, ascending, and which of them are `live`; None: it has none."""
        self._host = host
        self._sequences = GrowableArray(np.int64) if sequences is None else sequences
        self._live = GrowableArray(np.bool_) if live is None else live
        self._equal = GrowthComparison()
        self._tombstones = len(self._live) - int(np.count_nonzero(self._live.view()))

    def __len__(self) -> int:
        return len(self._host)

    @property
    def host(self) -> HostRows:
        return self._host

    @property
    def sequences(self) -> Int64:
        """Of all rows [n], tombstones included; invalid after the next `append`."""
        return self._sequences.view()

    @property
    def live(self) -> Mask:
        """Which rows [n] are no tombstones; invalid after the next `append`."""
        return self._live.view()

    @property
    def live_count(self) -> int:
        return len(self) - self._tombstones

    def append(self, sequences: Int64, vectors: Float32) -> None:
        if not len(sequences):
            return
        self._host.add(vectors)
        self._sequences.extend(sequences)
        self._live.extend(np.ones(len(sequences), np.bool_))

    def mark_deleted(self, positions: Int64) -> None:
        self._live.view()[positions] = False
        self._tombstones += len(positions)

    def positions_of(self, sequences: Int64) -> Int64:
        """The positions of `sequences`, in the same order; unknown and deleted ones are left out."""
        known = self._sequences.view()
        positions = np.searchsorted(known, sequences)
        inside = positions < len(known)
        positions, wanted = positions[inside], sequences[inside]
        found: Int64 = positions[(known[positions] == wanted) & self._live.view()[positions]]
        return found

    def live_among(self, allowed: Allowed) -> Mask:
        """Which rows [n] are live and of these versions, without unknown and deleted ones; not to be altered."""
        found: Mask = allowed.mask_in(self._sequences.view(), self._equal)
        return found & self._live.view() if self._tombstones else found

    def live_positions(self) -> Int64:
        return np.flatnonzero(self._live.view())

    def live_positions_after(self, sequence: int, limit: int | None = None) -> Int64:
        """Of the live rows with a number above `sequence`, ascending; at most the first `limit` > 0."""
        first = int(np.searchsorted(self._sequences.view(), sequence, "right"))
        live = self._live.view()[first:]
        end = len(live) if limit is None else limit
        while len(found := np.flatnonzero(live[:end])[:limit]) < (limit or 0) and end < len(live):
            end *= 4  # many are tombstones
        return first + found

    def vectors(self, positions: Int64) -> Float32:
        """A copy of the rows at `positions` [n], as [n, D]."""
        return self._host.take(positions)

    def find_candidates(
        self, queries: Float32, wanted: int, selected: Mask | None, *, certain: bool
    ) -> list[Candidates]:
        """The best `wanted` live rows for each query, or all there are; `selected` [n]: only these.

        Those selected are live. Unless `certain`, fewer may come where many tombstones are as good.
        """
        selective = selected is not None or (certain and self._tombstones > _OVERFETCH)
        fetched = wanted if selective else min(wanted + min(self._tombstones, _OVERFETCH), len(self))
        mask = None
        if selective:
            mask = self._live.view() if selected is None else selected
        everything = fetched >= (len(self) if mask is None else int(np.count_nonzero(mask)))
        found = zip(*self._host.search(queries, fetched, mask), strict=True)
        return [self._candidates(*one, everything=everything) for one in found]

    def exact_top_k(self, query: Float32, positions: Int64, k: int) -> TopK:
        """The k best of `positions`, which ascend; equal scores by sequence number."""
        chunks = (positions[start : start + _CHUNK] for start in range(0, len(positions), _CHUNK))
        scored = [exact_scores(self._host.take(chunk), query) for chunk in chunks]
        scores = np.concatenate(scored) if scored else np.empty(0, np.float32)
        best = np.argsort(-scores, kind="stable")[:k]
        return TopK(scores[best], self._sequences.view()[positions[best]])

    def _candidates(self, scores: Float32, positions: Int64, *, everything: bool) -> Candidates:
        bound = -np.inf if everything else float(scores[-1])
        live = (positions >= 0) & self._live.view()[positions]
        return Candidates(np.sort(positions[live]), scores[live], bound)
