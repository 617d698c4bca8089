"""The gallery: images and vectors of any width go in, and are found by those of any other."""

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from sfsc_bundle.crop import Crop
from sfsc_service.engine.embedder import Arrival, EmbeddedImage, Embedder
from sfsc_service.engine.networks import Vector
from sfsc_service.engine.policy import Budget, Reason
from sfsc_service.engine.tracing import record_step
from sfsc_service.errors import Problem
from sfsc_service.gallery.grouped_search import grouped_hits
from sfsc_service.gallery.hit_selection import HitSelection
from sfsc_service.gallery.near_duplicates import DuplicatesPage, NearDuplicates
from sfsc_service.gallery.search_stage import Wanted
from sfsc_service.gallery.stages import GalleryStages
from sfsc_service.gallery.store_search import search_store
from sfsc_service.gallery.vectors import unit_vector, unit_vectors
from sfsc_service.metrics import Metrics
from sfsc_service.settings import Settings
from sfsc_service.store.errors import InvalidInputError
from sfsc_service.store.protocol import (
    NO_METADATA,
    ApproximateStatus,
    EncodedImage,
    Filter,
    Hit,
    Item,
    MetadataJson,
    Outcome,
    Page,
    Store,
    StoredImage,
    StoredItem,
)

__all__ = ["ClientVector", "Found", "Gallery", "NewItem", "Query", "UpsertedItem"]

T = TypeVar("T")

NO_LIMITS = Budget()


class ClientVector(NamedTuple):
    """A vector that the client computed: JSON numbers or base64 float32, with its width and space."""

    values: Sequence[float] | str
    width: str
    space: str


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be inserted; `source` is an encoded image or a vector.

    With a crop, the vector is that part's, and the image is stored as it came. `text_bytes`: of its JSON alone.
    """

    id: str
    source: bytes | ClientVector
    budget: Budget = NO_LIMITS
    metadata: MetadataJson = NO_METADATA
    crop: Crop | None = None
    text_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    """A vector, float32 [D], and where it comes from; `embedded` is None unless the service computed it."""

    vector: Vector
    width: str
    space: str
    embedded: EmbeddedImage | None = None

    @property
    def reason(self) -> Reason:
        """Why it has its width."""
        return "requested" if self.embedded is None else self.embedded.reason

    def budget_met(self, arrival: Arrival) -> bool:
        """Whether an answer given now keeps the request's limits."""
        return self.embedded is None or self.embedded.budget_met(arrival)


