"""What is checked before a data folder is opened; a folder that is refused stays as it is.

A database that is missing must not be taken for a new gallery: every image would be one that nothing refers to,
and be deleted. One that ends before the newest acknowledged change has lost changes, as a damaged log makes it do.
"""

import secrets
from collections.abc import Collection
from pathlib import Path

from sfsc_service.store.embedded.acknowledged import read_mark
from sfsc_service.store.embedded.sqlite.schema import committed_sequence
from sfsc_service.store.errors import DatabaseLostError

__all__ = ["ACKNOWLEDGED", "COLUMNS", "DATABASE", "IMAGES", "SEGMENTS", "check_database", "new_gallery_number"]

DATABASE = "database.sqlite"
IMAGES = "images"
SEGMENTS = "segments"
ACKNOWLEDGED = "acknowledged"
COLUMNS = "columns"
"""May be missing, and may be deleted."""


def check_database(folder: Path, dimension: int, spaces: Collection[str]) -> None:
    """Refuse a folder whose database is missing, has lost changes, or is of another dimension or other spaces.

    Raises:
        DatabaseLostError: it is missing, or has lost changes.
        FolderMismatchError: it was made for another schema, dimension or space.
        StoreFailedError: the database cannot be read.
    """
    database = folder / DATABASE
    acknowledged = read_mark(folder / ACKNOWLEDGED) or 0
    found = committed_sequence(database, dimension, spaces)
    if found is None:
        _refuse_leftovers(folder, acknowledged)
    elif found < acknowledged:
        raise DatabaseLostError(
            f"folder: the database {database} must have all changes up to number {acknowledged}, which were "
            f"acknowledged; found it to end at {found}: it or its log {database.name}-wal is damaged or from an "
            "older copy. Put a complete copy of the folder in its place, or delete "
            f"{folder / ACKNOWLEDGED} to go on without those changes. Nothing was changed"
        )


def new_gallery_number() -> int:
    """Random, of 62 bits: what a new database and its segments have in common."""
    return secrets.randbits(62)


def _refuse_leftovers(folder: Path, acknowledged: int) -> None:
    left = {name: _files(folder / name) for name in (IMAGES, SEGMENTS, "pictures")}
    if acknowledged or any(left.values()):
        found = ", ".join(f"{count} files in {name}/" for name, count in left.items() if count)
        raise DatabaseLostError(
            f"folder: a new gallery needs an empty folder, and the database {folder / DATABASE} is missing or "
            f"empty; found {found or 'the mark of an earlier database'}. Put a copy of the database in its place, "
            "or choose another folder. Nothing was changed"
        )


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))
