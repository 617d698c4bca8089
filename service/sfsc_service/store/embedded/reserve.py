"""Disk space set aside for deletions: they write before they free anything, so a full disk would forbid them.

The space is a file that holds nothing. Where the disk is full, the first deletion gives the file's space back and
uses it; `restore` sets it aside again once there is room. Items are added only while more than that is free: what
was added last still has to be moved from the database's log to the database.
"""

import errno
import logging
import os
from pathlib import Path

from sfsc_service.store.errors import StoreFailedError

__all__ = ["MIN_FREE_BYTES", "DiskReserve"]

RESERVE_BYTES = 2 * 2**20
"""More than the deletion of some dozen items writes to the database's log."""
MIN_FREE_BYTES = 8 * 2**20
"""With less free space the disk counts as full."""

_log = logging.getLogger(__name__)


class DiskReserve:
    """The file `reserve` of a store's folder.

    Attributes:
        spent: whether its space has been given back and is not set aside again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "reserve"
        self.spent = True
        if not self.restore():
            # Opening the database takes some space, too.
            self._give_back()
            _log.warning("the disk has no %d bytes to set aside; nothing can be added to the store", RESERVE_BYTES)

    @property
    def free_bytes(self) -> int:
        """Free space of the file system. Raises OSError."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    @property
    def full(self) -> bool:
        """Whether nothing may be added. Raises OSError."""
        return self.spent or self.free_bytes < MIN_FREE_BYTES

    def refuse_when_full(self) -> None:
        """To be called before a write that frees nothing. Raises StoreFailedError, OSError."""
        if self.full:
            raise StoreFailedError("the disk is full; items can be removed, but none can be added")

    def use_when_full(self) -> None:
        """Give the space back if nothing else is free; to be called before a deletion. Raises OSError."""
        if not self.spent and self.free_bytes < RESERVE_BYTES:
            self._give_back()

    def restore(self) -> bool:
        """Set the space aside again if it was given back; returns whether it is there. Raises OSError."""
        if self.spent and self._has_all():
            self.spent = False
        elif self.spent and self.free_bytes > 2 * RESERVE_BYTES:
            try:
                with self._path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
                self.spent = False
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self._path.unlink(missing_ok=True)
        return not self.spent

    def _has_all(self) -> bool:
        return self._path.exists() and self._path.stat().st_size == RESERVE_BYTES

    def _give_back(self) -> None:
        self.spent = True
        self._path.unlink(missing_ok=True)
