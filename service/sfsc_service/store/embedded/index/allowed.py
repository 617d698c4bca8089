"""The versions among which a search looks, and where they are among the rows of an index."""

from collections.abc import Collection
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sfsc_service.store.embedded.changes import Int64

__all__ = ["Allowed"]

# Looking up every version costs as much as reading so many rows.
_LOOKUP_ROWS = 16


class Allowed(NamedTuple):
    """Those of `sequences` [n], which ascend, that are set in `mask` [n]."""

    sequences: Int64
    mask: npt.NDArray[np.bool_]

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
        if _LOOKUP_ROWS * self.size <= len(rows):
            return _looked_up(self.versions, rows)
        if np.array_equal(self.sequences, rows):
            return np.flatnonzero(self.mask)
        first, last = int(self.sequences[0]), int(self.sequences[-1])
        if last - first >= _LOOKUP_ROWS * len(rows):
            return _looked_up(self.versions, rows)
        table = np.zeros(last - first + 1, np.bool_)
        table[self.sequences - first] = self.mask
        start, end = np.searchsorted(rows, [first, last + 1])
        positions: Int64 = start + np.flatnonzero(table[rows[start:end] - first])
        return positions


def _looked_up(versions: Int64, rows: Int64) -> Int64:
    positions = np.searchsorted(rows, versions)
    inside = positions < len(rows)
    positions, versions = positions[inside], versions[inside]
    found: Int64 = positions[rows[positions] == versions]
    return found
