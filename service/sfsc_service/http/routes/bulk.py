"""POST /items: many items in one request, each with an outcome of its own.

multipart   parts `image`, and for the n-th of them the n-th field `id` (or the part's file name), the n-th
            field `metadata` and the n-th field `crop`; `width` and the other limits hold for all
NDJSON      one JSON object per line: `id`, `image` (base64) or `vector`, and the options of PUT /items/{id}
Arrow       a matrix of vectors of one width and space, see arrow_items.py and routes/bulk_vectors.py
"""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from sfsc_service.engine.embedder import Arrival
from sfsc_service.errors import Problem
from sfsc_service.gallery.bulk_insert import FailedItem, upsert_many
from sfsc_service.gallery.bulk_load import BulkCall
from sfsc_service.gallery.gallery import NewItem, UpsertedItem
from sfsc_service.http.access import needs
from sfsc_service.http.arrival import arrival_of
from sfsc_service.http.arrow_items import ARROW
from sfsc_service.http.auth import caller_of
from sfsc_service.http.base64_image import decode_image
from sfsc_service.http.bulk_results import BulkOutcomes, failure_json
from sfsc_service.http.collection import gallery_of
from sfsc_service.http.disconnect import DisconnectWatch, UploadWatch
from sfsc_service.http.form import FilePart, Form
from sfsc_service.http.json_document import Body, read_object
from sfsc_service.http.keys import Caller
from sfsc_service.http.ndjson_body import NDJSON, parsed_lines
from sfsc_service.http.openapi import bulk_request, problems
from sfsc_service.http.query_source import budget_of, caller_vector, crop_of, require_one
from sfsc_service.http.request_body import (
    JSON_OPTIONS,
    check_size,
    max_document_bytes,
    media_type,
    option_texts,
    parsing,
    query_options,
    read_parts,
    text_options,
    unsupported_media_type,
    uploads,
    validate,
)
from sfsc_service.http.response_schemas import BulkResponse
from sfsc_service.http.responses import query_json
from sfsc_service.http.routes.bulk_vectors import put_vectors
from sfsc_service.http.schemas import BulkItem
from sfsc_service.lifecycle.service import Service
from sfsc_service.store.errors import InvalidMetadataError
from sfsc_service.store.protocol import MAX_ID_LENGTH

__all__ = ["add_routes"]

Batches = AsyncIterator[Sequence[NewItem | FailedItem]]

PER_IMAGE = ("metadata", "crop")
"""Fields of a form that stand beside each image."""


def add_routes(app: FastAPI | APIRouter) -> None:
    """Add the route to an application."""
    app.add_api_route(
        "/items",
        _post,
        methods=["POST"],
        tags=["gallery"],
        summary="Insert or replace many items",
        response_model=None,
        responses={200: {"model": BulkResponse}, **problems(400, 413, 415, 422, 429, 503)},
        openapi_extra=bulk_request(),
    )


@needs("write")
async def _post(request: Request) -> Response:
    arrival = arrival_of(request, bulk=True)
    kind = media_type(request)
    common = query_options(request)
    if kind == ARROW:
        return await put_vectors(request, common, arrival)
    if kind not in (*NDJSON, "multipart/form-data"):
        raise unsupported_media_type(kind, f"multipart/form-data, application/x-ndjson or {ARROW}")
    with gallery_of(request).bulk.call() as call:
        if kind in NDJSON:
            async with UploadWatch(request):
                return await _put_all(request, _from_lines(request, common), arrival, call)
        call.admit()  # before the body is read, which holds images for certain
        return await _put_form(request, common, arrival, call)


async def _put_form(request: Request, common: dict[str, Any], arrival: Arrival, call: BulkCall) -> Response:
    service: Service = request.app.state.service
    form = await read_parts(request, service.settings.max_items)
    items = _from_form(request, form, common, service.settings.max_image_bytes)
    async with DisconnectWatch(request):
        return await _put_all(request, items, arrival, call)


async def _put_all(request: Request, batches: Batches, arrival: Arrival, call: BulkCall) -> Response:
    service: Service = request.app.state.service
    begun: list[str | None] = []
    results = BulkOutcomes(request)
    noted = _noted(_admitted(batches, call, results), caller_of(request), begun)
    windows = upsert_many(gallery_of(request), noted, call, lambda: not service.health.draining)
    try:
        async for outcomes in windows:
            await results.add(map(_result, outcomes))
    except BaseException:
        results.log_unknown(begun[results.count :])  # of which the last ones may be stored all the same
        raise
    return results.response(arrival)


