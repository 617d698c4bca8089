"""What the commands on a data folder have in common: that nobody else has it, and errors in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfsc_service.store.embedded.lock import FolderLock
from sfsc_service.store.embedded.opening import DATABASE
from sfsc_service.store.embedded.sqlite.schema import DatabaseError
from sfsc_service.store.errors import DatabaseLostError, StoreFailedError

__all__ = ["locked", "storage_errors"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process from opening the store of a folder.

    Raises:
        StoreLockedError: one has it open.
        DatabaseLostError: there is no store.
    """
    if not (folder / DATABASE).is_file():
        raise DatabaseLostError(f"folder: {folder} must hold a gallery; found no {DATABASE} in it")
    lock = FolderLock(folder)
    try:
        lock.hold(folder / DATABASE)
        yield
    finally:
        lock.release()


@contextmanager
def storage_errors() -> Iterator[None]:
    """Let what disk and database raise be StoreFailedError, with the file's path."""
    try:
        yield
    except (DatabaseError, OSError) as error:
        raise StoreFailedError(f"storage failure: {type(error).__name__}: {error}") from error
