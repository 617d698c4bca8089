"""POST /items with an Arrow stream: vectors of one width and space go to the store without an object for each.

`width` and `space` are query parameters and hold for all items of the call.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import Request, Response

from sfsc_service.engine.embedder import Arrival
from sfsc_service.errors import Problem
from sfsc_service.gallery.gallery import ClientVector, Gallery
from sfsc_service.gallery.vectors import unit_rows, unit_vector
from sfsc_service.http.arrow_items import ArrowItems, read_arrow
from sfsc_service.http.bulk_results import BulkOutcomes, failure_json
from sfsc_service.http.collection import gallery_of
from sfsc_service.http.disconnect import DisconnectWatch
from sfsc_service.http.json_document import read_object
from sfsc_service.http.query_source import caller_vector
from sfsc_service.http.request_body import max_document_bytes, parsing, validate
from sfsc_service.http.schemas import VectorOptions
from sfsc_service.lifecycle.service import Service
from sfsc_service.store.errors import InvalidMetadataError, StoreError
from sfsc_service.store.protocol import NO_METADATA, Item, MetadataJson, Outcome
from sfsc_service.store.validation import metadata_json

__all__ = ["put_vectors"]

_COMMITTED_AT_ONCE = 2_000


async def put_vectors(request: Request, common: dict[str, Any], arrival: Arrival) -> Response:
    """Store the items of a body; each has an outcome. Raises Problem before any is stored."""
    service: Service = request.app.state.service
    origin = caller_vector(validate(VectorOptions, {**common, "vector": [1.0]}))
    gallery_of(request).check_origin(origin.width, origin.space)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    limits = (service.manifest.dimension, service.settings.max_items)
    found = await parsing(request).run(len(body), read_arrow, body, *limits)
    results = BulkOutcomes(request)
    async with DisconnectWatch(request):
        for part in _parts(found):
            max_bytes = max_document_bytes(request)
            size = sum(len(text or "") for text in part.metadata)
            prepared = await parsing(request).run(size, _prepare, gallery_of(request), part, origin, max_bytes)
            await _store(request, service, prepared, results)
    return results.response(arrival)


def _parts(items: ArrowItems) -> Iterator[ArrowItems]:
    for first in range(0, len(items.ids), _COMMITTED_AT_ONCE):
        rows = slice(first, first + _COMMITTED_AT_ONCE)
        yield ArrowItems(items.ids[rows], items.vectors[rows], items.metadata[rows])


def _prepare(
    gallery: Gallery, part: ArrowItems, origin: ClientVector, max_bytes: int
) -> list[Item | dict[str, Any]]:
    """The items that can be stored, and the outcomes of the others.

    An error is not kept: with its traceback and this frame it would be a cycle, and with thousands of them
    Python's collector of cycles would stop everything for 100 ms.
    """
    unit, bad = unit_rows(part.vectors)
    vectors, space = gallery.bring(unit, origin.width, origin.space)
    prepared = list[Item | dict[str, Any]]()
    for row, (item_id, text) in enumerate(zip(part.ids, part.metadata, strict=True)):
        try:
            if item_id is None:
                raise Problem("invalid_parameter", "id: must be text, found null", "id")
            if bad[row]:
                unit_vector(part.vectors[row].tolist(), part.vectors.shape[1])  # says what is wrong
            metadata = NO_METADATA if text is None else _metadata(text, max_bytes)
            prepared.append(Item(item_id, space, origin.width, vectors[row], metadata))
        except (Problem, InvalidMetadataError) as error:
            prepared.append(failure_json(item_id, error))
    return prepared


def _metadata(text: str, max_bytes: int) -> MetadataJson:
    try:
        return metadata_json(read_object(text.encode(), max_bytes))
    except Problem as problem:
        raise Problem("metadata_invalid", f"metadata: {problem.detail}", "metadata") from None


async def _store(
    request: Request, service: Service, prepared: list[Item | dict[str, Any]], results: BulkOutcomes
) -> None:
    items = [entry for entry in prepared if isinstance(entry, Item)]
    try:
        outcomes = iter(await _commit(request, service, items))
    except BaseException:
        results.log_unknown(item.id for item in items)
        raise
    await results.add(_result(entry, next(outcomes)) if isinstance(entry, Item) else entry for entry in prepared)


async def _commit(request: Request, service: Service, items: list[Item]) -> list[Outcome | Exception]:
    if service.health.draining:
        return [Problem("shutting_down", "the service is shutting down and takes no further items")] * len(items)
    try:
        return await gallery_of(request).commit(items) if items else []
    except (Problem, StoreError) as error:
        return [error] * len(items)


def _result(item: Item, outcome: Outcome | Exception) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return failure_json(item.id, outcome)
    return {
        "id": item.id,
        "status": 200,
        "width": item.width,
        "reason": "requested",
        "budget_met": True,
        "created": outcome is Outcome.CREATED,
    }
