"""The columns beside the vector index: loaded from the database at a start, then kept by the writer thread.

Invariants:
- A change of the index and that of the columns are made in one `change`; inside `unchanged` both are of one state.
- Until everything is loaded, and from a failure on, `select` answers None, and the database is asked instead.

Loading begins with what a file has (saved_columns.py), and goes on with the versions in the database that are
newer, in ascending order, some at a time, each time with no commit under way. As every change adds versions with
higher numbers, it comes upon those that are added meanwhile, and has to be told of removals only. Then the file is
written anew when a quarter more has been added since, or less and then nothing for a while.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sfsc_bundle.thread_priority import lower_priority
from sfsc_service.store.embedded.changes import Int64, Versions
from sfsc_service.store.embedded.columns.saved_columns import SavedColumns
from sfsc_service.store.embedded.columns.table import ColumnTable, read_fields
from sfsc_service.store.embedded.index.allowed import Allowed
from sfsc_service.store.embedded.rwlock import ReadWriteLock
from sfsc_service.store.embedded.sqlite.reader import ReaderPool
from sfsc_service.store.embedded.write_queue import WriteRequest
from sfsc_service.store.filters.terms import Term

__all__ = ["FilterIndex"]

_ROWS_AT_ONCE = 1_000
# Without it, a thread that waits for the commit lock might never get it.
_PAUSE_S = 0.001
# The file is not worth its writing for fewer versions that it lacks, or a smaller share of those that it has.
_MIN_UNSAVED = 16_384
_UNSAVED_SHARE = 0.25
_QUIET_S = 10.0

_log = logging.getLogger(__name__)


class FilterIndex:
    """`commit_lock`: held by the writer thread around `change`. `memory_bytes`: about what columns may take.

    `saved`: path, number of the gallery and token for SavedColumns. `current`: gives the versions that the index
    has, valid until the next change.
    """

    def __init__(
        self,
        readers: ReaderPool,
        commit_lock: threading.Lock,
        memory_bytes: int,
        saved: tuple[Path, int, int],
        current: Callable[[], Allowed],
    ) -> None:
        self._readers = readers
        self._commit_lock = commit_lock
        self._lock = ReadWriteLock()
        self._memory_bytes = memory_bytes
        self._saved = SavedColumns(*saved)
        self._current = current
        self._table = ColumnTable(memory_bytes)
        # Removed while the file was read; None: it is not being read.
        self._removed: list[Int64] | None = None
        self._added = threading.Event()
        self._unsaved = 0
        self._loaded = self._failed = self._closing = False
        self._loader: threading.Thread | None = None

    def start(self, submit: Callable[[WriteRequest], object], *, wait: bool, nice: int) -> None:
        """Load the columns, in the background unless `wait` is set; `nice`: added to its niceness.

        `submit`: has the writer thread make a change, and waits for it; used until `close`.
        """
        ready = threading.Event()
        self._loader = threading.Thread(
            target=self._run, args=(submit, nice, ready), name="sfsc-store-columns", daemon=True
        )
        self._loader.start()
        if wait:
            ready.wait()

    def close(self) -> None:
        self._closing = True
        self._added.set()
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
                    self._unsaved += len(added.sequences)
                if self._removed is not None:
                    self._removed.append(removed)
                self._table.remove(removed)
            except Exception as error:
                self._give_up(error)
        if self._unsaved >= _MIN_UNSAVED:
            self._added.set()

    def _run(self, submit: Callable[[WriteRequest], object], nice: int, ready: threading.Event) -> None:
        lower_priority(nice)  # as searches have, which it must not outrun
        try:
            self._load()
        except Exception as error:
            self._give_up(error)
        finally:
            ready.set()
        while not (self._closing or self._failed):
            self._added.wait()
            self._added.clear()
            if self._closing or not (self._worth_saving or not self._added.wait(_QUIET_S)):
                continue
            if self.loaded and self._unsaved >= _MIN_UNSAVED:
                self._save(submit)

    def _load(self) -> None:
        began = time.monotonic()
        last = self._load_saved()
        while not (self._loaded or self._closing or self._failed):
            last = self._load_some(last)
            time.sleep(_PAUSE_S)
        if self.loaded and (count := len(self._table)):
            mib, seconds = self._table.nbytes / 2**20, time.monotonic() - began
            _log.info(
                "fields of %d items are in memory for filters: %.1f MiB, loaded in %.1f s", count, mib, seconds
            )

    def _load_saved(self) -> int:
        """Begin with what the file has of the current versions; the last of all that it has."""
        known = self._current().sequences
        contents = self._saved.read(self._memory_bytes, int(known[-1]) if len(known) else 0)
        if contents is None:
            return 0
        with self._commit_lock:
            self._removed = []
            current = self._current()
        try:
            table = ColumnTable.of(contents, current.mask_in(contents.sequences), self._memory_bytes)
        except (ValueError, TypeError, IndexError) as error:
            _log.warning("the file of columns cannot be used, so the fields are read from the database: %r", error)
            with self._lock.exclusive():
                self._removed = None
            return 0
        with self._lock.exclusive():
            for removed in self._removed or ():
                table.remove(removed)
            self._removed = None
            if not self._failed:
                self._table = table
        return int(contents.sequences[-1]) if len(contents.sequences) else 0

    @property
    def _worth_saving(self) -> bool:
        return self.loaded and self._unsaved >= max(
            _MIN_UNSAVED, _UNSAVED_SHARE * (len(self._table) - self._unsaved)
        )

    def _save(self, submit: Callable[[WriteRequest], object]) -> None:
        with self._lock.shared():
            contents, covered = self._table.contents, self._unsaved
        try:
            token = self._saved.write(contents, self._memory_bytes, lambda: self._closing)
            if token is not None:
                submit(WriteRequest(lambda database: database.note_columns(token), items=0))
        except Exception as error:
            _log.warning("the fields for filters could not be saved, the next start takes longer: %r", error)
        # Also where it failed: it is tried again when as many have been added.
        with self._lock.exclusive():
            self._unsaved -= covered

    def _load_some(self, above: int) -> int:
        """Add the first versions above a number, and give the last of them."""
        with self._commit_lock:
            with self._readers.acquire() as reader:
                versions = reader.versions_above(above, _ROWS_AT_ONCE)
            fields = read_fields(versions)
            with self._lock.exclusive():
                self._table.append(fields)
                self._unsaved += len(versions.sequences)
                self._loaded = not len(versions.sequences)
        if self._unsaved >= _MIN_UNSAVED:
            self._added.set()
        return above if self._loaded else int(versions.sequences[-1])

    def _give_up(self, error: BaseException) -> None:
        self._failed, self._removed = True, None
        self._table = ColumnTable(0)
        _log.error("filters ask the database until the next start, which takes longer: %r", error)
