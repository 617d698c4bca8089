"""Filling the index at a start: from a snapshot and the changes after it, or from the database alone.

The sequence numbers in the database decide: versions of the snapshot that are not among them are left out (deleted
or replaced since), and those above the snapshot's number are read from the database. If the two do not add up to
the whole database, the snapshot belongs to another one and is not used.
"""

import logging
from pathlib import Path

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.snapshot import Snapshot, read_snapshot
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.sqlite.reader import DatabaseReader
from sfsc_service.store.errors import StoreFailedError

__all__ = ["fill_index", "rebuild_index"]

_NONE = np.empty(0, np.int64)

_log = logging.getLogger(__name__)


def fill_index(index: VectorIndex, reader: DatabaseReader, path: Path, last_sequence: int) -> bool:
    """Fill an empty index; True if the snapshot at `path` was used, otherwise that file is deleted.

    Raises:
        StoreFailedError: the database is damaged.
    """
    snapshot = read_snapshot(path, index.dimension)
    known = reader.sequences()
    if snapshot is None or not _belongs(snapshot, known, last_sequence):
        path.unlink(missing_ok=True)
        rebuild_index(index, reader)
        return False
    kept = np.isin(snapshot.sequences, known)
    index.apply(_NONE, snapshot.sequences[kept], snapshot.vectors[kept])
    _append_above(snapshot.sequence, index, reader, len(known))
    return True


def rebuild_index(index: VectorIndex, reader: DatabaseReader) -> None:
    """Fill an index from the database alone. Raises StoreFailedError: the database is damaged."""
    index.clear()
    _append_above(0, index, reader, len(reader.sequences()))


def _belongs(snapshot: Snapshot, known: Int64, last_sequence: int) -> bool:
    surviving = np.isin(snapshot.sequences, known).sum()
    newer = (known > snapshot.sequence).sum()
    fits = snapshot.sequence <= last_sequence and surviving + newer == len(known)
    if not fits:
        _log.warning("the index snapshot does not belong to this database; the index is rebuilt")
    return bool(fits)


def _append_above(sequence: int, index: VectorIndex, reader: DatabaseReader, expected: int) -> None:
    for sequences, vectors in reader.vectors_above(sequence):
        index.apply(_NONE, sequences, vectors)
    if len(index) != expected:
        raise StoreFailedError(f"the database is damaged: it has {len(index)} vectors for {expected} items")
