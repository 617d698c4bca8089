"""The vectors of files by their numbers, read without changing anything and without holding them in memory."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.segments.log import read_log
from sfsc_service.store.embedded.segments.segment import SegmentDamagedError, open_segment
from sfsc_service.store.protocol import Float32

__all__ = ["VectorLookup", "vector_files"]


def vector_files(folder: Path) -> list[Path]:
    """The files of a folder that hold vectors."""
    return [*folder.glob("[0-9]*.segment"), *folder.glob("[0-9]*.log")]


class VectorLookup:
    """All vectors in `paths` that are as they were written; of two with one number, that of the newer file.

    Each segment takes a descriptor.

    Args:
        last_sequence: of the newest committed change.

    Attributes:
        paths: the files, the newest first.
        sequences: the numbers, ascending.

    Raises:
        FolderMismatchError: a file belongs to another gallery.
        OSError: a file cannot be read.
    """

    def __init__(self, paths: Iterable[Path], dimension: int, gallery: int, last_sequence: int) -> None:
        self._dimension = dimension
        self._vectors: list[Float32] = []
        self.paths = sorted(paths, key=lambda path: path.name, reverse=True)
        numbers, parts, rows = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for path in self.paths:
            if path.suffix == ".log":
                log = read_log(path, dimension, gallery, last_sequence)
                sequences, vectors, whole = log.sequences, log.vectors, np.arange(len(log.sequences))
            else:
                try:
                    segment = open_segment(path, dimension, gallery)
                except SegmentDamagedError:
                    continue
                sequences, vectors, whole = segment.sequences, segment.vectors, np.flatnonzero(segment.whole)
            numbers.append(sequences[whole])
            parts.append(np.full(len(whole), len(self._vectors), np.int32))
            rows.append(whole)
            self._vectors.append(vectors)
        self.sequences, first = np.unique(np.concatenate(numbers), return_index=True)
        self._parts, self._rows = np.concatenate(parts)[first], np.concatenate(rows)[first]

    def at(self, sequences: Int64) -> Float32:
        """The vectors [n, D] of these numbers, all of which must be in `sequences`."""
        places = np.searchsorted(self.sequences, sequences)
        parts, rows = self._parts[places], self._rows[places]
        found = np.empty((len(sequences), self._dimension), np.float32)
        for part in np.unique(parts).tolist():
            wanted = parts == part
            found[wanted] = self._vectors[part][rows[wanted]]
        return found

    def __contains__(self, sequence: int) -> bool:
        """Whether the vector of a number is there."""
        place = int(np.searchsorted(self.sequences, sequence))
        return place < len(self.sequences) and int(self.sequences[place]) == sequence