async def _admitted(batches: Batches, call: BulkCall, results: BulkOutcomes) -> Batches:
    """The items; the call is admitted at its first image, if it has stored nothing by then.

    Raises:
        Problem: bulk_full.
    """
    async for batch in batches:
        if any(isinstance(item, NewItem) and isinstance(item.source, bytes) for item in batch):
            call.admit(begun=results.count > 0)
        yield batch


async def _noted(batches: Batches, caller: Caller, begun: list[str | None]) -> Batches:
    """The items, their ids noted and their images counted as they pass."""
    async for batch in batches:
        begun += [item.id for item in batch]
        for item in batch:
            if isinstance(item, NewItem) and isinstance(item.source, bytes):
                caller.count_images(1)
        yield batch


def _result(outcome: UpsertedItem | FailedItem) -> dict[str, Any]:
    if isinstance(outcome, UpsertedItem):
        width = query_json(outcome.query, outcome.arrival)
        return {"id": outcome.id, "status": 200, **width, "created": outcome.created}
    return failure_json(outcome.id, outcome.error)


async def _from_lines(request: Request, common: dict[str, Any]) -> Batches:
    """The items of an NDJSON body; a body that cannot be read to its end has a failure as its last outcome."""
    max_bytes, max_document = request.app.state.settings.max_image_bytes, max_document_bytes(request)
    parse = partial(_item_of_line, common=common, max_document=max_document, max_bytes=max_bytes)
    async for batch in parsed_lines(request, parse, "items"):
        yield [FailedItem(None, item) if isinstance(item, Problem) else item for item in batch]


def _item_of_line(line: Body, common: dict[str, Any], max_document: int, max_bytes: int) -> NewItem | FailedItem:
    item_id, text_bytes = None, len(line)
    try:
        fields = {**common, **read_object(line, max_document)}
        item_id = _reported_id(fields.get("id"))
        encoded = fields.pop("image", None)
        image = None if encoded is None else decode_image(encoded, "image")
        text_bytes -= 0 if encoded is None else len(encoded)
        return _new_item(validate(BulkItem, fields), image, max_bytes, text_bytes)
    except (Problem, InvalidMetadataError) as error:
        return FailedItem(item_id, error, text_bytes)


async def _from_form(request: Request, form: Form, common: dict[str, Any], max_bytes: int) -> Batches:
    """The items of a form; fields that belong to no item fail the whole request, before an item is stored."""
    parts = uploads(form, "image")
    options = option_texts(form, max_document_bytes(request))
    ids = _per_image(options, "id", len(parts)) or [part.filename for part in parts]
    own = {name: values for name in PER_IMAGE if (values := _per_image(options, name, len(parts)))}
    shared = [(name, text) for name, text in options if name not in ("id", *PER_IMAGE)]
    size = sum(len(text) for name, text in shared if name in JSON_OPTIONS)
    common = {**common, **await parsing(request).run(size, text_options, shared)}
    validate(BulkItem, {**common, "id": "any"})
    if not parts:
        raise Problem("invalid_parameter", "image: is required, found none", "image")
    for at, (part, item_id) in enumerate(zip(parts, ids, strict=True)):
        texts = [(name, values[at]) for name, values in own.items()]
        size = sum(len(text) for _, text in texts)
        yield [await parsing(request).run(size, _item_of_part, part, item_id, texts, common, max_bytes)]


def _item_of_part(
    part: FilePart, id: str, texts: list[tuple[str, str]], common: dict[str, Any], max_bytes: int
) -> NewItem | FailedItem:
    try:
        fields = {**common, **text_options(texts), "id": id}
        check_size(part.size, max_bytes)
        return _new_item(validate(BulkItem, fields), part.data, max_bytes, sum(len(text) for _, text in texts))
    except (Problem, InvalidMetadataError) as error:
        return FailedItem(_reported_id(id), error)


def _new_item(options: BulkItem, image: bytes | None, max_bytes: int, text_bytes: int) -> NewItem:
    if require_one(image=image is not None, vector=options.vector is not None) == "vector":
        return NewItem(options.id, caller_vector(options), metadata=options.metadata, text_bytes=text_bytes)
    assert image is not None
    check_size(len(image), max_bytes)
    return NewItem(options.id, image, budget_of(options), options.metadata, crop_of(options), text_bytes)


def _per_image(options: list[tuple[str, str]], name: str, images: int) -> list[str]:
    values = [text for found, text in options if found == name]
    if values and len(values) != images:
        raise Problem(
            "invalid_parameter", f"{name}: must be given once per image ({images}), found {len(values)}", name
        )
    return values


def _reported_id(value: object) -> str | None:
    """The id that an outcome is reported under, None where the value is no id at all."""
    return value if isinstance(value, str) and len(value) <= MAX_ID_LENGTH else None
