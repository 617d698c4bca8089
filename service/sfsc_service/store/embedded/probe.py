"""A look at the store from outside of its calls: is the folder there, can the disk and the database be written?

Every look also moves the write-ahead log into the database, so that the log stays short and a failure to do so is
seen; SQLite itself tries it now and then at a commit and ignores failures.
"""

import errno
import os
from pathlib import Path

from sfsc_service.store.embedded.reserve import DiskReserve
from sfsc_service.store.embedded.sqlite.schema import DatabaseError, connect
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.fault import StoreFault

__all__ = ["StoreProbe"]

LOCK_WAIT_S = 0.2
MAX_LOG_PAGES = 2**16
"""Pages that may wait in the write-ahead log: 256 MB; usually it holds a sixteenth of that."""
_FILE_BYTES = 4096


class StoreProbe:
    """To be used by one thread at a time.

    Args:
        database: the database file.
        images: the folder of the images.
        writer: what the store itself changes the database with.
    """

    def __init__(self, database: Path, images: Path, reserve: DiskReserve, writer: DatabaseWriter) -> None:
        self._database, self._images, self._reserve, self._writer = database, images, reserve, writer
        self._file = database.with_name("probe")
        self._identity = _identity(database)
        self._connection = connect(database)
        self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * LOCK_WAIT_S)}")
        self._checkpointed: tuple[str, int] | None = None
        """The mode of the last checkpoint that moved everything, and when the log had been written before it."""

    def fault(self) -> StoreFault | None:
        """The first fault that is found, None if there is none; waits at most `LOCK_WAIT_S` for a lock."""
        return self._folder_fault() or self._disk_fault() or self._database_fault()

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()

    def _folder_fault(self) -> StoreFault | None:
        try:
            if _identity(self._database) != self._identity:
                return StoreFault("folder_gone", "the database file was replaced by another one")
        except OSError as error:
            return StoreFault("folder_gone", f"the database file is gone: {error.strerror}")
        return None if self._images.is_dir() else StoreFault("folder_gone", "the folder of the images is gone")

    def _disk_fault(self) -> StoreFault | None:
        try:
            self._reserve.restore()
            self._file.write_bytes(bytes(_FILE_BYTES))
            self._file.unlink()
            full = self._reserve.full
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                return StoreFault("not_writable", f"the data folder cannot be written: {error.strerror}")
            full = True
        if full:
            self._checkpoint("TRUNCATE")
            return StoreFault("disk_full", "the disk of the data folder is full; items can only be removed")
        return None

    def _database_fault(self) -> StoreFault | None:
        begun = self._writer.lock_changes
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            self._connection.execute("ROLLBACK")
        except DatabaseError as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if self._writer.holds_lock or self._writer.lock_changes != begun:
                return None  # the lock was the store's own
            return StoreFault("database_locked", f"the database cannot be changed: {error}")
        return self._checkpoint("PASSIVE")

    def _checkpoint(self, mode: str) -> StoreFault | None:
        """Move the write-ahead log into the database if it was written since the last time."""
        try:
            log = self._database.with_name(f"{self._database.name}-wal")
            state = mode, log.stat().st_mtime_ns
            if state == self._checkpointed:
                return None
            _, pages, moved = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except (DatabaseError, OSError) as error:
            return StoreFault("checkpoint_failed", f"the write-ahead log cannot be moved to the database: {error}")
        if pages - moved > MAX_LOG_PAGES:
            return StoreFault("checkpoint_failed", f"{pages - moved} pages wait in the write-ahead log")
        if pages == moved:
            self._checkpointed = state
        return None


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