class UpsertedItem(NamedTuple):
    """An item that is committed and searchable."""

    id: str
    query: Query
    created: bool
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What was made of the hits, whether they are exactly the best ones, and the milliseconds it all took."""

    answer: T
    exact: bool
    took_ms: float


class Gallery:
    """One store behind the networks. Every method raises Problem, ImageError or StoreError.

    Attributes:
        bulk: the bulk calls of all galleries.
    """

    def __init__(
        self, store: Store, embedder: Embedder, stages: GalleryStages, settings: Settings, metrics: Metrics
    ) -> None:
        self._store, self._embedder, self._metrics = store, embedder, metrics
        self._slo_ms = settings.slo_ms
        self._searches, self._filtered, self._duplicates = stages.searches, stages.filtered, stages.duplicates
        self._lookups, self._writers = stages.lookups, stages.writers
        self.bulk = stages.bulk

    def composition(self) -> dict[str, int]:
        """Items per width. Never waits."""
        return self._store.composition()

    @property
    def approximate(self) -> ApproximateStatus | None:
        """None where every search is exact. Never waits."""
        return self._store.approximate

    async def prepare(self, new: NewItem, arrival: Arrival) -> tuple[Query, Item]:
        """Embed an image or check a vector; nothing is stored."""
        if isinstance(new.source, ClientVector):
            query = self.query_vector(new.source)
            return query, _item_of_vector(new, query)
        embedded = await self._embedder.embed(new.source, new.budget, arrival, {}, new.crop)
        query = _embedded_query(embedded)
        image = EncodedImage(new.source, embedded.media_type)
        return query, Item(
            new.id, query.space, query.width, query.vector, new.metadata, image, reason=query.reason
        )

    async def prepare_vectors(self, vectors: Sequence[NewItem]) -> list[tuple[Query, Item] | Problem]:
        """As `prepare` for many items with vectors of their own; the answer of a refused one is its problem."""
        sent = [new.source for new in vectors if isinstance(new.source, ClientVector)]
        queries = await self._writers.run(self._query_vectors, sent)
        return [
            query if isinstance(query, Problem) else (query, _item_of_vector(new, query))
            for new, query in zip(vectors, queries, strict=True)
        ]

    async def upsert(self, new: NewItem, arrival: Arrival) -> UpsertedItem:
        """Insert or replace an item; returns once it is durable and searchable."""
        query, item = await self.prepare(new, arrival)
        began = time.monotonic()
        with self._embedder.activity:
            outcomes = await self._writers.run(self._store.upsert, [item])
        record_step("commit", began, time.monotonic())
        return UpsertedItem(item.id, query, outcomes[0] is Outcome.CREATED, arrival)

    def count_dropped(self, images: int) -> None:
        """Count images whose client left before they were begun with."""
        self._metrics.dropped.labels("client_gone").inc(images)

    async def commit(self, items: Sequence[Item]) -> list[Outcome | Exception]:
        """Insert or replace prepared items; the answer of a refused one is its error."""
        began = time.monotonic()
        with self._embedder.activity:
            answers = await self._writers.run(self._commit, items)
        record_step("commit", began, time.monotonic())
        return answers

    async def query_image(
        self, data: bytes, crop: Crop | None, budget: Budget, arrival: Arrival, *, filtered: bool = False
    ) -> Query:
        """An image, or a crop of it, as a query of a search, which is `filtered` or not."""
        stage = self._filtered if filtered else self._searches
        try:
            stage.check_not_full()
        except Problem:
            limit = "soft" if budget.deadline_ms is None else "hard"
            self._metrics.deadlines.labels(self._embedder.catalog.floor, limit, "refused").inc()
            raise
        after_ms = stage.predicted_ms(arrival.at + (budget.deadline_ms or self._slo_ms) / 1000)
        arrival = replace(arrival, after_ms=after_ms)
        return _embedded_query(await self._embedder.embed(data, budget, arrival, self.composition(), crop))

    def query_vector(self, vector: ClientVector) -> Query:
        """A client's vector as a query; vector, width and space are checked."""
        self.check_origin(vector.width, vector.space)
        values = unit_vector(vector.values, self._embedder.manifest.dimension)
        return self._query(values, vector.width, vector.space)

    def check_origin(self, width: str, space: str) -> None:
        """Check where a client's vectors come from. Raises Problem: unknown_space, unknown_width."""
        if space not in (spaces := self._store.spaces):
            rule = f"must be one of {', '.join(sorted(spaces))}"
            raise Problem("unknown_space", f"space: {rule}, found {space[:100]!r}", "space")
        networks = self._embedder.networks
        if space in networks.known_spaces and width not in (widths := networks.manifest.widths):
            raise Problem("unknown_width", f"width: must be one of {', '.join(widths)}, found {width}", "width")

    async def query_item(self, id: str) -> Query:
        """A stored item as a query."""
        item = await self.get(id)
        return self._query(item.vector, item.width, item.space)

    def bring(self, vectors: Vector, width: str, space: str) -> tuple[Vector, str]:
        """Unit vectors [n, D] of one width, brought into the space in force, and the space they are then of."""
        return self._embedder.networks.bring(vectors, width, space)

    async def search(
        self,
        query: Query,
        selection: HitSelection,
        filter: Filter | None,
        render: Callable[[list[Hit]], T],
        arrival: Arrival,
        *,
        exact: bool = False,
    ) -> Found[T]:
        """The selected hits, through `render` (in the searching thread).

        Unless `exact`, hits may be missing where the store searches approximately; with filter or groups none are,
        unless it cannot search exactly at all.
        """
        started = time.monotonic()
        choice = None if query.embedded is None else query.embedded.choice
        due = arrival.at + (self._slo_ms if choice is None else choice.target_ms) / 1000
        deadline = None
        if choice is not None and choice.deadline_ms is not None:
            deadline = arrival.at + choice.deadline_ms / 1000
        with self._embedder.activity:
            if filter is None and selection.grouping is None:
                wanted = Wanted(selection.fetched, self._store, exact, selection.vectors)
                answer, exact = await self._searches.run(
                    due, deadline, query.vector, wanted, lambda nearest: render(selection.choose(nearest))
                )
            else:
                find = partial(self._filtered_hits, query.vector, selection, filter, exact)
                answer, exact = await self._filtered.run(due, deadline, lambda: _rendered(render, *find()))
        ended = time.monotonic()
        record_step("search", started, ended, width=query.width)
        took_ms = 1000 * (ended - started)
        self._metrics.search_seconds.observe(took_ms / 1000)
        self._metrics.searches.labels(self._metrics.width_label(query.width)).inc()
        return Found(answer, exact, took_ms)

    async def get(self, id: str) -> StoredItem:
        """An item; item_not_found where there is none."""
        (item,) = await self._lookups.run(0.0, None, self._store.get, [id])
        if item is None:
            raise _not_found(id)
        return item

    async def image(self, id: str) -> StoredImage:
        """Bytes, media type and digest of one version of an item's image; item_not_found where it has none."""
        return await self._lookups.run(0.0, None, self._image, id)

    async def image_digest(self, id: str) -> str:
        """The digest of an item's image, which is not read; item_not_found where it has none."""
        (item,) = await self._lookups.run(0.0, None, self._store.get, [id])
        if item is None or item.image_digest is None:
            raise _no_image(id)
        return item.image_digest

    async def preview(self, id: str, side: int) -> tuple[bytes, str]:
        """A small JPEG of an item's image, as Previews.make, and its digest; item_not_found where it has none."""
        digest = ""

        def read() -> bytes:
            nonlocal digest
            image = self._image(id)
            digest = image.digest
            return image.data

        return await self._embedder.previews.make(read, side), digest

    async def page(self, cursor: str | None, limit: int, filter: Filter | None) -> Page:
        """One page of items."""
        stage = self._lookups if filter is None else self._filtered
        return await stage.run(time.monotonic(), None, self._store.page, cursor, limit, filter)

    async def patch(self, id: str, metadata: Mapping[str, Any]) -> StoredItem:
        """Merge into an item's metadata; the item as it is then, item_not_found where there is none."""
        item = await self._writers.run(self._store.patch_metadata, id, metadata)
        if item is None:
            raise _not_found(id)
        return item

    async def delete(self, id: str) -> None:
        """Remove an item; item_not_found where there is none."""
        if not await self.delete_many([id]):
            raise _not_found(id)

    async def delete_many(self, ids: Sequence[str]) -> list[str]:
        """Remove items; the ids of those that there were."""
        existed = await self._writers.run(self._store.delete, ids)
        return list(itertools.compress(ids, existed))

    async def count(self, filter: Filter | None) -> int:
        """The number of items, or of those that meet a filter."""
        if filter is None:
            return self._store.count()
        return await self._filtered.run(time.monotonic(), None, self._store.count, filter)

    async def near_duplicates(self, wanted: NearDuplicates, cursor: str | None) -> DuplicatesPage:
        """One page of pairs of items that are near to each other."""
        with self._embedder.activity:
            return await self._duplicates.run(time.monotonic(), None, wanted.find, self._store, cursor)

    async def delete_matching(self, filter: Filter, limit: int) -> list[str]:
        """Remove at most `limit` items that meet a filter; their ids."""
        return await self._writers.run(self._store.delete_matching, filter, limit)

    def _image(self, id: str) -> StoredImage:
        image = self._store.image(id)
        if image is None:
            raise _no_image(id)
        return image

    def _query(self, vector: Vector, width: str, space: str) -> Query:
        (brought,), space = self.bring(vector[None], width, space)
        return Query(brought, width, space)

    def _query_vectors(self, sent: Sequence[ClientVector]) -> list[Query | Problem]:
        """`query_vector` of each, those of one origin together."""
        by_origin = defaultdict[tuple[str, str], list[int]](list)
        for number, one in enumerate(sent):
            by_origin[one.width, one.space].append(number)
        queries = dict[int, Query | Problem]()
        for (width, space), numbers in by_origin.items():
            found = self._queries_of(width, space, [sent[number].values for number in numbers])
            queries.update(zip(numbers, found, strict=True))
        return [queries[number] for number in range(len(sent))]

    def _queries_of(self, width: str, space: str, sent: Sequence[Sequence[float] | str]) -> list[Query | Problem]:
        try:
            self.check_origin(width, space)
        except Problem as problem:
            return [problem.with_traceback(None)] * len(sent)
        found = unit_vectors(sent, self._embedder.manifest.dimension)
        unit = [one for one in found if not isinstance(one, Problem)]
        if not unit:
            return [one for one in found if isinstance(one, Problem)]
        brought, space = self.bring(np.stack(unit), width, space)
        rows = iter(brought)
        return [one if isinstance(one, Problem) else Query(next(rows), width, space) for one in found]

    def _filtered_hits(
        self, vector: Vector, selection: HitSelection, filter: Filter | None, exact: bool
    ) -> tuple[list[Hit], bool]:
        """The hits, and whether they are exactly the best ones."""
        certain = True

        def nearest(among: Filter | None, count: int) -> list[Hit]:
            nonlocal certain
            answers, exactly = search_store(
                self._store, vector[None], count, among, exact=exact, with_vectors=selection.vectors
            )
            certain = certain and exactly
            return answers[0]

        if selection.grouping is None:
            return selection.choose(nearest(filter, selection.fetched)), certain
        return grouped_hits(nearest, selection, selection.grouping, filter), certain

    def _commit(self, items: Sequence[Item]) -> list[Outcome | Exception]:
        try:
            return list(self._store.upsert(items))
        except InvalidInputError:  # some are refused; which, is seldom asked
            errors = self._store.check(items)
        accepted = [item for item, error in zip(items, errors, strict=True) if error is None]
        outcomes = iter(self._store.upsert(accepted))
        return [error or next(outcomes) for error in errors]


def _rendered(render: Callable[[list[Hit]], T], hits: list[Hit], exact: bool) -> tuple[T, bool]:
    return render(hits), exact


def _item_of_vector(new: NewItem, query: Query) -> Item:
    return Item(new.id, query.space, query.width, query.vector, new.metadata)


def _embedded_query(embedded: EmbeddedImage) -> Query:
    return Query(embedded.vector, embedded.width, embedded.manifest.space, embedded)


def _no_image(id: str) -> Problem:
    return Problem("item_not_found", f"id: no item {id[:100]!r} with an image is in the gallery", "id")


def _not_found(id: str) -> Problem:
    return Problem("item_not_found", f"id: no item {id[:100]!r} is in the gallery", "id")
