"""One process at a time opens a data folder: a second one's index would miss the first one's writes."""

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path

from sfsc_service.store.errors import StoreLockedError

__all__ = ["FolderLock"]


class FolderLock:
    """Holds `folder`, `folder`/lock and, once `hold` was called, its database until `release` or the process ends.

    The file `lock` says who the owner is. The folder is locked too because that file can be deleted while it is
    held, and the database because it can have a second name in another folder.

    Raises:
        StoreLockedError: another process, or this one, holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: set[Path] = set()
        with ExitStack() as descriptors:
            directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            descriptors.callback(os.close, directory)
            self._lock(directory)
            self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            descriptors.callback(os.close, self._file)
            self._lock(self._file)
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
            self._descriptors = descriptors.pop_all()

    def hold(self, database: Path) -> None:
        """Hold the database, too, if it is there and not held yet. Raises StoreLockedError."""
        if database in self._held or not database.exists():
            return
        with ExitStack() as descriptors:
            descriptor = os.open(database, os.O_RDWR)
            descriptors.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreLockedError(
                    f"folder: one process at a time may open a store; {database} is in use by another one, which "
                    "has it under another name"
                ) from None
            self._descriptors.push(descriptors.pop_all())
        self._held.add(database)

    def release(self) -> None:
        """Give the folder back; to be called once, after all connections to the database are closed.

        Closing a descriptor of a file drops the locks that SQLite has on it.
        """
        self._descriptors.close()

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreLockedError(
                f"folder: one process at a time may open a store; {self._folder} is in use by process "
                f"{self._owner()}"
            ) from None

    def _owner(self) -> str:
        try:
            return (self._folder / "lock").read_text("ascii", "replace")[:32].strip() or "unknown"
        except FileNotFoundError:
            return "unknown"
