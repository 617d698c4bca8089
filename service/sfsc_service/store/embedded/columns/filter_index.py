"""The columns beside the vector index: loaded from the database at a start, then kept by the writer thread.

Invariants:
- A change of the index and that of the columns are made in one `change`; inside `unchanged` both are of one state.
- Until everything is loaded, and from a failure on, `select` answers None, and the database is asked instead.

Loading reads versions in ascending order, some at a time, each time with no commit under way. As every change adds
versions with higher numbers, it comes upon those that are added meanwhile, and has to be told of removals only.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sfsc_bundle.thread_priority import lower_priority
from sfsc_service.store.embedded.changes import Int64, Versions
from sfsc_service.store.embedded.columns.table import ColumnTable, read_fields
from sfsc_service.store.embedded.index.allowed import Allowed
from sfsc_service.store.embedded.rwlock import ReadWriteLock
from sfsc_service.store.embedded.sqlite.reader import ReaderPool
from sfsc_service.store.filters.terms import Term

__all__ = ["FilterIndex"]

_ROWS_AT_ONCE = 1_000
# Without it, a thread that waits for the commit lock might never get it.
_PAUSE_S = 0.001

_log = logging.getLogger(__name__)


class FilterIndex:
    """`commit_lock`: held by the writer thread around `change`. `memory_bytes`: about what columns may take."""

    def __init__(self, readers: ReaderPool, commit_lock: threading.Lock, memory_bytes: int) -> None:
        self._readers = readers
        self._commit_lock = commit_lock
        self._lock = ReadWriteLock()
        self._table = ColumnTable(memory_bytes)
        self._loaded = self._failed = self._closing = False
        self._loader: threading.Thread | None = None

    def start(self, *, wait: bool, nice: int) -> None:
        """Load the columns, in the background unless `wait` is set; `nice`: added to its niceness."""
        self._loader = threading.Thread(target=self._load, args=(nice,), name="sfsc-store-columns", daemon=True)
        self._loader.start()
        if wait:
            self._loader.join()

    def close(self) -> None:
        self._closing = True
        if self._loader is not None:
            self._loader.join()

    @property
    def loaded(self) -> bool:
        return self._loaded and not self._failed

    @property
    def failed(self) -> bool:
        """Whether the database is asked from now on, until the next start; never waits."""
        return self._failed

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Keep changes out."""
        with self._lock.shared():
            yield

    def select(self, term: Term) -> Allowed | None:
        """The versions that meet a filter, inside `unchanged`; None where the database has to be asked."""
        return self._table.select(term) if self.loaded else None

    @contextmanager
    def change(self, removed: Int64, added: Versions) -> Iterator[None]:
        """Around the same change of the index."""
        with self._lock.exclusive():
            try:
                yield
            except BaseException as error:
                self._give_up(error)
                raise
            try:
                if self.loaded:
                    self._table.append(read_fields(added))
                self._table.remove(removed)
            except Exception as error:
                self._give_up(error)

    def _load(self, nice: int) -> None:
        lower_priority(nice)  # as searches have, which it must not outrun
        began, last = time.monotonic(), 0
        try:
            while not (self._loaded or self._closing or self._failed):
                last = self._load_some(last)
                time.sleep(_PAUSE_S)
        except Exception as error:
            self._give_up(error)
        if self.loaded and (count := len(self._table)):
            mib, seconds = self._table.nbytes / 2**20, time.monotonic() - began
            _log.info(
                "fields of %d items are in memory for filters: %.1f MiB, loaded in %.1f s", count, mib, seconds
            )

    def _load_some(self, above: int) -> int:
        """Add the first versions above a number, and give the last of them."""
        with self._commit_lock:
            with self._readers.acquire() as reader:
                versions = reader.versions_above(above, _ROWS_AT_ONCE)
            fields = read_fields(versions)
            with self._lock.exclusive():
                self._table.append(fields)
                self._loaded = not len(versions.sequences)
        return above if self._loaded else int(versions.sequences[-1])

    def _give_up(self, error: BaseException) -> None:
        self._failed = True
        self._table = ColumnTable(0)
        _log.error("filters ask the database until the next start, which takes longer: %r", error)
