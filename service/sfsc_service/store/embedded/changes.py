"""What calls do to the record, and what then follows for the index, the images and the counts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sfsc_service.store.protocol import Float32, Outcome

__all__ = ["Change", "Int64", "Old", "Rows", "merge"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Checked items on their way into the record, aligned: `vectors` is little-endian float32 [n, D]."""

    ids: list[str]
    spaces: list[str]
    widths: list[str]
    metadata: list[str]
    images: list[str | None]
    media_types: list[str | None]
    vectors: Float32


@dataclass(frozen=True, slots=True)
class Old:
    """A version that a change took out of the record."""

    sequence: int
    width: str
    image: str | None


@dataclass(slots=True, eq=False)
class Change:
    """The effect of one call, or of a group of calls, on a record; `sequences` ascend."""

    removed: list[Old] = field(default_factory=list)
    sequences: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    widths: list[str] = field(default_factory=list)
    vectors: Float32 = field(default_factory=lambda: np.empty((0, 0), np.float32))
    outcomes: list[Outcome] = field(default_factory=list)
    existed: list[bool] = field(default_factory=list)

    @property
    def removed_sequences(self) -> Int64:
        return np.array([old.sequence for old in self.removed], np.int64)

    def composition(self, before: dict[str, int]) -> dict[str, int]:
        counts = Counter(before)
        counts.update(self.widths)
        counts.subtract(old.width for old in self.removed)
        return {width: count for width, count in sorted(counts.items()) if count}


def merge(changes: Iterable[Change]) -> Change:
    """The changes of a group as one, in their order; what one added and a later one removed is in both lists."""
    parts = list(changes)
    added = [part for part in parts if len(part.sequences)]
    merged = Change(removed=[old for part in parts for old in part.removed])
    if added:
        merged.sequences = np.concatenate([part.sequences for part in added])
        merged.widths = [width for part in added for width in part.widths]
        merged.vectors = np.concatenate([part.vectors for part in added])
    return merged
