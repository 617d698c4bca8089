"""Make a data folder as small as it can be: one segment without dead rows, and a database without free pages."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.check import open_reader
from sfsc_service.store.embedded.opening import DATABASE, SEGMENTS
from sfsc_service.store.embedded.segments.folder import Loaded, SegmentFolder
from sfsc_service.store.embedded.sqlite.repairs import shrink
from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.protocol import Float32

__all__ = ["CompactedFolder", "compact_folder"]

_ROWS_AT_ONCE = 8_192


class CompactedFolder(NamedTuple):
    """The bytes of database and vectors before and after."""

    before: int
    after: int


def compact_folder(folder: Path) -> CompactedFolder:
    """Write vectors and database anew without what was deleted or replaced. The folder must not be in use.

    Interrupted, it leaves the folder as good as it was.

    Raises:
        DatabaseLostError, FolderMismatchError: it is no gallery of this version.
        StoreFailedError: vectors are lost, or there is no space for a second copy of vectors and database.
        OSError, DatabaseError: a file cannot be read or written.
    """
    with closing(open_reader(folder)) as reader:
        meta, known = reader.meta(), reader.contents().sequences
    before = _size(folder)
    if (free := shutil.disk_usage(folder).free) < before:
        raise StoreFailedError(f"compacting needs {before} bytes of free disk space for a while; found {free}")
    segments = SegmentFolder(folder / SEGMENTS, meta["dimension"], meta["gallery"])
    loaded = segments.load(known, meta["last_sequence"])
    if len(loaded.lost):
        raise StoreFailedError(f"{len(loaded.lost)} items have no vector; `sfsc check {folder}` names them")
    old = [*(part.segment.path for part in loaded.segments), *segments.rotate()]
    if len(known) and (len(old) > 1 or len(loaded.sequences) or not loaded.segments[0].used.all()):
        segments.write(_pieces(loaded), len(known))
        segments.retire(old)
    shrink(folder / DATABASE)
    return CompactedFolder(before, _size(folder))


def _pieces(loaded: Loaded) -> Iterator[tuple[Int64, Float32]]:
    """All rows that are used, ascending."""
    for part in loaded.segments:
        for first in range(0, len(part.used), _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            used = part.used[rows]
            yield part.segment.sequences[rows][used], part.segment.vectors[rows][used]
    yield loaded.sequences, loaded.vectors


def _size(folder: Path) -> int:
    files = [*folder.glob(f"{DATABASE}*"), *(folder / SEGMENTS).glob("[0-9]*")]
    return sum(path.stat().st_size for path in files)
