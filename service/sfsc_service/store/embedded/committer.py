"""What the writer thread does: it commits groups of changes, then brings index, counts and images up to date.

Invariants:
- A change is answered after it is committed and in the index; one that fails before the commit leaves no trace.
- While `commit_lock` is held, the committed database and the index hold the same versions.
- Where the index cannot follow a commit, it is rebuilt; where that fails too, `broken` is set and every further
  change is refused.
"""

import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sfsc_service.store.embedded.changes import AppliedChange, merge
from sfsc_service.store.embedded.images import ImageFolder
from sfsc_service.store.embedded.index.recovery import fill_index, rebuild_index
from sfsc_service.store.embedded.index.snapshot import write_snapshot
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.sqlite.reader import ReaderPool
from sfsc_service.store.embedded.sqlite.schema import DatabaseError
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.write_queue import WriteRequest
from sfsc_service.store.errors import OutcomeUnknownError, StoreError, StoreFailedError

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
    """Used by the writer thread; only `commit_lock`, `composition` and `broken` are for other threads, too."""

    def __init__(
        self,
        database: DatabaseWriter,
        readers: ReaderPool,
        index: VectorIndex,
        images: ImageFolder,
        snapshots: SnapshotPlan,
    ) -> None:
        self._database = database
        self._readers = readers
        self._index = index
        self._images = images
        self._snapshots = snapshots
        self._changes_since_snapshot = 0
        self._unused_images = False
        self.composition: dict[str, int] = {}
        self.commit_lock = threading.Lock()
        self.broken = False

    def start(self) -> None:
        """Fill the index from snapshot and database, and delete what a crash left behind."""
        with self._readers.acquire() as reader:
            self.composition = reader.composition()
            if not fill_index(self._index, reader, self._snapshots.path, self._database.last_sequence):
                self._changes_since_snapshot = len(self._index)
        if not self._database.clean:
            self._images.delete_leftovers()
        self._database.mark(clean=False)

    def finish(self) -> None:
        """Prepare a quick start for the next time; nothing is lost without it."""
        try:
            if self._changes_since_snapshot and not self.broken:
                self._write_snapshot()
            self._database.mark(clean=not self._unused_images)
        except (OSError, DatabaseError) as error:
            _log.warning("the store could not be closed in order, the next start takes longer: %s", error)

    def commit_group(self, requests: list[WriteRequest]) -> None:
        """Make and answer the changes of a group of requests.

        Raises, for all requests that have no answer yet:
            StoreFailedError: none of them has happened.
            OutcomeUnknownError: the commit failed, or the index could not follow it.
        """
        if self.broken:
            raise StoreFailedError("index and database are out of sync; restart the service")
        changes = self._prepare(requests)
        try:
            with self.commit_lock:
                self._commit()
                self._update_index(merge(changes.values()))
        except OutcomeUnknownError:
            # The next start may find the change, so its images must stay until then.
            self._unused_images = True
            self._unpin(requests)
            raise
        self._clean_up(requests, changes)
        for request, change in changes.items():
            request.future.set_result(change)
        self._snapshot_when_due(sum(len(change.removed) + len(change.sequences) for change in changes.values()))

    def _prepare(self, requests: Collection[WriteRequest]) -> dict[WriteRequest, AppliedChange]:
        """Make the changes in an open transaction; requests that fail alone are answered and left out."""
        changes: dict[WriteRequest, AppliedChange] = {}
        try:
            self._database.begin()
            for request in requests:
                self._attempt(request, changes)
        except Exception as error:
            self._database.rollback()
            self._clean_up(requests, {})
            raise StoreFailedError(f"the change could not be written and is undone: {error}") from error
        return changes

    def _attempt(self, request: WriteRequest, changes: dict[WriteRequest, AppliedChange]) -> None:
        try:
            changes[request] = self._database.attempt(request.change)
        except Exception as error:
            if not self._database.in_transaction:
                raise
            refusal = error if isinstance(error, StoreError) else StoreFailedError(f"storage failure: {error!r}")
            request.future.set_exception(refusal)

    def _commit(self) -> None:
        try:
            self._database.commit()
        except Exception as error:
            self._database.rollback()
            raise OutcomeUnknownError(
                f"the change may or may not be stored, the commit failed: {error}"
            ) from error

    def _update_index(self, change: AppliedChange) -> None:
        try:
            self._index.apply(change.removed_sequences, change.sequences, change.vectors)
        except Exception:
            _log.exception("the index could not follow the database and is being rebuilt")
            self._rebuild_index()
        self.composition = change.composition(self.composition)

    def _rebuild_index(self) -> None:
        self.broken = True
        try:
            with self._readers.acquire() as reader:
                rebuild_index(self._index, reader)
        except Exception as error:
            raise OutcomeUnknownError(
                f"the change is stored, but the index could not be rebuilt; restart the service: {error!r}"
            ) from error
        self.broken = False

    def _clean_up(self, requests: Collection[WriteRequest], changes: dict[WriteRequest, AppliedChange]) -> None:
        """Unpin the images of the requests and delete those that no item refers to now."""
        self._unpin(requests)
        maybe_unused = {old.image_digest for c in changes.values() for old in c.removed if old.image_digest}
        for request in requests:
            if request not in changes or len(changes[request].sequences) < request.items:
                maybe_unused.update(request.images)
        self._images.delete_unused(maybe_unused)

    def _unpin(self, requests: Collection[WriteRequest]) -> None:
        for request in requests:
            self._images.unpin(request.images)

    def _snapshot_when_due(self, changes: int) -> None:
        self._changes_since_snapshot += changes
        if self._changes_since_snapshot >= max(self._snapshots.changes, _SNAPSHOT_SHARE * len(self._index)):
            try:
                self._write_snapshot()
            except OSError as error:
                _log.warning("the index snapshot could not be written: %s", error)

    def _write_snapshot(self) -> None:
        self._changes_since_snapshot = 0
        write_snapshot(self._snapshots.path, self._index, self._database.last_sequence)
