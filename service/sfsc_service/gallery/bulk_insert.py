"""Bulk insertion: many items through the same queue as single requests, without being in their way.

A window of items is in the works at a time; the rest waits outside, in the socket. Each item has an outcome of
its own; their order is the order of the call.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from sfsc_bundle.errors import ImageError
from sfsc_service.engine.embedder import Arrival
from sfsc_service.errors import Problem
from sfsc_service.gallery.gallery import Gallery, NewItem, PutResult, Query
from sfsc_service.store.errors import StoreError
from sfsc_service.store.protocol import Item, Outcome

__all__ = ["PutFailure", "put_many"]

WINDOW_ITEMS = 64
WINDOW_BYTES = 32 * 2**20
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class PutFailure:
    """An item that was not stored, with its id where it had one."""

    id: str | None
    error: Exception


async def put_many(
    gallery: Gallery, items: AsyncIterator[NewItem | PutFailure], go_on: Callable[[], bool] = lambda: True
) -> AsyncIterator[PutResult | PutFailure]:
    """Insert or replace; what was already a failure on the way in stays one.

    Once `go_on` is false, windows that have begun are finished and the rest is refused, so that the call can still
    be answered before the service ends.
    """
    window: list[NewItem | PutFailure] = []
    size = 0
    async for item in items:
        if not go_on():
            item = _refused(item)
        window.append(item)
        size += len(item.source) if isinstance(item, NewItem) and isinstance(item.source, bytes) else 0
        if len(window) >= WINDOW_ITEMS or size >= WINDOW_BYTES:
            for outcome in await _put_window(gallery, window):
                yield outcome
            window, size = [], 0
    for outcome in await _put_window(gallery, window):
        yield outcome


def _refused(item: NewItem | PutFailure) -> PutFailure:
    return PutFailure(item.id, Problem("shutting_down", "the service is shutting down and takes no further items"))


@dataclass(frozen=True, slots=True)
class _Prepared:
    query: Query
    item: Item
    arrival: Arrival


async def _put_window(gallery: Gallery, window: list[NewItem | PutFailure]) -> list[PutResult | PutFailure]:
    entries = await asyncio.gather(*(_prepare(gallery, item) for item in window))
    committed = iter(await _commit(gallery, [entry.item for entry in entries if isinstance(entry, _Prepared)]))
    return [entry if isinstance(entry, PutFailure) else _outcome(entry, next(committed)) for entry in entries]


async def _prepare(gallery: Gallery, new: NewItem | PutFailure) -> _Prepared | PutFailure:
    if isinstance(new, PutFailure):
        return new
    for attempt in range(ATTEMPTS):
        arrival = Arrival.now(bulk=True)
        try:
            query, item = await gallery.prepare(new, arrival)
            return _Prepared(query, item, arrival)
        except Problem as problem:
            # Bulk work gives way to single requests for a while before it is refused.
            if problem.kind != "queue_full" or attempt == ATTEMPTS - 1:
                return PutFailure(new.id, problem)
            await asyncio.sleep(min(problem.retry_after_s or 1.0, 5.0))
        except ImageError as error:
            return PutFailure(new.id, error)
    raise AssertionError("unreachable")


async def _commit(gallery: Gallery, items: list[Item]) -> list[Outcome | Exception]:
    if not items:
        return []
    try:
        return await gallery.commit(items)
    except (Problem, StoreError) as error:
        return [error] * len(items)


def _outcome(entry: _Prepared, outcome: Outcome | Exception) -> PutResult | PutFailure:
    if isinstance(outcome, Exception):
        return PutFailure(entry.item.id, outcome)
    return PutResult(entry.item.id, entry.query, outcome is Outcome.CREATED, entry.arrival)
