"""What a call changes in the database, and what follows from it for the index, the images and the counts."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sfsc_service.store.protocol import Float32, Outcome, WidthReason

__all__ = [
    "AppliedChange",
    "Int64",
    "ItemColumns",
    "RemovedVersion",
    "VectorColumns",
    "Versions",
    "merge",
    "outcomes_of",
]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ItemColumns:
    """Checked items, column by column, each n long; `vectors` is little-endian float32 [n, D]."""

    ids: list[str]
    spaces: list[str]
    widths: list[str]
    reasons: list[WidthReason]
    metadata: list[str]
    image_digests: list[str | None]
    media_types: list[str | None]
    vectors: Float32


class VectorColumns(NamedTuple):
    """Checked vectors, little-endian float32 [n, D], with the space and the width of each."""

    spaces: list[str]
    widths: list[str]
    vectors: Float32


class Versions(NamedTuple):
    """What filters judge of versions, ascending, column by column; `created` in microseconds since 1970."""

    sequences: Int64
    widths: Sequence[str]
    created: Sequence[int]
    metadata: Sequence[str]


@dataclass(frozen=True, slots=True)
class RemovedVersion:
    """A version of an item that a change removed from the database; `whole`: whether it was as it was written."""

    sequence: int
    id: str
    width: str
    image_digest: str | None
    whole: bool = True


@dataclass(slots=True, eq=False)
class AppliedChange:
    """What one call, or a group of calls, did to the database.

    The new versions are `sequences` [n], ascending, with `widths`, `created`, `metadata` and `vectors` [n, D].
    `outcomes` answer an upsert, `existed` a deletion or a replacement of vectors.
    """

    removed: list[RemovedVersion] = field(default_factory=list)
    sequences: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    widths: list[str] = field(default_factory=list)
    created: list[int] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    vectors: Float32 = field(default_factory=lambda: np.empty((0, 0), np.float32))
    outcomes: list[Outcome] = field(default_factory=list)
    existed: list[bool] = field(default_factory=list)

    @property
    def removed_sequences(self) -> Int64:
        return np.array([version.sequence for version in self.removed], np.int64)

    @property
    def added(self) -> Versions:
        return Versions(self.sequences, self.widths, self.created, self.metadata)

    def composition(self, before: dict[str, int]) -> dict[str, int]:
        """The items per width after the change; `before`: those before it."""
        counts = Counter(before)
        counts.update(self.widths)
        counts.subtract(version.width for version in self.removed)
        return {width: count for width, count in sorted(counts.items()) if count > 0}


def merge(changes: Iterable[AppliedChange]) -> AppliedChange:
    """The changes of a group as one; a version that a later one removed again is both new and removed in it."""
    parts = list(changes)
    added = [part for part in parts if len(part.sequences)]
    merged = AppliedChange(removed=[version for part in parts for version in part.removed])
    if added:
        merged.sequences = np.concatenate([part.sequences for part in added])
        merged.widths = [width for part in added for width in part.widths]
        merged.created = [created for part in added for created in part.created]
        merged.metadata = [metadata for part in added for metadata in part.metadata]
        merged.vectors = np.concatenate([part.vectors for part in added])
    return merged


def outcomes_of(ids: Sequence[str], present: Collection[str]) -> list[Outcome]:
    """Of an upsert of `ids`, where those `present` were there before; an id that comes again is replaced."""
    seen = set(present)
    outcomes = []
    for identifier in ids:
        outcomes.append(Outcome.REPLACED if identifier in seen else Outcome.CREATED)
        seen.add(identifier)
    return outcomes
