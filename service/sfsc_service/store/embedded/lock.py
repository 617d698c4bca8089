"""One process at a time opens a data folder: a second one's index would miss the first one's writes."""

import fcntl
import os
from pathlib import Path

from sfsc_service.store.errors import StoreLockedError

__all__ = ["FolderLock"]


class FolderLock:
    """Holds `folder`/lock until `release` or until the process ends, in whatever way.

    Raises:
        StoreLockedError: another process, or this one, holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StoreLockedError(
                f"folder: one process at a time may open a store; {folder} is in use by process {owner}"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the folder back; to be called once."""
        os.close(self._descriptor)
