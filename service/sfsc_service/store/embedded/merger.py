"""The thread that writes new segments: of the rows of the log, and of segments that are many or mostly dead.

Invariants:
- Commits wait only while positions are looked up or a finished segment is put into the index, never for a file.
- Whatever fails, the files and rows so far stay in use, and it is tried again later; `compact` tells its caller.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.replacement import MappedRows
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.segments.folder import SegmentFolder
from sfsc_service.store.embedded.segments.merge_plan import next_merge
from sfsc_service.store.embedded.segments.segment import unmap
from sfsc_service.store.errors import StoreClosedError, StoreFailedError
from sfsc_service.store.protocol import Float32

__all__ = ["CompactedVectors", "Merger"]

_MAX_LOG_BLOCKS = 16_384
_ROWS_AT_ONCE = 8_192
_RETRY_S = 10.0
_REFUSED = "the vectors could not be written anew: {}"

_log = logging.getLogger(__name__)


class _Job(NamedTuple):
    """Rows at the positions `start` .. `end` - 1 to be written anew, and the files that are not needed then."""

    start: int
    end: int
    files: list[Path]
    loads: int


class CompactedVectors(NamedTuple):
    """The bytes of the files of vectors before and after."""

    before: int
    after: int


class _ClosingError(Exception):
    """The store is being closed; what is under way is given up."""


class Merger:
    """`commit_lock`: held by the writer thread while it changes the index or the log.

    Args:
        seal_rows: so many rows in the log are written into a segment.
        name_lost: told of versions whose vectors turn out to be damaged.
        observe: told how many seconds each new segment took.
    """

    def __init__(
        self,
        index: VectorIndex,
        segments: SegmentFolder,
        commit_lock: threading.Lock,
        seal_rows: int,
        name_lost: Callable[[Int64], None],
        observe: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._index = index
        self._segments = segments
        self._commit_lock = commit_lock
        self._seal_rows = seal_rows
        self._name_lost = name_lost
        self._observe = observe
        self._work = threading.Event()
        self._closing = False
        self._asked: Future[CompactedVectors] | None = None
        self._asking = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sfsc-store-merger", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Rows were added or deleted."""
        self._work.set()

    def compact(self) -> "Future[CompactedVectors]":
        """Write all vectors into one segment, without those that were deleted or replaced; the store goes on.

        The future raises:
            StoreFailedError: there is no space for a second copy, or it cannot be written; nothing is lost.
            StoreClosedError: the store was closed before it was done.
        """
        with self._asking:
            asked = self._asked = self._asked or Future()
        self._work.set()
        if self._closing:
            self._refuse()
        return asked

    def close(self) -> None:
        self._closing = True
        self._work.set()
        self._thread.join()
        self._refuse()

    def _refuse(self) -> None:
        with self._asking:
            asked, self._asked = self._asked, None
        if asked is not None:
            asked.set_exception(StoreClosedError("the store was closed before its vectors were written anew"))

    def _run(self) -> None:
        while not self._closing:
            self._work.wait()
            self._work.clear()
            try:
                while not self._closing and (job := self._next_job()):
                    began = time.monotonic()
                    self._carry_out(job)
                    self._observe(time.monotonic() - began)
                self._compact_if_asked()
            except _ClosingError:
                return
            except Exception as error:
                _log.warning("vectors could not be written into a new segment, tried again later: %r", error)
                self._pause()

    def _compact_if_asked(self) -> None:
        if self._asked is None or self._closing:
            return
        try:
            before = self._segments.size
            if (job := self._whole_job()) is not None:
                if (free := shutil.disk_usage(self._segments.folder).free) < before:
                    needed = f"compacting needs {before} bytes of free disk space for a while"
                    raise StoreFailedError(f"{needed}; found {free}")
                self._carry_out(job)
            found = CompactedVectors(before, self._segments.size)
        except (_ClosingError, MemoryError):
            raise
        except Exception as error:
            reason = error if isinstance(error, StoreFailedError) else StoreFailedError(_REFUSED.format(error))
            self._take_asked().set_exception(reason)
        else:
            self._take_asked().set_result(found)

    def _take_asked(self) -> "Future[CompactedVectors]":
        with self._asking:
            asked, self._asked = self._asked, None
        assert asked is not None, "the merger's thread alone answers it"
        return asked

    def _whole_job(self) -> _Job | None:
        """All rows; None where they are in one segment without dead ones."""
        with self._commit_lock:
            mapped, tail = self._index.sizes()
            if not tail.rows and len(mapped) <= 1 and all(size.live == size.rows for size in mapped):
                return None
            files = [size.source for size in mapped if size.source]
            end = sum(size.rows for size in mapped) + tail.rows
            return _Job(0, end, [*files, *self._segments.rotate()], self._segments.loads)

    def _pause(self) -> None:
        end = time.monotonic() + _RETRY_S
        while not self._closing and time.monotonic() < end:
            time.sleep(0.1)
        self._work.set()

    def _next_job(self) -> _Job | None:
        with self._commit_lock:
            mapped, tail = self._index.sizes()
            ends = np.cumsum([0, *(size.rows for size in mapped)]).tolist()
            if tail.rows >= self._seal_rows or self._segments.log_blocks >= _MAX_LOG_BLOCKS:
                return _Job(ends[-1], ends[-1] + tail.rows, self._segments.rotate(), self._segments.loads)
            merge = next_merge([(size.rows, size.live) for size in mapped], self._seal_rows)
            if merge is None:
                return None
            first, last = merge
            files = [size.source for size in mapped[first:last] if size.source]
            return _Job(ends[first], ends[last], files, self._segments.loads)

    def _carry_out(self, job: _Job) -> None:
        if lost := [sequences for path in job.files if len(sequences := self._segments.damaged_rows(path))]:
            self._name_lost(np.concatenate(lost))
        positions, sequences = self._index.live_rows(job.start, job.end)
        fresh = None
        if len(positions):
            segment = self._segments.write(self._rows(positions, sequences), len(positions))
            fresh = MappedRows(segment.path, segment.sequences, segment.vectors, segment.whole)
        prepared = self._index.prepare_replacement(job.start, job.end, fresh)
        with self._commit_lock:
            if self._segments.loads != job.loads:
                return
            unused = self._index.replace(prepared)
            self._segments.forget(job.files)
        for part in unused:
            unmap(part.vectors)
        self._segments.remove(job.files, job.loads)

    def _rows(self, positions: Int64, sequences: Int64) -> Iterator[tuple[Int64, Float32]]:
        for start in range(0, len(positions), _ROWS_AT_ONCE):
            if self._closing:
                raise _ClosingError
            part = slice(start, start + _ROWS_AT_ONCE)
            yield sequences[part], self._index.vectors_at(positions[part])
