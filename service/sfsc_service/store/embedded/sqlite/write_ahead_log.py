"""How the write-ahead log is kept short: its pages are moved into the database."""

import contextlib
import sqlite3
from pathlib import Path

from sfsc_service.store.embedded.rwlock import ReadWriteLock
from sfsc_service.store.embedded.sqlite.schema import BUSY_TIMEOUT_S, DatabaseError

__all__ = ["WriteAheadLog"]

# The log is emptied at this size; while reads prevent it, again at each further step; at the largest size, reads
# are made to wait.
_LOG_BYTES = 8 << 20
_LOG_STEP = 2 << 20
_MAX_LOG_BYTES = 32 << 20


class WriteAheadLog:
    """The log of the database at `path`, for the thread that owns the write `connection`.

    While it is emptied nobody else can change the database, though no transaction is open; a slow disk takes a
    second for it. Any thread may read `emptying` and `lock_changes`.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path.with_name(f"{path.name}-wal")
        self._refused_at = 0
        self.emptying = False
        self.lock_changes = 0
        """How often `emptying` has changed."""

    @property
    def bytes(self) -> int:
        """Its size."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def limit(self, gate: ReadWriteLock) -> None:
        """Empty it if it is long; outside of a transaction. `gate`: held by reads under way.

        Reads hold it up, so if it has become much longer they are waited for.
        """
        size = self.bytes
        if size < max(_LOG_BYTES, self._refused_at + _LOG_STEP):
            return
        if size > _MAX_LOG_BYTES:
            with gate.exclusive():
                emptied = self.empty()
        else:
            emptied = self.empty()
        self._refused_at = 0 if emptied else size

    def empty(self) -> bool:
        """Whether it could be emptied: that no read needs it."""
        self._note(emptying=True)
        try:
            # Nothing but reads can keep the log from being emptied, and commits should not wait for those.
            self._connection.execute("PRAGMA busy_timeout = 0")
            (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._note(emptying=False)
            self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * BUSY_TIMEOUT_S)}")
        return not busy

    def checkpoint(self) -> None:
        """Move it into the database, as far as readers and the disk allow."""
        with contextlib.suppress(DatabaseError):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _note(self, *, emptying: bool) -> None:
        self.emptying = emptying
        self.lock_changes += 1
