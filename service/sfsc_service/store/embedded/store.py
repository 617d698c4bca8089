"""The store inside the service's own process: one folder.

    lock              held by the process that has the folder open, as the folder itself is
    database.sqlite   the database: everything but vectors and images
    segments/         the vectors, see segments/format.py
    images/           the images, see images.py
    reserve           disk space for deletions, see reserve.py
    acknowledged      see acknowledged.py
    columns           a copy of what filters need, see columns/saved_columns.py

A folder of schema 1 is converted, see conversion.py.

Beyond protocol.py this store promises:
- A call happens wholly or not at all, even where its outcome is unknown or the process is killed.
- A score depends on the two vectors alone: it is summed in float64 and rounded to float32. The hits are those of
  brute force, digit for digit; equal scores are in the order of the items' last changes.
- Images are kept; an item never refers to an image that is not there.

Reads use a pool of connections. Changes are checked, and their images stored, in the caller's thread and are then
handed to the writer thread.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sfsc_bundle.runner import Device
from sfsc_service.store.embedded import opening
from sfsc_service.store.embedded.acknowledged import AcknowledgedMark
from sfsc_service.store.embedded.changes import AppliedChange, Int64
from sfsc_service.store.embedded.columns.filter_index import FilterIndex
from sfsc_service.store.embedded.committer import Committer
from sfsc_service.store.embedded.conversion import convert_schema_1
from sfsc_service.store.embedded.damage import Damage
from sfsc_service.store.embedded.images import GONE, ImageFolder, digest_of
from sfsc_service.store.embedded.index.approximate import ApproximateSearch
from sfsc_service.store.embedded.index.quantised_rows import Quantisation
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.item_columns import changed_columns, columns_of
from sfsc_service.store.embedded.lock import FolderLock
from sfsc_service.store.embedded.merger import CompactedVectors, Merger
from sfsc_service.store.embedded.metadata_patch import patch_metadata
from sfsc_service.store.embedded.probe import StoreProbe
from sfsc_service.store.embedded.reads import Reads
from sfsc_service.store.embedded.reserve import DiskReserve
from sfsc_service.store.embedded.segments.folder import SegmentFolder
from sfsc_service.store.embedded.sqlite.reader import ReaderPool
from sfsc_service.store.embedded.sqlite.schema import DatabaseError
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.verification import BackgroundCheck, check_before_serving
from sfsc_service.store.embedded.write_queue import WriteQueue, WriteRequest
from sfsc_service.store.errors import InvalidInputError, StoreError, StoreFailedError
from sfsc_service.store.fault import StoreFault
from sfsc_service.store.filters.language import parse
from sfsc_service.store.in_flight import InFlightCalls
from sfsc_service.store.page_cursor import decode_cursor, encode_cursor
from sfsc_service.store.protocol import (
    MAX_ITEMS,
    MAX_PAGE,
    ApproximateStatus,
    Filter,
    Float32,
    Hit,
    Item,
    Outcome,
    Page,
    StoredImage,
    StoredItem,
    StoreSizes,
    StoreWork,
    VectorChange,
)
from sfsc_service.store.validation import accepted_items, check_ids, check_items, check_limit, check_queries

__all__ = ["EmbeddedStore"]

_QUEUED_ITEMS = 40_000
_GROUP_ITEMS = 4_000
# Up to so many items, checking every row and loading the columns at a start takes a fraction of a second.
_SMALL = 20_000
# An item's image may be replaced between looking up its digest and reading the file, but not so many times.
_IMAGE_ATTEMPTS = 10


class EmbeddedStore:
    """Implements protocol.Store; opening creates `folder` where there is none.

    Args:
        space: of new vectors; `compatible_with`: further spaces whose vectors may be here too.
        dimension: D of all vectors.
        device: of the index.
        threads: that one search on the CPU may use.
        queue_timeout_s: seconds that a change waits for space in the queue before StoreBusyError.
        seal_rows: so many vectors in the log are written into a segment, in the background.
        observe: told of work in the background that was done, with its seconds; called by the store's threads.
        quantisation: of the vectors that approximate searches scan; None: every search is exact.
        approximate_rows: with fewer items, every search is exact.
        filter_memory_bytes: about what the columns that filters are judged by may take; `nice`: added to the
            niceness of the thread that loads them.

    Raises:
        StoreLockedError: another process has the folder open.
        DatabaseLostError: images or vectors are there and their database is not, or has lost changes.
        FolderMismatchError: the folder was made for another space, dimension or schema.
        DeviceUnavailableError: the device is not there.
        StoreFailedError: the folder cannot be read or written.
    """

    def __init__(
        self,
        folder: Path | str,
        space: str,
        dimension: int,
        compatible_with: Collection[str] = (),
        *,
        device: Device = "cpu",
        threads: int = 1,
        queue_timeout_s: float = 10.0,
        seal_rows: int = 65_536,
        observe: Callable[[StoreWork, float], None] = lambda _work, _seconds: None,
        quantisation: Quantisation | None = None,
        approximate_rows: int = 50_000,
        filter_memory_bytes: int = 2**28,
        nice: int = 0,
    ) -> None:
        self._folder = Path(folder)
        self._dimension = dimension
        self._observe = observe
        self._calls = InFlightCalls((DatabaseError,))
        self._closing = threading.Lock()
        with ExitStack() as parts, self._calls.call(opening=True):
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(self._folder)
            parts.callback(lock.release)
            convert_schema_1(self._folder, dimension, {space, *compatible_with})
            lock.hold(self._folder / opening.DATABASE)
            opening.check_database(self._folder, dimension, {space, *compatible_with})
            self._reserve = DiskReserve(self._folder)
            self._open(parts, device, threads, filter_memory_bytes, (space, dimension, compatible_with))
            lock.hold(self._folder / opening.DATABASE)
            self._folder_gone = False
            complete = self._committer.start()
            parts.callback(self._committer.finish)
            self._check(parts, complete)
            self._approximate = None
            if quantisation is not None:
                self._approximate = ApproximateSearch(self._index, quantisation, threads, approximate_rows)
                parts.callback(self._approximate.close)
            self._start_threads(parts, queue_timeout_s, seal_rows)
            self._filters.start(self._submit, wait=self._is_small, nice=nice)
            parts.callback(self._filters.close)
            self._reads = Reads(
                self._index, self._filters, self._readers, self._committer.commit_lock, self._damage
            )
            self._probe = StoreProbe(
                self._folder / opening.DATABASE, self._folder / opening.IMAGES, self._reserve, self._database
            )
            parts.callback(self._probe.close)
            self._parts = parts.pop_all()

    def _open(
        self,
        parts: ExitStack,
        device: Device,
        threads: int,
        filter_memory_bytes: int,
        fit: tuple[str, int, Collection[str]],
    ) -> None:
        path = self._folder / opening.DATABASE
        self._database = DatabaseWriter(path, *fit, opening.new_gallery_number())
        parts.callback(self._database.close)
        self._readers = ReaderPool(path)
        parts.callback(self._readers.close)
        acknowledged = AcknowledgedMark(self._folder / opening.ACKNOWLEDGED)
        parts.callback(acknowledged.close)
        self._segments = SegmentFolder(self._folder / opening.SEGMENTS, self._dimension, self._database.gallery)
        parts.callback(self._segments.close)
        self._images = ImageFolder(self._folder / opening.IMAGES, self._readers.uses_image)
        self._index = VectorIndex(self._dimension, device, threads)
        self._damage = Damage()
        commit_lock = threading.Lock()
        saved = self._folder / opening.COLUMNS, self._database.gallery, self._database.columns_token
        self._filters = FilterIndex(self._readers, commit_lock, filter_memory_bytes, saved, self._index.current)
        self._committer = Committer(
            self._database,
            self._readers,
            self._index,
            self._filters,
            commit_lock,
            self._segments,
            self._images,
            acknowledged,
            self._damage,
            self._reserve,
        )

    def _check(self, parts: ExitStack, complete: bool) -> None:
        path, tidy = self._folder / opening.DATABASE, self._committer.tidy
        if not complete or not self._committer.marked or self._is_small:
            self._index.drop(check_before_serving(self._database, path, self._damage))
            tidy()
        else:
            parts.callback(BackgroundCheck(path, self._index, self._damage, tidy).close)

    def _start_threads(self, parts: ExitStack, queue_timeout_s: float, seal_rows: int) -> None:
        committer, observe = self._committer, partial(self._observe, "merge")
        shared = (self._index, self._segments, committer.commit_lock)
        self._merger = Merger(*shared, seal_rows, committer.name_lost, observe)
        parts.callback(self._merger.close)
        self._writes = WriteQueue(self._commit_group, _QUEUED_ITEMS, _GROUP_ITEMS, queue_timeout_s)
        parts.callback(self._writes.close)
        committer.after_change.append(self._merger.wake)
        if self._approximate is not None:
            committer.after_change.append(self._approximate.wake)
        self._merger.wake()

    @property
    def _is_small(self) -> bool:
        return sum(self._committer.composition.values()) <= _SMALL

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def spaces(self) -> frozenset[str]:
        return self._database.spaces

    @property
    def alive(self) -> bool:
        return self._writes.alive and not self._committer.broken

    @property
    def faults(self) -> list[str]:
        return self._damage.sentences

    def fault(self) -> StoreFault | None:
        with self._calls.call():
            found = self._probe.fault()
            self._folder_gone = found is not None and found.cause == "folder_gone"
            return found

    def sizes(self) -> StoreSizes:
        with self._calls.call():
            live, rows = len(self._index), self._index.row_count
            return StoreSizes(
                log_bytes=self._database.log.bytes,
                live_rows=live,
                dead_rows=max(0, rows - live),
                vector_files=self._segments.file_count,
                free_bytes=self._reserve.free_bytes,
                columns_failed=self._filters.failed,
            )

    def adopt(self, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        with self._calls.call():
            self._submit(WriteRequest(lambda database: database.adopt(space, dimension, compatible_with), items=0))

    def check(self, items: Sequence[Item]) -> list[InvalidInputError | None]:
        with self._calls.call():
            return check_items(items, self._database.spaces, self._dimension).errors

    def upsert(self, items: Sequence[Item]) -> list[Outcome]:
        with self._calls.call():
            checked = accepted_items(items, self._database.spaces, self._dimension)
            if not items:
                return []
            self._check_room()
            digests = [digest_of(item.image.data) if item.image else None for item in items]
            columns = columns_of(items, checked, digests)
            images = {d: item.image.data for d, item in zip(digests, items, strict=True) if d and item.image}
            self._images.pin(images)
            return self._submit(WriteRequest(lambda db: db.upsert(columns), len(items), tuple(images))).outcomes

    def patch_metadata(self, id: str, patch: Mapping[str, Any]) -> StoredItem | None:
        with self._calls.call():
            check_ids([id])
            self._check_room()
            return patch_metadata(self._reads, self._submit, id, patch)

    def replace_vectors(self, changes: Sequence[VectorChange]) -> list[bool]:
        with self._calls.call():
            columns = changed_columns(changes, self._database.spaces, self._dimension)
            self._check_room()
            found = self._reads.versions_of([change.item for change in changes])
            return self._submit(WriteRequest(lambda db: db.replace_vectors(found, columns), len(changes))).existed

    def delete(self, ids: Sequence[str]) -> list[bool]:
        with self._calls.call():
            if not (checked := check_ids(ids)):
                return []
            self._reserve.use_when_full()
            return self._submit(WriteRequest(lambda database: database.delete(checked), len(checked))).existed

    def delete_matching(self, filter: Filter, limit: int) -> list[str]:
        with self._calls.call():
            check_limit(limit, MAX_ITEMS)
            if not len(versions := self._reads.versions(parse(filter))[:limit]):
                return []
            return [version.id for version in self._delete_versions(versions).removed]

    def get(self, ids: Sequence[str]) -> list[StoredItem | None]:
        with self._calls.call():
            return self._reads.get(check_ids(ids))

    def page(self, cursor: str | None = None, limit: int = 100, filter: Filter | None = None) -> Page:
        with self._calls.call():
            check_limit(limit, MAX_PAGE)
            after = "" if cursor is None else decode_cursor(cursor)
            items, more = self._reads.page(after, limit, None if filter is None else parse(filter))
            return Page(items, encode_cursor(items[-1].id) if more else None)

    def search(
        self, vectors: Float32, k: int, filter: Filter | None = None, *, with_vectors: bool = False
    ) -> list[list[Hit]]:
        with self._calls.call():
            queries = self._checked_queries(vectors, k)
            term = None if filter is None else parse(filter)
            return self._reads.search(queries, k, term, with_vectors) if len(queries) else []

    def search_approximately(
        self, vectors: Float32, k: int, filter: Filter | None = None, *, with_vectors: bool = False
    ) -> tuple[list[list[Hit]], bool]:
        if filter is not None:
            return self.search(vectors, k, filter, with_vectors=with_vectors), True
        with self._calls.call():
            queries = self._checked_queries(vectors, k)
            return self._reads.search_approximately(self._approximate, queries, k, with_vectors)

    @property
    def approximate(self) -> ApproximateStatus | None:
        return None if self._approximate is None else self._approximate.status

    def count(self, filter: Filter | None = None) -> int:
        if filter is None:
            return sum(self.composition().values())
        with self._calls.call():
            return len(self._reads.versions(parse(filter)))

    def composition(self) -> dict[str, int]:
        with self._calls.call():
            return dict(self._committer.composition)

    def image(self, id: str) -> StoredImage | None:
        with self._calls.call():
            check_ids([id])
            for _ in range(_IMAGE_ATTEMPTS):
                if (found := self._reads.image(id)) is None:
                    return None
                digest, media_type = found
                try:
                    return StoredImage(self._images.read(digest), media_type, digest)
                except FileNotFoundError:
                    continue
            raise StoreFailedError(f"the file of the image {digest} is missing")

    def compact(self) -> CompactedVectors:
        """Write the vectors anew, as `Merger.compact`; blocks until it is done, or the store is closed."""
        with self._calls.call():
            asked = self._merger.compact()
        return asked.result()

    def close(self) -> None:
        self._calls.close()
        with self._closing:
            self._parts.close()

    def _commit_group(self, requests: list[WriteRequest]) -> None:
        began = time.monotonic()
        self._committer.commit_group(requests)
        self._observe("commit", time.monotonic() - began)

    def _checked_queries(self, vectors: Float32, k: int) -> Float32:
        return check_queries(vectors, self._dimension, k, sum(self._committer.composition.values()))

    def _delete_versions(self, versions: Int64) -> AppliedChange:
        self._reserve.use_when_full()
        return self._submit(WriteRequest(lambda database: database.delete_versions(versions), len(versions)))

    def _submit(self, request: WriteRequest) -> AppliedChange:
        try:
            self._check_there()
            future = self._writes.submit(request)
        except StoreError:
            self._images.unpin(request.images)
            self._images.delete_unused(request.images)
            raise
        return future.result()

    def _check_room(self) -> None:
        self._check_there()
        self._reserve.refuse_when_full()

    def _check_there(self) -> None:
        if self._folder_gone:  # the system would go on writing to files that no longer have a name
            raise StoreFailedError(GONE)
