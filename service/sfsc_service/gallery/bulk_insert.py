"""Bulk insertion: many items through the same queue as single requests, which go first.

One window of items is worked on at a time, as soon as it has so many as the constants below say or more; the rest
is not read from the socket yet. Each item has an outcome of its own, in the order of the call.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sfsc_bundle.errors import ImageError
from sfsc_service.engine.embedder import Arrival
from sfsc_service.errors import Problem
from sfsc_service.gallery.bulk_load import BulkCall, BulkWindow
from sfsc_service.gallery.gallery import Gallery, NewItem, Query, UpsertedItem
from sfsc_service.store.errors import InvalidInputError, StoreError
from sfsc_service.store.protocol import Item, Outcome

__all__ = ["WINDOW_TEXT_BYTES", "FailedItem", "upsert_many"]

WINDOW_IMAGES = 64
WINDOW_BYTES = 32 * 2**20
WINDOW_ITEMS = 1024
"""Vectors need no network, and one transaction for many of them waits for the disk once."""
WINDOW_TEXT_BYTES = 2 * 2**20
"""What waits takes up to four times the bytes of the JSON that it was read from, in numbers of vectors."""


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item that was not stored, with its id if it had one; `text_bytes` as in NewItem."""

    id: str | None
    error: Exception
    text_bytes: int = 0

    def __post_init__(self) -> None:
        """Let go of what an error that was foreseen drags along: the frames that it came through."""
        if isinstance(self.error, Problem | ImageError | InvalidInputError):
            self.error.__traceback__ = self.error.__cause__ = self.error.__context__ = None


async def upsert_many(
    gallery: Gallery,
    batches: AsyncIterator[Sequence[NewItem | FailedItem]],
    call: BulkCall,
    go_on: Callable[[], bool] = lambda: True,
) -> AsyncIterator[list[UpsertedItem | FailedItem]]:
    """Insert or replace the items that come in batches, and give their outcomes, window by window.

    An item that has failed before is passed on. Items that were read when the caller left are counted as dropped.

    `call` has been admitted, or is once there are images.

    Once `go_on` is false, the window under way is finished and all other items are refused, so that the call can
    still be answered before the service ends.
    """
    window: list[NewItem | FailedItem] = []
    images = size = text = 0
    try:
        async for batch in batches:
            if not go_on():
                problem = Problem("shutting_down", "the service is shutting down and takes no further items")
                batch = [FailedItem(item.id, problem) for item in batch]
            window += batch
            encoded = [
                item.source for item in batch if isinstance(item, NewItem) and isinstance(item.source, bytes)
            ]
            images, size = images + len(encoded), size + sum(map(len, encoded))
            text += sum(item.text_bytes for item in batch)
            is_large = size >= WINDOW_BYTES or text >= WINDOW_TEXT_BYTES
            if images >= WINDOW_IMAGES or is_large or len(window) >= WINDOW_ITEMS:
                full, window, images, size, text = window, [], 0, 0, 0
                yield await _upsert_window(gallery, full, call)
    except BaseException as error:
        if _says_that_nobody_waits(error):
            gallery.count_dropped(sum(isinstance(item, NewItem) for item in window))
        raise
    yield await _upsert_window(gallery, window, call)


def _says_that_nobody_waits(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError | GeneratorExit) or (
        isinstance(error, Problem) and error.code == "client_gone"
    )


class _Prepared(NamedTuple):
    query: Query
    item: Item
    arrival: Arrival


async def _upsert_window(
    gallery: Gallery, window: list[NewItem | FailedItem], call: BulkCall
) -> list[UpsertedItem | FailedItem]:
    new = [item for item in window if isinstance(item, NewItem)]
    embedded = iter(await _prepare_images(gallery, [item for item in new if isinstance(item.source, bytes)], call))
    checked = iter(await _prepare_vectors(gallery, [item for item in new if not isinstance(item.source, bytes)]))
    entries = [
        item if isinstance(item, FailedItem) else next(embedded if isinstance(item.source, bytes) else checked)
        for item in window
    ]
    committed = iter(await _commit(gallery, [entry.item for entry in entries if isinstance(entry, _Prepared)]))
    return [entry if isinstance(entry, FailedItem) else _outcome(entry, next(committed)) for entry in entries]


async def _prepare_vectors(gallery: Gallery, vectors: list[NewItem]) -> list[_Prepared | FailedItem]:
    if not vectors:
        return []
    arrival = Arrival.now(bulk=True)
    try:
        prepared = await gallery.prepare_vectors(vectors)
    except Problem as problem:
        return [FailedItem(new.id, problem) for new in vectors]
    return [
        FailedItem(new.id, one) if isinstance(one, Problem) else _Prepared(*one, arrival)
        for new, one in zip(vectors, prepared, strict=True)
    ]


async def _prepare_images(gallery: Gallery, images: list[NewItem], call: BulkCall) -> list[_Prepared | FailedItem]:
    if not images:
        return []
    with call.window(len(images)) as window:
        return await asyncio.gather(*(_prepare(gallery, item, window) for item in images))


async def _prepare(gallery: Gallery, new: NewItem, window: BulkWindow) -> _Prepared | FailedItem:
    async def attempt(gives_up: float) -> _Prepared:
        arrival = Arrival.now(bulk=True, gives_up=gives_up)
        return _Prepared(*await gallery.prepare(new, arrival), arrival)

    try:
        return await window.through(attempt)
    except (Problem, ImageError) as error:
        return FailedItem(new.id, error)


async def _commit(gallery: Gallery, items: list[Item]) -> list[Outcome | Exception]:
    if not items:
        return []
    try:
        return await gallery.commit(items)
    except (Problem, StoreError) as error:
        return [error] * len(items)


def _outcome(entry: _Prepared, outcome: Outcome | Exception) -> UpsertedItem | FailedItem:
    if isinstance(outcome, Exception):
        return FailedItem(entry.item.id, outcome)
    return UpsertedItem(entry.item.id, entry.query, outcome is Outcome.CREATED, entry.arrival)
