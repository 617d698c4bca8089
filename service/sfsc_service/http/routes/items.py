"""/items: the gallery's items, one at a time and page by page."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, FastAPI, Path, Request, Response

from sfsc_service.gallery.gallery import NewItem
from sfsc_service.http.access import needs
from sfsc_service.http.arrival import arrival_of
from sfsc_service.http.audit import AuditedWrite, audited_item, log_write
from sfsc_service.http.auth import caller_of, check_scope
from sfsc_service.http.collection import collection_of, gallery_of
from sfsc_service.http.disconnect import DisconnectWatch
from sfsc_service.http.openapi import image_content, image_request, json_request, problems, query_parameters
from sfsc_service.http.query_source import budget_of, caller_vector, crop_of, require_one
from sfsc_service.http.request_body import (
    media_type,
    query_options,
    read_json_body,
    read_options,
    read_request,
    unsupported_media_type,
    validate,
)
from sfsc_service.http.response_schemas import (
    CountResponse,
    DeletedResponse,
    ItemPageResponse,
    ItemResponse,
    PutResponse,
)
from sfsc_service.http.responses import item_json, json_response, query_json, server_timing, timing
from sfsc_service.http.schemas import (
    CountOptions,
    DeleteItemsOptions,
    GetItemOptions,
    ImageOptions,
    ItemBody,
    ItemId,
    ItemOptions,
    ItemPatch,
    ListItemsOptions,
)

__all__ = ["add_routes"]

MERGE_PATCH = "application/merge-patch+json"
Id = Annotated[ItemId, Path(description="1 to 256 characters; percent-encoded, slashes too")]


def add_routes(app: FastAPI | APIRouter) -> None:
    """Add the routes to an application."""
    _add_routes_of_one(app)
    _add_routes_of_many(app)


def _add_routes_of_one(app: FastAPI | APIRouter) -> None:
    app.add_api_route(
        "/items/{id}",
        _put,
        methods=["PUT"],
        tags=["gallery"],
        summary="Insert or replace an item",
        response_model=None,
        responses={200: {"model": PutResponse}, **problems(400, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra=image_request(ItemOptions, ItemBody),
    )
    app.add_api_route(
        "/items/{id}",
        _get,
        methods=["GET"],
        tags=["gallery"],
        summary="One item",
        response_model=None,
        responses={200: {"model": ItemResponse}, **problems(404, 422, 429, 503)},
        openapi_extra=query_parameters(GetItemOptions),
    )
    app.add_api_route(
        "/items/{id}",
        _patch,
        methods=["PATCH"],
        tags=["gallery"],
        summary="Change the metadata of an item",
        response_model=None,
        responses={200: {"model": ItemResponse}, **problems(400, 404, 413, 415, 422, 429, 503)},
        openapi_extra=json_request(ItemPatch, MERGE_PATCH),
    )
    app.add_api_route(
        "/items/{id}",
        _delete,
        methods=["DELETE"],
        status_code=204,
        tags=["gallery"],
        summary="Remove an item",
        response_model=None,
        responses=problems(404, 422, 429, 503),
    )
    app.add_api_route(
        "/items/{id}/image",
        _image,
        methods=["GET"],
        tags=["gallery"],
        summary="An item's image, as it came or as a small JPEG",
        response_model=None,
        responses={
            200: image_content(),
            304: {"description": "The image still has the ETag of If-None-Match"},
            **problems(404, 413, 422, 429, 503),
        },
        openapi_extra=query_parameters(ImageOptions),
    )


def _add_routes_of_many(app: FastAPI | APIRouter) -> None:
    app.add_api_route(
        "/items",
        _delete_items,
        methods=["DELETE"],
        tags=["gallery"],
        summary="Remove items by a filter or by their ids",
        response_model=None,
        responses={200: {"model": DeletedResponse}, **problems(400, 413, 415, 422, 429, 503)},
        openapi_extra=query_parameters(DeleteItemsOptions) | json_request(DeleteItemsOptions, required=False),
    )
    app.add_api_route(
        "/items:count",
        _count,
        methods=["GET"],
        tags=["gallery"],
        summary="How many items meet a filter",
        response_model=None,
        responses={200: {"model": CountResponse}, **problems(422, 429, 503)},
        openapi_extra=query_parameters(CountOptions),
    )
    app.add_api_route(
        "/items",
        _page,
        methods=["GET"],
        tags=["gallery"],
        summary="Items by id, a page at a time",
        response_model=None,
        responses={200: {"model": ItemPageResponse}, **problems(422, 429, 503)},
        openapi_extra=query_parameters(ListItemsOptions),
    )


@needs("write")
async def _put(request: Request, id: Id) -> Response:
    with AuditedWrite(request, "put", audited_item(request, id)) as write:
        parsed = await read_request(request, ItemOptions)
        arrival = arrival_of(request)
        caller_of(request).count_images(len(parsed.images))
        options = parsed.options
        if require_one(image=bool(parsed.images), vector=options.vector is not None) == "image":
            new = NewItem(id, parsed.images[0], budget_of(options), options.metadata, crop_of(options))
        else:
            new = NewItem(id, caller_vector(options), metadata=options.metadata)
        async with DisconnectWatch(request):
            stored = await gallery_of(request).upsert(new, arrival)
        write.outcome = "created" if stored.created else "replaced"
    embedded = [] if stored.query.embedded is None else [stored.query.embedded]
    times = timing(arrival, embedded)
    return json_response(
        {
            "id": stored.id,
            **query_json(stored.query, arrival),
            "created": stored.created,
            "timing_ms": times,
        },
        headers=server_timing(times, embedded),
    )


@needs("read")
async def _get(request: Request, id: Id) -> Response:
    options = validate(GetItemOptions, query_options(request))
    item = await gallery_of(request).get(id)
    return json_response(item_json(item, collection_of(request), options.encoding if options.vectors else None))


@needs("write")
async def _patch(request: Request, id: Id) -> Response:
    with AuditedWrite(request, "patch", audited_item(request, id)) as write:
        check_scope(caller_of(request), "read", "the response is the item")
        if (kind := media_type(request)) not in (MERGE_PATCH, "application/json"):
            raise unsupported_media_type(kind, f"{MERGE_PATCH} or application/json")
        patch = await read_json_body(request, partial(validate, ItemPatch))
        item = await gallery_of(request).patch(id, patch.metadata)
        write.outcome = "replaced"
    return json_response(item_json(item, collection_of(request), None))


@needs("write")
async def _delete(request: Request, id: Id) -> Response:
    with AuditedWrite(request, "delete", audited_item(request, id)) as write:
        await gallery_of(request).delete(id)
        write.outcome = "removed"
    return Response(status_code=204)


@needs("write")
async def _delete_items(request: Request) -> Response:
    options = await read_options(request, DeleteItemsOptions)
    gallery = gallery_of(request)
    require_one(filter=options.filter is not None, ids=options.ids is not None)
    if options.filter is not None:
        removed, missing = await gallery.delete_matching(options.filter, options.limit), []
    else:
        removed = await gallery.delete_many(options.ids or [])
        there = set(removed)
        missing = [one for one in dict.fromkeys(options.ids or []) if one not in there]
    for item_id in removed:
        log_write(request, "delete", item_id, "removed")
    remaining = 0 if options.filter is None else await gallery.count(options.filter)
    return json_response({"removed": len(removed), "remaining": remaining, "missing": missing})


@needs("read")
async def _count(request: Request) -> Response:
    options = validate(CountOptions, query_options(request))
    return json_response({"count": await gallery_of(request).count(options.filter)})


@needs("read")
async def _image(request: Request, id: Id) -> Response:
    side = validate(ImageOptions, query_options(request)).preview
    gallery = gallery_of(request)
    known = request.headers.get("if-none-match")
    if known is not None:
        headers = _image_headers(await gallery.image_digest(id), side)
        if known == headers["ETag"]:
            return Response(status_code=304, headers=headers)
    if side is None:
        image = await gallery.image(id)
        return Response(image.data, headers=_image_headers(image.digest, side), media_type=image.media_type)
    caller_of(request).count_images(1)
    async with DisconnectWatch(request):
        preview, digest = await gallery.preview(id, side)
    return Response(preview, headers=_image_headers(digest, side), media_type="image/jpeg")


def _image_headers(digest: str, side: int | None) -> dict[str, str]:
    return {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "ETag": f'"{digest}"' if side is None else f'"{digest}-{side}"',
    }


@needs("read")
async def _page(request: Request) -> Response:
    options = validate(ListItemsOptions, query_options(request))
    page = await gallery_of(request).page(options.cursor, options.limit, options.filter)
    encoding = options.encoding if options.vectors else None
    items = [item_json(item, collection_of(request), encoding) for item in page.items]
    return json_response({"items": items, "next": page.cursor})
