"""One process at a time opens a data folder: a second one's index would miss the first one's writes."""

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path

from sfsc_service.store.errors import StoreLockedError

__all__ = ["FolderLock"]


class FolderLock:
    """Holds `folder`/lock, and the folder itself, until `release` or until the process ends, in whatever way.

    The file says who the owner is. The folder is locked too because the file can be deleted while it is held.

    Raises:
        StoreLockedError: another process, or this one, holds it.
    """

    def __init__(self, folder: Path) -> None:
        with ExitStack() as descriptors:
            self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            descriptors.callback(os.close, self._file)
            directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            descriptors.callback(os.close, directory)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(self._file, 32).decode("ascii", "replace").strip() or "unknown"
                raise StoreLockedError(
                    f"folder: one process at a time may open a store; {folder} is in use by process {owner}"
                ) from None
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
            self._descriptors = descriptors.pop_all()

    def release(self) -> None:
        """Give the folder back; to be called once."""
        self._descriptors.close()
