"""Versions in the order of their sequence numbers, with the dead among them.

Scores are those of protocol.py: the device proposes `candidates`, `rank` decides. So the answer does not depend on
the device, the other queries of the call, or what was deleted before.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.faiss_rows import HostRows
from sfsc_service.store.embedded.index.growable_array import GrowableArray
from sfsc_service.store.protocol import Float32

__all__ = ["Candidates", "Ranking", "Rows", "exact_scores"]

# Up to so many dead rows, fetching more candidates costs less than a selector, which shuts out matrix products.
_OVERFETCH = 256
_DEAD_SHARE = 0.2
_CHUNK = 1_024


class Ranking(NamedTuple):
    """One query's answer, best first: float32 [k] and int64 [k]."""

    scores: Float32
    sequences: Int64


class Candidates(NamedTuple):
    """What the device proposes for one query: positions [m] ascending, and its own scores.

    `scores`: of the candidates, descending. `bound`: no row left out has a device score above it.
    """

    positions: Int64
    scores: Float32
    bound: float


def exact_scores(vectors: Float32, query: Float32) -> Float32:
    """Inner products of `vectors` [n, D] with `query` [D], summed in float64, as float32 [n].

    einsum sums each row on its own and always in the same order; a matrix product does not.
    """
    wide = query.astype(np.float64)
    scores = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _CHUNK):
        chunk = vectors[start : start + _CHUNK].astype(np.float64)
        scores[start : start + _CHUNK] = np.einsum("ij,j->i", chunk, wide)
    return scores


class Rows:
    """Changes need to be alone; everything else may run side by side."""

    def __init__(self, host: HostRows) -> None:
        self._host = host
        self._sequences: GrowableArray[np.int64] = GrowableArray(np.int64)
        self._alive: GrowableArray[np.bool_] = GrowableArray(np.bool_)
        self._dead = 0

    def __len__(self) -> int:
        return len(self._host)

    @property
    def living(self) -> int:
        return len(self) - self._dead

    def append(self, sequences: Int64, vectors: Float32) -> None:
        if not len(sequences):
            return
        self._host.add(vectors)
        self._sequences.extend(sequences)
        self._alive.extend(np.ones(len(sequences), np.bool_))

    def bury(self, positions: Int64) -> None:
        self._alive.view()[positions] = False
        self._dead += len(positions)

    def too_many_dead(self, more: int) -> bool:
        return self._dead + more > max(_OVERFETCH, _DEAD_SHARE * len(self))

    def find(self, sequences: Int64) -> Int64:
        """The positions of those of `sequences` that live, in the same order."""
        known = self._sequences.view()
        positions = np.searchsorted(known, sequences)
        inside = positions < len(known)
        positions, wanted = positions[inside], sequences[inside]
        found: Int64 = positions[(known[positions] == wanted) & self._alive.view()[positions]]
        return found

    def living_positions(self) -> Int64:
        return np.flatnonzero(self._alive.view())

    def chunks(self, positions: Int64, size: int) -> Iterator[tuple[Int64, Float32]]:
        """Sequence numbers [m] and vectors [m, D] of `positions`, `size` at a time."""
        for start in range(0, len(positions), size):
            part = positions[start : start + size]
            yield self._sequences.view()[part], self._host.vectors()[part]

    def candidates(self, queries: Float32, wanted: int, chosen: Int64 | None) -> list[Candidates]:
        """At least `wanted` living rows for each query, or all there are; `chosen`: only among these positions."""
        selective = chosen is not None or self._dead > _OVERFETCH
        fetched = wanted if selective else min(wanted + self._dead, len(self))
        everything = wanted >= (self.living if chosen is None else len(chosen))
        bitmap = self._bitmap(chosen) if selective else None
        found = zip(*self._host.search(queries, fetched, bitmap), strict=True)
        return [self._candidates(*one, everything=everything) for one in found]

    def rank(self, query: Float32, positions: Int64, k: int) -> Ranking:
        """The k best of `positions`, which ascend."""
        vectors = self._host.vectors()
        chosen = vectors if len(positions) == len(vectors) else vectors[positions]
        scores = exact_scores(chosen, query)
        best = np.argsort(-scores, kind="stable")[:k]
        return Ranking(scores[best], self._sequences.view()[positions[best]])

    def _candidates(self, scores: Float32, positions: Int64, *, everything: bool) -> Candidates:
        bound = -np.inf if everything else float(scores[-1])
        living = (positions >= 0) & self._alive.view()[positions]
        return Candidates(np.sort(positions[living]), scores[living], bound)

    def _bitmap(self, chosen: Int64 | None) -> npt.NDArray[np.uint8]:
        mask = self._alive.view()
        if chosen is not None:
            mask = np.zeros(len(self), np.bool_)
            mask[chosen] = True
        return np.packbits(mask, bitorder="little")
