"""What the writer thread does: groups of calls become commits; index, counts and images follow the record.

Invariants:
- A job is answered after its change is committed and in the index; a job that fails leaves neither.
- While `gate` is held, the committed record and the index say the same.
- If the index cannot follow, it is rebuilt; if that fails too, `broken` is set and nothing is accepted any more.
"""

import logging
import sqlite3
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sfsc_service.store.embedded.changes import Change, merge
from sfsc_service.store.embedded.images import ImageFolder
from sfsc_service.store.embedded.index.recovery import fill_index, fill_index_from_record
from sfsc_service.store.embedded.index.snapshot import write_snapshot
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.sqlite.reader import ReaderPool
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.write_queue import Job
from sfsc_service.store.errors import StoreError, StoreFailedError

__all__ = ["Committer", "SnapshotPlan"]

# A snapshot costs as much as the index is large, so it waits until this share of the index has changed.
_SNAPSHOT_SHARE = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SnapshotPlan:
    """Where the index snapshot is kept, and after how many changes, at least, it is written again."""

    path: Path
    changes: int


class Committer:
    """Everything but `gate`, `composition` and `broken` is for the writer thread, or for when it does not run."""

    def __init__(
        self,
        record: DatabaseWriter,
        readers: ReaderPool,
        index: VectorIndex,
        images: ImageFolder,
        snapshots: SnapshotPlan,
    ) -> None:
        self._record = record
        self._readers = readers
        self._index = index
        self._images = images
        self._snapshots = snapshots
        self._changes = 0
        self._orphans = False
        self.composition: dict[str, int] = {}
        self.gate = threading.Lock()
        self.broken = False

    def start(self) -> None:
        """Make the index agree with the record, and clear up after a crash."""
        with self._readers.lend() as reader:
            self.composition = reader.composition()
            if not fill_index(self._index, reader, self._snapshots.path, self._record.last_sequence):
                self._changes = len(self._index)
        if not self._record.clean:
            self._images.sweep()
        self._record.mark(clean=False)

    def finish(self) -> None:
        """Leave things so that the next start is quick; without it, it is only slower."""
        try:
            if self._changes and not self.broken:
                self._write_snapshot()
            self._record.mark(clean=not self._orphans)
        except (OSError, sqlite3.Error) as error:
            _log.warning("the store could not be left in order, the next start takes longer: %s", error)

    def work(self, jobs: list[Job]) -> None:
        """Make and answer the changes of a group of jobs.

        Raises:
            StoreFailedError: for all jobs that have no answer yet: nothing of theirs was written.
        """
        if self.broken:
            raise StoreFailedError("store: index and record must agree; found that they do not: restart it")
        changes = self._prepare(jobs)
        self._commit(jobs, changes)
        self._clear_up(jobs, changes)
        for job, change in changes.items():
            job.future.set_result(change)
        self._changes += sum(len(change.removed) + len(change.sequences) for change in changes.values())
        if self._changes >= max(self._snapshots.changes, _SNAPSHOT_SHARE * len(self._index)):
            self._try_snapshot()

    def _prepare(self, jobs: Collection[Job]) -> dict[Job, Change]:
        """Make the changes in an open transaction; jobs that fail on their own are answered and left out."""
        changes: dict[Job, Change] = {}
        try:
            self._record.begin()
            for job in jobs:
                self._attempt(job, changes)
        except Exception as error:
            self._record.rollback()
            self._clear_up(jobs, {})
            raise StoreFailedError(f"store: the change could not be written and is undone; {error}") from error
        return changes

    def _attempt(self, job: Job, changes: dict[Job, Change]) -> None:
        try:
            changes[job] = self._record.attempt(job.change)
        except Exception as error:
            if not self._record.in_transaction:
                raise
            refusal = error if isinstance(error, StoreError) else StoreFailedError(f"store: {error!r}")
            job.future.set_exception(refusal)

    def _commit(self, jobs: Collection[Job], changes: dict[Job, Change]) -> None:
        with self.gate:
            try:
                self._record.commit()
            except Exception as error:
                self._record.rollback()
                # It may yet be found in the log by the next start, so its images must stay until a sweep.
                self._orphans = True
                self._release(jobs)
                raise StoreFailedError(f"store: the change could not be committed; {error}") from error
            self._follow(merge(changes.values()))

    def _follow(self, change: Change) -> None:
        try:
            self._index.apply(change.removed_sequences, change.sequences, change.vectors)
        except Exception:
            _log.exception("the index could not follow the record and is rebuilt")
            self.broken = True
            with self._readers.lend() as reader:
                fill_index_from_record(self._index, reader)
            self.broken = False
        self.composition = change.composition(self.composition)

    def _clear_up(self, jobs: Collection[Job], changes: dict[Job, Change]) -> None:
        """Let go of the jobs' images, and remove those that nothing names now."""
        self._release(jobs)
        doubtful = {old.image for change in changes.values() for old in change.removed if old.image}
        for job in jobs:
            if job not in changes or len(changes[job].sequences) < job.items:
                doubtful.update(job.images)
        self._images.discard(doubtful)

    def _release(self, jobs: Collection[Job]) -> None:
        for job in jobs:
            self._images.release(job.images)

    def _try_snapshot(self) -> None:
        try:
            self._write_snapshot()
        except OSError as error:
            _log.warning("the index snapshot could not be written: %s", error)

    def _write_snapshot(self) -> None:
        self._changes = 0
        write_snapshot(self._snapshots.path, self._index, self._record.last_sequence)
