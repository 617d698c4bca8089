"""The store inside the service's own process: one folder.

    lock              held by the process that has the folder open
    record.sqlite     the database: everything but the images
    pictures/         the images, see images.py
    index.snapshot    see snapshot.py; may be deleted while the store is closed

Beyond protocol.py this store promises:
- A call happens wholly or not at all, even where its outcome is unknown or the process is killed.
- A score depends on the two vectors alone: it is summed in float64 and rounded to float32. The hits are those of
  brute force, digit for digit; equal scores are in the order of the items' last changes.
- Images are kept; an item never refers to an image that is not there.

Reads use a pool of connections. Changes are checked, and their images stored, in the caller's thread and are then
handed to the writer thread.
"""

import base64
import threading
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

from sfsc_bundle.runner import Device
from sfsc_service.store.embedded.changes import AppliedChange, ItemColumns
from sfsc_service.store.embedded.committer import Committer, SnapshotPlan
from sfsc_service.store.embedded.images import ImageFolder, digest_of
from sfsc_service.store.embedded.in_flight import InFlightCalls
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.lock import FolderLock
from sfsc_service.store.embedded.searcher import Searcher
from sfsc_service.store.embedded.sqlite.reader import ReaderPool
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.write_queue import WriteQueue, WriteRequest
from sfsc_service.store.errors import (
    InvalidCursorError,
    InvalidIdError,
    InvalidInputError,
    LimitExceededError,
    StoreError,
    StoreFailedError,
)
from sfsc_service.store.filters.language import parse
from sfsc_service.store.filters.sql import Condition
from sfsc_service.store.protocol import (
    MAX_PAGE,
    MAX_TOTAL_HITS,
    Filter,
    Float32,
    Hit,
    Item,
    Outcome,
    Page,
    StoredImage,
    StoredItem,
)
from sfsc_service.store.validation import CheckedItems, check_ids, check_items, check_queries

__all__ = ["EmbeddedStore"]

