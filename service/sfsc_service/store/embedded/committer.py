"""What the writer thread does: it commits groups of changes, then brings index, counts and images up to date.

Invariants:
- A change is answered after its vectors are durable, it is committed, and it is in the index; one that fails
  before the commit leaves no trace.
- While `commit_lock` is held, the committed database and the index hold the same versions.
- Where the index cannot follow a commit, it is rebuilt; where that fails too, `broken` is set and every further
  change is refused.
"""

import logging
import threading
from collections.abc import Callable, Collection

from sfsc_service.store.embedded.acknowledged import AcknowledgedMark
from sfsc_service.store.embedded.changes import AppliedChange, Int64, merge
from sfsc_service.store.embedded.columns.filter_index import FilterIndex
from sfsc_service.store.embedded.damage import Damage
from sfsc_service.store.embedded.images import ImageFolder
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.recovery import fill_index
from sfsc_service.store.embedded.reserve import DiskReserve
from sfsc_service.store.embedded.segments.folder import SegmentFolder
from sfsc_service.store.embedded.sqlite.reader import ReaderPool
from sfsc_service.store.embedded.sqlite.schema import DatabaseError
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.write_queue import WriteRequest
from sfsc_service.store.errors import OutcomeUnknownError, StoreError, StoreFailedError
from sfsc_service.store.in_flight import cause_of

__all__ = ["Committer"]

_log = logging.getLogger(__name__)


class Committer:
    """Used by the writer thread; other threads may use `commit_lock`, `composition`, `broken` and `name_lost`."""

    def __init__(
        self,
        database: DatabaseWriter,
        readers: ReaderPool,
        index: VectorIndex,
        filters: FilterIndex,
        commit_lock: threading.Lock,
        segments: SegmentFolder,
        images: ImageFolder,
        acknowledged: AcknowledgedMark,
        damage: Damage,
        reserve: DiskReserve,
    ) -> None:
        self._database = database
        self._readers = readers
        self._index = index
        self._filters = filters
        self._segments = segments
        self._images = images
        self._acknowledged = acknowledged
        self._damage = damage
        self._reserve = reserve
        self._found_sequence = 0
        self._sweep = False
        self._tidy = False
        self._unused_images = False
        self.composition: dict[str, int] = {}
        self.after_change: list[Callable[[], None]] = []
        """Called after each group of changes."""
        self.commit_lock = commit_lock
        self.broken = False

    def start(self) -> bool:
        """Fill the index from the segments; whether the database has all rows that it should have."""
        with self._readers.acquire() as reader:
            self.composition = reader.composition()
            complete, highest = fill_index(
                self._index, reader, self._segments, self._database.last_sequence, self._damage
            )
        self._sweep = not self._database.clean
        self._images.delete_unfinished()
        self._database.mark(clean=False)
        self._found_sequence = self._database.last_sequence
        if self.marked:
            self._acknowledged.set(self._found_sequence)
        self._database.skip_sequences(highest)
        return complete

    @property
    def marked(self) -> bool:
        """Whether the number of the newest acknowledged change was there at the start."""
        return self._acknowledged.found is not None

    def tidy(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Delete the images that a crash left behind, once the database is known to be whole, until `stop`.

        Without the mark nobody knows whether the database is the newest one: those images may be of items that it
        has lost, so they are set aside before there is a mark again.
        """
        if self.marked:
            self._tidy = not self._sweep or self._images.delete_leftovers(stop)
            return
        if count := self._images.set_unused_aside():
            _log.warning(
                "the mark of the newest acknowledged change was missing, so the database may be an older one: %d "
                "images that no item refers to were moved to images/quarantine/",
                count,
            )
        self._acknowledged.set(self._found_sequence)
        self._tidy = True

    def finish(self) -> None:
        """Note for the next start that nothing was left behind."""
        try:
            self._database.mark(clean=self._tidy and not self._unused_images)
        except DatabaseError as error:
            _log.warning("the store could not be closed in order, the next start takes longer: %s", error)

    def name_lost(self, sequences: Int64) -> None:
        """The vectors of these versions turned out to be damaged: search them no more."""
        with self._readers.acquire() as reader:
            rows = reader.rows_at(sequences)
        self._damage.add({row.sequence: row.id for row in rows}, "vectors")
        self._index.drop(sequences)

    def commit_group(self, requests: list[WriteRequest]) -> None:
        """Make and answer the changes of a group of requests.

        Raises, for all requests that have no answer yet:
            StoreFailedError: none of them has happened.
            OutcomeUnknownError: the commit failed, or the index could not follow it.
        """
        if self.broken:
            raise StoreFailedError("index and database are out of sync; restart the service")
        changes = self._prepare(requests)
        change = merge(changes.values())
        try:
            with self.commit_lock:
                self._commit(requests, change)
                self._update_index(change)
        except OutcomeUnknownError:
            # The next start may find the change, so its images must stay until then.
            self._unused_images = True
            self._unpin(requests)
            raise
        self._damage.forget(version.sequence for version in change.removed)
        self._clean_up(requests, changes)
        if self._reserve.spent:
            self._database.log.checkpoint()  # so that the next change overwrites the log in place of extending it
        for request, answer in changes.items():
            request.future.set_result(answer)
        self._database.log.limit(self._readers.gate)
        for call in self.after_change:
            call()

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
            raise StoreFailedError(f"the change could not be written and is undone: {cause_of(error)}") from error
        return changes

    def _attempt(self, request: WriteRequest, changes: dict[WriteRequest, AppliedChange]) -> None:
        try:
            changes[request] = self._database.attempt(request.change)
        except Exception as error:
            if not self._database.in_transaction:
                raise
            refusal = error if isinstance(error, StoreError) else StoreFailedError(f"storage failure: {error!r}")
            request.future.set_exception(refusal)

    def _commit(self, requests: Collection[WriteRequest], change: AppliedChange) -> None:
        try:
            self._segments.append(change.sequences, change.vectors)
        except Exception as error:
            self._database.rollback(vectors_stored=True)
            self._clean_up(requests, {})
            _log.error("vectors could not be written, their change is undone: %s", error)
            raise StoreFailedError(
                f"the vectors could not be written, the change is undone: {cause_of(error)}"
            ) from error
        try:
            self._database.commit()
        except Exception as error:
            self._database.rollback(vectors_stored=True)
            raise OutcomeUnknownError(
                f"the change may or may not be stored, the commit failed: {error}"
            ) from error
        self._acknowledged.set(self._database.last_sequence)

    def _update_index(self, change: AppliedChange) -> None:
        try:
            with self._filters.change(change.removed_sequences, change.added):
                self._index.apply(change.removed_sequences, change.sequences, change.vectors)
        except Exception:
            _log.exception("the index could not follow the database and is being rebuilt")
            self._rebuild_index()
        self.composition = change.composition(self.composition)
        if not all(version.whole for version in change.removed):
            with self._readers.acquire() as reader:
                self.composition = reader.composition()

    def _rebuild_index(self) -> None:
        self.broken = True
        try:
            with self._readers.acquire() as reader:
                fill_index(self._index, reader, self._segments, self._database.last_sequence, self._damage)
        except Exception as error:
            _log.exception("the index could not be rebuilt, so no further change is taken; restart the service")
            raise OutcomeUnknownError(
                "the change is stored, but the index could not be rebuilt; restart the service"
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
