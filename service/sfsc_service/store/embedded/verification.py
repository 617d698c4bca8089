"""Checking the whole database: every row against its checksum, tables and indexes against each other.

At a start this is done before anything is served where the database is small or known to be incomplete, else in a
thread beside the service, so that a start does not take longer because of it.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfsc_bundle.thread_priority import lower_priority
from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.damage import Damage
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.sqlite.reader import DatabaseReader
from sfsc_service.store.embedded.sqlite.schema import DatabaseError
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.errors import StoreFailedError

__all__ = ["BackgroundCheck", "CheckedRows", "check_before_serving", "name_damaged_rows"]

_ROWS_AT_ONCE = 1_000

_log = logging.getLogger(__name__)


class CheckedRows(NamedTuple):
    """The sum of the checksums of all rows, and the damaged versions."""

    checksum_sum: int
    damaged: Int64


def name_damaged_rows(reader: DatabaseReader, damage: Damage, stop: Callable[[], bool]) -> CheckedRows:
    """Read every row, some at a time, until `stop`; name those that are not as they were written."""
    total, damaged, above = 0, list[int](), -(2**63)
    while not stop() and (rows := reader.rows_above(above, _ROWS_AT_ONCE)):
        bad = {row.sequence: row.id for row in rows if not row.whole}
        damage.add(bad, "rows of the database")
        damaged += bad
        total += sum(row.checksum for row in rows if isinstance(row.checksum, int))
        above = max(above + 1, rows[-1].sequence)
    return CheckedRows(total, np.array(damaged, np.int64))


def check_before_serving(database: DatabaseWriter, path: Path, damage: Damage) -> Int64:
    """Check everything, name and return damaged versions, and repair what follows from the rows: indexes and sums.

    Raises:
        StoreFailedError: tables are damaged, so that items may be missing.
    """
    reader = DatabaseReader(path)
    try:
        if _errors(reader):
            _log.error("the indexes of the database are damaged and are built anew")
            database.rebuild_indexes()
        if errors := _errors(reader):
            raise StoreFailedError(f"the database {path} is damaged; put a copy in its place: {'; '.join(errors)}")
        found = name_damaged_rows(reader, damage, lambda: False)
    except DatabaseError as error:
        raise StoreFailedError(f"the database {path} is damaged; put a copy in its place: {error}") from error
    finally:
        reader.close()
    if not len(found.damaged) and found.checksum_sum != database.checksum_sum:
        _log.warning("the sum of the rows' checksums was wrong, and every row is whole: it was corrected")
        database.correct_checksum_sum(found.checksum_sum)
    return found.damaged


class BackgroundCheck:
    """A thread that checks the database once, beside the service; damaged rows are searched no more.

    `then`: called when all is well, but for single rows, with a function that tells when to stop.
    """

    def __init__(
        self, path: Path, index: VectorIndex, damage: Damage, then: Callable[[Callable[[], bool]], None]
    ) -> None:
        self._reader = DatabaseReader(path)
        self._index = index
        self._damage = damage
        self._then = then
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sfsc-store-check", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, finished or not."""
        self._closing = True
        self._reader.interrupt()
        self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        lower_priority(19)  # only idle cores
        try:
            found = name_damaged_rows(self._reader, self._damage, lambda: self._closing)
            self._index.drop(found.damaged)
            errors = _errors(self._reader)
            if self._closing:
                return
            if errors:
                self._damage.add_database(errors)
            else:
                self._then(lambda: self._closing)
        except Exception as error:
            if not self._closing:
                self._damage.add_database([f"it could not be checked: {error}"])


def _errors(reader: DatabaseReader) -> list[str]:
    try:
        return reader.integrity_errors()
    except DatabaseError as error:
        return [str(error)]
