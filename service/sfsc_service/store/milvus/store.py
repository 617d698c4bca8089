"""The store over Milvus, for more than one machine: the service itself keeps nothing.

Every process that opens the same collection and the same place of images serves the same gallery. Beyond what a
shared store does differently (protocol.py), k is at most MAX_K, and metadata are refused whose fields, as filters
read them, take more than collection.MAX_FIELDS_BYTES. With the index HNSW no search is exact.

Images that items no longer refer to are looked for in the background, every few seconds.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfsc_service.store.errors import (
    ExactSearchUnavailableError,
    FolderMismatchError,
    InvalidInputError,
    LimitExceededError,
    StoreError,
    StoreFailedError,
)
from sfsc_service.store.fault import StoreFault
from sfsc_service.store.filters.language import parse
from sfsc_service.store.filters.milvus import literal, to_expression
from sfsc_service.store.in_flight import InFlightCalls
from sfsc_service.store.merge_patch import merged
from sfsc_service.store.milvus.address import MilvusAddress
from sfsc_service.store.milvus.collection import check_spaces, open_collection
from sfsc_service.store.milvus.id_locks import IdLocks
from sfsc_service.store.milvus.images import SharedImages, digest_of, open_place
from sfsc_service.store.milvus.index_kind import MilvusSearch
from sfsc_service.store.milvus.parts import Row
from sfsc_service.store.milvus.rows import (
    HIT_FIELDS,
    ITEM_FIELDS,
    STORED_FIELDS,
    changed_row,
    check_fields,
    hit_of,
    item_of,
    row_of,
)
from sfsc_service.store.milvus.width_counts import WidthCounts
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
    VectorChange,
)
from sfsc_service.store.validation import (
    accepted_changes,
    check_ids,
    check_items,
    check_limit,
    check_metadata,
    check_queries,
)

__all__ = ["MAX_K", "MilvusStore"]

MAX_K = 16_384
"""What Milvus answers at most."""

_HITS_AT_ONCE = 5_000
_REFRESH_S = 5.0
# An item's image may be replaced between looking up its digest and reading the file, but not so many times.
_IMAGE_ATTEMPTS = 10

_log = logging.getLogger(__name__)


class MilvusStore:
    """Implements protocol.Store; opening makes the collection where there is none.

    Args:
        collection: the name of the gallery's.
        images: where the images are, for all processes of the gallery: a folder, or an object store's URL.
        space: of new vectors; `compatible_with`: further spaces whose vectors may be here too.
        dimension: D of all vectors.
        search: how `search_approximately` searches, which the index must be good for; None: exactly where the
            index can, whichever there is. The index of a new collection is made for it.
        timeout_s: seconds that one call of Milvus may take.

    Raises:
        FolderMismatchError: the collection was made for another space, dimension, schema or kind of search.
        OpenRefusedError: Milvus has no such database, or does not let us in; a package for the images is missing.
        StoreFailedError: Milvus or the object store does not answer.
        OSError: the folder of the images cannot be used.
    """

    def __init__(
        self,
        address: MilvusAddress,
        collection: str,
        images: Path | str,
        space: str,
        dimension: int,
        compatible_with: Collection[str] = (),
        *,
        search: MilvusSearch | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._address, self._dimension = address, dimension
        self._space, self._spaces = space, frozenset({space, *compatible_with})
        self._calls = InFlightCalls()
        self._closing = threading.Lock()
        self._locks = IdLocks()
        """Held by a change from its look at the items until they are changed."""
        self._stop = threading.Event()
        with self._calls.call(opening=True):
            self._client, self._index = open_collection(
                address, collection, space, dimension, self._spaces, search, timeout_s
            )
            self._search: MilvusSearch = search or ("hnsw" if self._index.exact is None else "exact")
            try:
                self._client.count(strong=True)  # what was written before this process began is seen from now on
                check_spaces(self._client, address, self._spaces)
                self._widths = WidthCounts(self._client)
                self._images = SharedImages(open_place(images), self._used_images)
            except BaseException:
                self._client.close()
                raise
        self._refresher = threading.Thread(target=self._refresh, name="milvus-refresh", daemon=True)
        self._refresher.start()

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def spaces(self) -> frozenset[str]:
        return self._spaces

    @property
    def alive(self) -> bool:
        return not self._stop.is_set()

    @property
    def faults(self) -> list[str]:
        return []

    def fault(self) -> StoreFault | None:
        with self._calls.call():
            if (found := self._client.probe()) is not None:
                return StoreFault("unresponsive", found)
            return self._images.fault()

    def sizes(self) -> StoreSizes:
        with self._calls.call():
            return StoreSizes(
                log_bytes=0,
                live_rows=sum(self._widths.now().values()),
                dead_rows=0,
                vector_files=0,
                free_bytes=self._images.free_bytes,
            )

    def adopt(self, space: str, dimension: int, compatible_with: Collection[str]) -> None:
        with self._calls.call():
            spaces = frozenset({space, *compatible_with})
            if dimension != self._dimension:
                rule = f"must hold vectors of dimension {dimension}"
                raise FolderMismatchError(f"store: {self._address} {rule}; found {self._dimension}")
            if self._space not in spaces:
                rule = f"must hold vectors of the space {' or '.join(sorted(spaces))} only"
                raise FolderMismatchError(f"store: {self._address} {rule}; {self._space} is being served")
            check_spaces(self._client, self._address, spaces)
            self._space, self._spaces = space, spaces

    def check(self, items: Sequence[Item]) -> list[InvalidInputError | None]:
        with self._calls.call():
            return check_fields(items, check_items(items, self._spaces, self._dimension))[0]

    def upsert(self, items: Sequence[Item]) -> list[Outcome]:
        with self._calls.call():
            checked = check_items(items, self._spaces, self._dimension)
            errors, fields = check_fields(items, checked)
            for error in errors:
                if error is not None:
                    raise error
            if not items:
                return []
            last = {item.id: position for position, item in enumerate(items)}
            images = [image.data for i in last.values() if (image := items[i].image)]
            with (
                self._images.storing({digest_of(data): data for data in images}),
                self._locks.held(last),
                self._widths.changing(),
            ):
                old = self._rows_by_id(last, ("id", "width", "image", "created"))
                now = time.time_ns() // 1_000
                rows = [
                    row_of(
                        items[i],
                        checked.vectors[i],
                        checked.metadata[i],
                        fields[i],
                        old[name]["created"] if name in old else now,
                    )
                    for name, i in last.items()
                ]
                self._client.upsert(rows)
                self._changed([row["width"] for row in rows], list(old.values()))
            return _outcomes([item.id for item in items], set(old))

    def patch_metadata(self, id: str, patch: Mapping[str, Any]) -> StoredItem | None:
        with self._calls.call():
            check_ids([id])
            check_metadata(dict(patch))
            with self._locks.held([id]):
                if (row := self._rows_by_id([id], STORED_FIELDS).get(id)) is None:
                    return None
                found = item_of(row)
                metadata = merged(found.metadata, patch)
                self._client.upsert([changed_row(row, metadata=check_metadata(metadata))])
            return replace(found, metadata=metadata)

    def replace_vectors(self, changes: Sequence[VectorChange]) -> list[bool]:
        with self._calls.call():
            accepted_changes(changes, self._spaces, self._dimension)
            with self._locks.held(change.item.id for change in changes), self._widths.changing():
                rows = self._rows_by_id([change.item.id for change in changes], STORED_FIELDS)
                replaced, changed = list[bool](), list[Row]()
                for change in changes:
                    row = rows.get(change.item.id)
                    replaced.append(row is not None and item_of(row).equals(change.item))
                    if replaced[-1]:
                        changed.append(changed_row(rows.pop(change.item.id), vector=change))
                if changed:
                    self._client.upsert(changed)
                    done = [change for change, made in zip(changes, replaced, strict=True) if made]
                    self._widths.change([one.width for one in done], [one.item.width for one in done])
            return replaced

    def delete(self, ids: Sequence[str]) -> list[bool]:
        with self._calls.call():
            checked = check_ids(ids)
            with self._locks.held(checked), self._widths.changing():
                old = self._rows_by_id(checked, ("id", "width", "image"))
                self._delete(list(old.values()))
            first = {name: position for position, name in reversed(list(enumerate(checked)))}
            return [name in old and first[name] == position for position, name in enumerate(checked)]

    def delete_matching(self, filter: Filter, limit: int) -> list[str]:
        with self._calls.call():
            check_limit(limit, MAX_ITEMS)
            rows = self._client.first_rows(to_expression(parse(filter)), limit, ("id", "width", "image"))
            ids = [row["id"] for row in rows]
            with self._locks.held(ids), self._widths.changing():
                self._delete(rows)
            return ids

    def get(self, ids: Sequence[str]) -> list[StoredItem | None]:
        with self._calls.call():
            checked = check_ids(ids)
            rows = self._rows_by_id(checked, ITEM_FIELDS)
            found = {name: item_of(row) for name, row in rows.items()}
            return [found.get(name) for name in checked]

    def page(self, cursor: str | None = None, limit: int = 100, filter: Filter | None = None) -> Page:
        with self._calls.call():
            check_limit(limit, MAX_PAGE)
            expression = f"(id > {literal('' if cursor is None else decode_cursor(cursor))})"
            if filter is not None:
                expression = f"({expression} and {to_expression(parse(filter))})"
            rows = self._client.first_rows(expression, limit + 1, ITEM_FIELDS)
            items = [item_of(row) for row in rows[:limit]]
            return Page(items, encode_cursor(items[-1].id) if len(rows) > limit else None)

    def search(
        self, vectors: Float32, k: int, filter: Filter | None = None, *, with_vectors: bool = False
    ) -> list[list[Hit]]:
        if self._index.exact is None:
            rule = f"must be false, because the index {self._index.type} cannot be searched exactly"
            raise ExactSearchUnavailableError("exact", rule, "true")
        return self._search_with(self._index.exact, vectors, k, filter, with_vectors)

    def search_approximately(
        self, vectors: Float32, k: int, filter: Filter | None = None, *, with_vectors: bool = False
    ) -> tuple[list[list[Hit]], bool]:
        if self._search == "exact" or (filter is not None and self._index.exact is not None):
            return self.search(vectors, k, filter, with_vectors=with_vectors), True
        return self._search_with(self._index.about(k), vectors, k, filter, with_vectors), False

    @property
    def approximate(self) -> ApproximateStatus | None:
        if self._search == "exact":
            return None
        return ApproximateStatus(self._search, sum(self._widths.now().values()), None)

    def _search_with(
        self, parameters: Mapping[str, Any], vectors: Float32, k: int, filter: Filter | None, with_vectors: bool
    ) -> list[list[Hit]]:
        with self._calls.call():
            queries = check_queries(vectors, self._dimension, k, sum(self._widths.now().values()))
            if k > MAX_K:
                raise LimitExceededError("k", f"must be 1 .. {MAX_K}", f"{k}")
            fields = (*HIT_FIELDS, "vector") if with_vectors else HIT_FIELDS
            expression = "" if filter is None else to_expression(parse(filter))
            step = max(1, _HITS_AT_ONCE // k)
            return [
                [hit_of(row) for row in found]
                for first in range(0, len(queries), step)
                for found in self._client.search(queries[first : first + step], k, expression, fields, parameters)
            ]

    def count(self, filter: Filter | None = None) -> int:
        with self._calls.call():
            if filter is None:
                return sum(self._widths.now().values())
            return self._client.count(to_expression(parse(filter)))

    def composition(self) -> dict[str, int]:
        with self._calls.call():
            return self._widths.now()

    def image(self, id: str) -> StoredImage | None:
        with self._calls.call():
            check_ids([id])
            for _ in range(_IMAGE_ATTEMPTS):
                rows = self._client.rows_with("id", [id], ("image", "media_type"))
                if not rows or not rows[0]["image"]:
                    return None
                digest = rows[0]["image"]
                with contextlib.suppress(FileNotFoundError):
                    return StoredImage(self._images.read(digest), rows[0]["media_type"], digest)
            raise StoreFailedError(f"the file of the image {digest} is missing")

    def close(self) -> None:
        self._calls.close()
        with self._closing:
            if not self._stop.is_set():
                self._stop.set()
                self._refresher.join()
                self._images.close()
                self._client.close()

    def _rows_by_id(self, ids: Iterable[str], fields: Sequence[str]) -> dict[str, Row]:
        rows = self._client.rows_with("id", list(dict.fromkeys(ids)), fields)
        return {row["id"]: row for row in rows}

    def _delete(self, rows: Sequence[Row]) -> None:
        """Delete the items of rows with id, width and image."""
        if rows:
            self._client.delete([row["id"] for row in rows])
            self._changed([], rows)

    def _changed(self, added: Sequence[str], removed: Sequence[Row]) -> None:
        self._widths.change(added, [row["width"] for row in removed])
        self._images.may_be_unused({row["image"] for row in removed if row["image"]})

    def _used_images(self, digests: list[str]) -> set[str]:
        return {row["image"] for row in self._client.rows_with("image", digests, ("image",))}

    def _refresh(self) -> None:
        while not self._stop.wait(_REFRESH_S):
            try:
                self._refresh_once()
            except Exception:  # without this thread, numbers by width would stay wrong for ever
                _log.exception("widths and unused images could not be looked through")

    def _refresh_once(self) -> None:
        try:
            self._widths.refresh()
            self._images.tidy()
        except (StoreError, OSError) as error:
            _log.warning("widths and unused images could not be looked through: %s", error)
            self._client.probe()  # makes a Milvus that was restarted serve the collection again


def _outcomes(ids: Sequence[str], existing: set[str]) -> list[Outcome]:
    outcomes = []
    for name in ids:
        outcomes.append(Outcome.REPLACED if name in existing else Outcome.CREATED)
        existing.add(name)
    return outcomes