_QUEUED_ITEMS = 40_000
_GROUP_ITEMS = 4_000
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
        snapshot_changes: least number of changes between two index snapshots; large galleries wait for more.

    Raises:
        StoreLockedError: another process has the folder open.
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
        snapshot_changes: int = 10_000,
    ) -> None:
        self._folder = Path(folder)
        self._dimension = dimension
        self._calls = InFlightCalls()
        self._closing = threading.Lock()
        with ExitStack() as parts, self._calls.call():
            self._folder.mkdir(parents=True, exist_ok=True)
            parts.callback(FolderLock(self._folder).release)
            path = self._folder / "record.sqlite"
            self._database = DatabaseWriter(path, space, dimension, compatible_with)
            parts.callback(self._database.close)
            self._readers = ReaderPool(path, dimension)
            parts.callback(self._readers.close)
            self._images = ImageFolder(self._folder / "pictures", self._uses_image)
            index = VectorIndex(dimension, device, threads)
            snapshots = SnapshotPlan(self._folder / "index.snapshot", snapshot_changes)
            self._committer = Committer(self._database, self._readers, index, self._images, snapshots)
            self._committer.start()
            parts.callback(self._committer.finish)
            self._writes = WriteQueue(self._committer.commit_group, _QUEUED_ITEMS, _GROUP_ITEMS, queue_timeout_s)
            parts.callback(self._writes.close)
            self._searcher = Searcher(index, self._readers, self._committer.commit_lock)
            self._parts = parts.pop_all()

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def spaces(self) -> frozenset[str]:
        return self._database.spaces

    @property
    def alive(self) -> bool:
        return self._writes.alive and not self._committer.broken

    def adopt(self, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        with self._calls.call():
            self._submit(WriteRequest(lambda database: database.adopt(space, dimension, compatible_with), items=0))

    def check(self, items: Sequence[Item]) -> list[InvalidInputError | None]:
        with self._calls.call():
            return check_items(items, self._database.spaces, self._dimension).errors

    def upsert(self, items: Sequence[Item]) -> list[Outcome]:
        with self._calls.call():
            checked = check_items(items, self._database.spaces, self._dimension)
            for error in checked.errors:
                if error is not None:
                    raise error
            if not items:
                return []
            digests = [digest_of(item.image.data) if item.image else None for item in items]
            columns = _columns(items, checked, digests)
            images = {d: item.image.data for d, item in zip(digests, items, strict=True) if d and item.image}
            self._images.pin(images)
            request = WriteRequest(lambda database: database.upsert(columns), len(items), tuple(images))
            return self._submit(request).outcomes

    def delete(self, ids: Sequence[str]) -> list[bool]:
        with self._calls.call():
            checked = check_ids(ids)
            if not checked:
                return []
            return self._submit(WriteRequest(lambda database: database.delete(checked), len(checked))).existed

    def get(self, ids: Sequence[str]) -> list[StoredItem | None]:
        with self._calls.call(), self._readers.acquire() as reader:
            return reader.get(check_ids(ids))

    def page(self, cursor: str | None = None, limit: int = 100, filter: Filter | None = None) -> Page:
        with self._calls.call(), self._readers.acquire() as reader:
            if not 1 <= limit <= MAX_PAGE:
                raise LimitExceededError("limit", f"must be 1 .. {MAX_PAGE}", f"{limit}")
            after = "" if cursor is None else _decode_cursor(cursor)
            items = reader.page(after, limit + 1, _condition(filter))
            more = len(items) > limit
            return Page(items[:limit], _encode_cursor(items[limit - 1].id) if more else None)

    def search(self, vectors: Float32, k: int, filter: Filter | None = None) -> list[list[Hit]]:
        with self._calls.call():
            queries = check_queries(vectors, self._dimension)
            if k < 1:
                raise LimitExceededError("k", "must be at least 1", f"{k}")
            if (hits := len(queries) * min(k, sum(self._committer.composition.values()))) > MAX_TOTAL_HITS:
                raise LimitExceededError("k", f"all queries together may have {MAX_TOTAL_HITS} hits", f"{hits}")
            condition = _condition(filter)
            return self._searcher.search(queries, k, condition) if len(queries) else []

    def count(self) -> int:
        return sum(self.composition().values())

    def composition(self) -> dict[str, int]:
        with self._calls.call():
            return dict(self._committer.composition)

    def image(self, id: str) -> StoredImage | None:
        with self._calls.call():
            check_ids([id])
            for _ in range(_IMAGE_ATTEMPTS):
                with self._readers.acquire() as reader:
                    found = reader.image(id)
                if found is None:
                    return None
                digest, media_type = found
                try:
                    return StoredImage(self._images.read(digest), media_type, digest)
                except FileNotFoundError:
                    continue
            raise StoreFailedError(f"the file of the image {digest} is missing")

    def close(self) -> None:
        self._calls.close()
        with self._closing:
            self._parts.close()

    def _submit(self, request: WriteRequest) -> AppliedChange:
        try:
            future = self._writes.submit(request)
        except StoreError:
            self._images.unpin(request.images)
            self._images.delete_unused(request.images)
            raise
        return future.result()

    def _uses_image(self, digest: str) -> bool:
        with self._readers.acquire() as reader:
            return reader.uses_image(digest)


def _columns(items: Sequence[Item], checked: CheckedItems, digests: list[str | None]) -> ItemColumns:
    return ItemColumns(
        ids=[item.id for item in items],
        spaces=[item.space for item in items],
        widths=[item.width for item in items],
        metadata=checked.metadata,
        image_digests=digests,
        media_types=[item.image.media_type if item.image else None for item in items],
        vectors=checked.vectors,
    )


def _condition(filter: Filter | None) -> Condition | None:
    return None if filter is None else parse(filter).sql()


def _encode_cursor(identifier: str) -> str:
    return base64.urlsafe_b64encode(identifier.encode()).decode()


def _decode_cursor(cursor: str) -> str:
    try:
        identifier = base64.b64decode(cursor.encode(), b"-_", validate=True).decode()
        return check_ids([identifier])[0]
    except (ValueError, InvalidIdError):
        raise InvalidCursorError("cursor", "must be the `next` of an earlier page", f"{cursor[:80]!r}") from None
