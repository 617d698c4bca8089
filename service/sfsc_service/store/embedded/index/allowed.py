"""The versions among which a search looks, and where they are among the rows of an index."""

from collections.abc import Callable, Collection
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sfsc_service.store.embedded.changes import Int64

__all__ = ["Allowed", "Mask"]

Mask = npt.NDArray[np.bool_]

# Looking up every version costs as much as reading so many rows.
_LOOKUP_ROWS = 64


class Allowed(NamedTuple):
    """Those of `sequences` [n], which ascend, that are set in `mask` [n]."""

    sequences: Int64
    mask: Mask

    @classmethod
    def all_of(cls, sequences: Int64) -> Self:
        return cls(sequences, np.ones(len(sequences), np.bool_))

    @property
    def versions(self) -> Int64:
        """Ascending."""
        return self.sequences[np.flatnonzero(self.mask)]

    @property
    def size(self) -> int:
        """How many they are."""
        return int(np.count_nonzero(self.mask))

    def without(self, excluded: Collection[int]) -> Self:
        if not excluded:
            return self
        return self._replace(mask=self.mask & ~np.isin(self.sequences, list(excluded)))

    def positions_in(self, rows: Int64) -> Int64:
        """The positions, ascending, of these versions in `rows` [m], which ascend; others are left out."""
        if self._few_beside(rows):
            return _looked_up(self.versions, rows)
        return np.flatnonzero(self.mask_in(rows))

    def mask_in(self, rows: Int64, equal: Callable[[Int64, Int64], bool] = np.array_equal) -> Mask:
        """Which of `rows` [m], which ascend, are of these versions; maybe `mask` itself, so not to be altered.

        `equal`: tells whether `sequences` are equal to `rows`.
        """
        if equal(self.sequences, rows):
            return self.mask
        found = np.zeros(len(rows), np.bool_)
        if self._few_beside(rows) or self._sparse_beside(rows):
            found[_looked_up(self.versions, rows)] = True
            return found
        first, last = int(self.sequences[0]), int(self.sequences[-1])
        table = np.zeros(last - first + 1, np.bool_)
        table[self.sequences - first] = self.mask
        start, end = np.searchsorted(rows, [first, last + 1])
        np.take(table, rows[start:end] - first, out=found[start:end])
        return found

    def _few_beside(self, rows: Int64) -> bool:
        return _LOOKUP_ROWS * self.size <= len(rows)

    def _sparse_beside(self, rows: Int64) -> bool:
        return int(self.sequences[-1]) - int(self.sequences[0]) >= _LOOKUP_ROWS * len(rows)


def _looked_up(versions: Int64, rows: Int64) -> Int64:
    positions = np.searchsorted(rows, versions)
    inside = positions < len(rows)
    positions, versions = positions[inside], versions[inside]
    found: Int64 = positions[rows[positions] == versions]
    return found
