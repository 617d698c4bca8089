"""A folder of schema 1 becomes one of schema 2, once, at the first start.

Schema 1 had its vectors in the database `record.sqlite`, its images in `pictures/`, and a snapshot of the index.
The new database and segments are made beside the old ones and change nothing of them; renaming the finished
database is the one step that counts. Before it, the next start begins anew; after it, the next start does what is
left.
"""

import logging
import shutil
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np

from sfsc_bundle.atomic_file import sync
from sfsc_service.store.embedded.opening import DATABASE, IMAGES, SEGMENTS, new_gallery_number
from sfsc_service.store.embedded.segments.folder import SegmentFolder
from sfsc_service.store.embedded.sqlite.schema_1 import OldDatabase
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter

__all__ = ["convert_schema_1"]

_OLD_DATABASE = "record.sqlite"
_OLD_IMAGES = "pictures"
_ROWS_PER_SEGMENT = 65_536

_log = logging.getLogger(__name__)


def convert_schema_1(folder: Path, dimension: int, spaces: Collection[str]) -> None:
    """Convert `folder` if it is of schema 1; a folder of another schema, or an empty one, stays as it is.

    Raises:
        FolderMismatchError: its vectors are of another dimension, or of other spaces; nothing was changed.
        StoreFailedError: its database is damaged; nothing was changed.
        OSError, DatabaseError: a file cannot be read or written; the next start tries again.
    """
    old = folder / _OLD_DATABASE
    if old.exists() and not (folder / DATABASE).exists():
        _make_new_files(folder, old, dimension, spaces)
    if (folder / DATABASE).exists():
        _remove_old_files(folder, old)


def _make_new_files(folder: Path, old: Path, dimension: int, spaces: Collection[str]) -> None:
    began = time.monotonic()
    staged = folder / f".{DATABASE}.converted"
    for leftover in folder.glob(f"{staged.name}*"):
        leftover.unlink()
    shutil.rmtree(folder / SEGMENTS, ignore_errors=True)
    with OldDatabase(old, dimension, spaces) as source:
        _log.info("converting %d items of %s to schema 2", source.count, folder)
        target = DatabaseWriter(staged, source.spaces[0], dimension, source.spaces[1:], new_gallery_number())
        try:
            segments = SegmentFolder(folder / SEGMENTS, dimension, target.gallery)
            target.copy_meta(source.spaces, source.last_sequence)
            for rows, vectors in source.rows(_ROWS_PER_SEGMENT):
                sequences = np.array([row[0] for row in rows], np.int64)
                segments.write([(sequences, vectors)], len(sequences))
                target.copy_rows(rows)
                target.log.empty()
        finally:
            target.close()
    sync([staged])
    staged.replace(folder / DATABASE)
    sync([folder])
    _log.info("converted %s in %.1f s", folder, time.monotonic() - began)


def _remove_old_files(folder: Path, old: Path) -> None:
    """Rename the images and delete the old database; its own file last, which says that this is not done yet."""
    if not old.exists():
        return
    if (folder / _OLD_IMAGES).exists() and not (folder / IMAGES).exists():
        (folder / _OLD_IMAGES).rename(folder / IMAGES)
        sync([folder])
    for path in (folder / "index.snapshot", Path(f"{old}-wal"), Path(f"{old}-shm"), old):
        path.unlink(missing_ok=True)
