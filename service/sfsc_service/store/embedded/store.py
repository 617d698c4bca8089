"""The store within the service's own process: one folder.

    lock              held by the one process that has the folder open
    record.sqlite     everything but the images; the record of what is here
    pictures/         see images.py
    index.snapshot    see snapshot.py; may be removed while the store is closed

Reads use lent connections; changes are checked, and their images stored, in the caller's thread and then go to
the writer thread.
"""

import base64
import threading
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

from sfsc_service.store.embedded.changes import Change, Rows
from sfsc_service.store.embedded.committer import Committer, SnapshotPlan
from sfsc_service.store.embedded.images import ImageFolder, digest_of
from sfsc_service.store.embedded.in_flight import InFlightCalls
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.lock import FolderLock
from sfsc_service.store.embedded.searcher import Searcher
from sfsc_service.store.embedded.sqlite.reader import ReaderPool
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.embedded.write_queue import Job, Writer
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
    EncodedImage,
    Filter,
    Float32,
    Hit,
    Item,
    Outcome,
    Page,
    StoredItem,
)
from sfsc_service.store.validation import CheckedItems, check_ids, check_items, check_queries

__all__ = ["EmbeddedStore"]

_WAITING_ITEMS = 40_000
_GROUP_ITEMS = 4_000
# An item's image may be replaced between looking up its digest and reading the file, but hardly so many times.
_IMAGE_ATTEMPTS = 10


class EmbeddedStore:
    """Implements protocol.Store; opening creates `folder` where there is none.

    Args:
        space: of new vectors; `compatible_with`: further spaces whose vectors may be here too.
        dimension: D of all vectors.
        device: of the index, "cpu" or "cuda"; record and images are on disk in any case.
        threads: that one search on the CPU may use.
        queue_timeout_s: seconds that a change waits for room among the waiting ones before StoreBusyError.
        snapshot_changes: changes between two index snapshots, at least; large galleries wait for more.

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
        device: str = "cpu",
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
            record = DatabaseWriter(path, space, dimension, compatible_with)
            parts.callback(record.close)
            self._record = record
            self._readers = ReaderPool(path, dimension)
            parts.callback(self._readers.close)
            self._images = ImageFolder(self._folder / "pictures", self._names_image)
            index = VectorIndex(dimension, device, threads)
            snapshots = SnapshotPlan(self._folder / "index.snapshot", snapshot_changes)
            self._committer = Committer(record, self._readers, index, self._images, snapshots)
            self._committer.start()
            parts.callback(self._committer.finish)
            self._writer = Writer(self._committer.work, _WAITING_ITEMS, _GROUP_ITEMS, queue_timeout_s)
            parts.callback(self._writer.close)
            self._searcher = Searcher(index, self._readers, self._committer.gate)
            self._parts = parts.pop_all()

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def spaces(self) -> frozenset[str]:
        return self._record.spaces

    @property
    def alive(self) -> bool:
        return self._writer.alive and not self._committer.broken

    def adopt(self, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        with self._calls.call():
            self._submit(Job(lambda record: record.adopt(space, dimension, compatible_with), 0))

    def check(self, items: Sequence[Item]) -> list[InvalidInputError | None]:
        with self._calls.call():
            return check_items(items, self._record.spaces, self._dimension).errors

    def upsert(self, items: Sequence[Item]) -> list[Outcome]:
        with self._calls.call():
            checked = check_items(items, self._record.spaces, self._dimension)
            for error in checked.errors:
                if error is not None:
                    raise error
            if not items:
                return []
            digests = [digest_of(item.image.data) if item.image else None for item in items]
            rows = _rows(items, checked, digests)
            held = {d: item.image.data for d, item in zip(digests, items, strict=True) if d and item.image}
            self._images.hold(held)
            job = Job(lambda record: record.upsert(rows), len(items), tuple(held))
            return self._submit(job).outcomes

    def delete(self, ids: Sequence[str]) -> list[bool]:
        with self._calls.call():
            checked = check_ids(ids)
            if not checked:
                return []
            return self._submit(Job(lambda record: record.delete(checked), len(checked))).existed

    def get(self, ids: Sequence[str]) -> list[StoredItem | None]:
        with self._calls.call(), self._readers.lend() as reader:
            return reader.get(check_ids(ids))

    def page(self, cursor: str | None = None, limit: int = 100, filter: Filter | None = None) -> Page:
        with self._calls.call(), self._readers.lend() as reader:
            if not 1 <= limit <= MAX_PAGE:
                raise LimitExceededError("limit", f"must be 1 .. {MAX_PAGE}", f"{limit}")
            after = "" if cursor is None else _decode_cursor(cursor)
            records = reader.page(after, limit + 1, _condition(filter))
            more = len(records) > limit
            return Page(records[:limit], _encode_cursor(records[limit - 1].id) if more else None)

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

    def image(self, id: str) -> EncodedImage | None:
        with self._calls.call():
            check_ids([id])
            for _ in range(_IMAGE_ATTEMPTS):
                with self._readers.lend() as reader:
                    named = reader.image(id)
                if named is None:
                    return None
                digest, media_type = named
                try:
                    return EncodedImage(self._images.read(digest), media_type)
                except FileNotFoundError:
                    continue
            raise StoreFailedError(f"image: the file of {digest} must be there; found none")

    def close(self) -> None:
        self._calls.close()
        with self._closing:
            self._parts.close()

    def _submit(self, job: Job) -> Change:
        try:
            future = self._writer.submit(job)
        except StoreError:
            self._images.release(job.images)
            self._images.discard(job.images)
            raise
        return future.result()

    def _names_image(self, digest: str) -> bool:
        with self._readers.lend() as reader:
            return reader.names_image(digest)


def _rows(items: Sequence[Item], checked: CheckedItems, digests: list[str | None]) -> Rows:
    return Rows(
        ids=[item.id for item in items],
        spaces=[item.space for item in items],
        widths=[item.width for item in items],
        metadata=checked.metadata,
        images=digests,
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
        raise InvalidCursorError("cursor", "must be one that a page gave", f"{cursor[:80]!r}") from None
