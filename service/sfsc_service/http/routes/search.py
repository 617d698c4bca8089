"""POST /search: an image, a vector or an item's id in; hits of every width out."""

from functools import partial

import orjson
from fastapi import FastAPI, Request, Response

from sfsc_service.engine.embedder import Arrival
from sfsc_service.errors import Problem
from sfsc_service.gallery.gallery import Query
from sfsc_service.gallery.grouped_search import MAX_GROUPS
from sfsc_service.gallery.hit_selection import Grouping, HitSelection
from sfsc_service.http.access import needs
from sfsc_service.http.arrival import arrival_of
from sfsc_service.http.auth import caller_of
from sfsc_service.http.disconnect import DisconnectWatch
from sfsc_service.http.openapi import image_request, problems
from sfsc_service.http.query_source import budget_of, caller_vector, crop_of, refuse_budget, require_one
from sfsc_service.http.request_body import ParsedRequest, read_request
from sfsc_service.http.response_schemas import SearchResponse
from sfsc_service.http.responses import hits_json, json_response, query_json, server_timing, timing
from sfsc_service.http.schemas import SearchBody, SearchOptions
from sfsc_service.lifecycle.service import Service
from sfsc_service.store.filters.operands import read_field
from sfsc_service.store.protocol import MAX_PAGE

__all__ = ["add_routes"]


def add_routes(app: FastAPI) -> None:
    """Add the route to an application."""
    app.add_api_route(
        "/search",
        _search,
        methods=["POST"],
        tags=["search"],
        summary="Search the gallery with an image, a vector or an item",
        response_model=None,
        responses={200: {"model": SearchResponse}, **problems(400, 404, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra=image_request(SearchOptions, SearchBody),
    )


@needs("read")
async def _search(request: Request) -> Response:
    arrival = arrival_of(request)
    service: Service = request.app.state.service
    parsed = await read_request(request, SearchOptions)
    caller_of(request).count_images(len(parsed.images))
    options = parsed.options
    selection = _selection(options, service.settings.max_k)
    async with DisconnectWatch(request):
        query = await _query(service, parsed, arrival)
        render = partial(hits_json, encoding=options.encoding, grouping=selection.grouping)
        found = await service.gallery.search(
            query, selection, options.filter, render, arrival, exact=options.exact
        )
    embedded = [] if query.embedded is None else [query.embedded]
    times = timing(arrival, embedded, search=found.took_ms)
    return json_response(
        {
            "query": query_json(query, arrival),
            "hits": orjson.Fragment(found.answer),
            "exact": found.exact,
            "timing_ms": times,
        },
        headers=server_timing(times, embedded),
    )


async def _query(service: Service, parsed: ParsedRequest[SearchOptions], arrival: Arrival) -> Query:
    options = parsed.options
    source = require_one(image=bool(parsed.images), vector=options.vector is not None, id=options.id is not None)
    if source == "image":
        return await service.gallery.query_image(
            parsed.images[0],
            crop_of(options),
            budget_of(options),
            arrival,
            filtered=options.filter is not None or options.group_by is not None,
        )
    if source == "vector":
        return service.gallery.query_vector(caller_vector(options))
    refuse_budget(options, "id")
    assert options.id is not None
    return await service.gallery.query_item(options.id)


def _selection(options: SearchOptions, max_k: int) -> HitSelection:
    """Which hits are wanted. Raises Problem or InvalidFilterError where they are too many or cannot be grouped."""
    _check_bound("k", options.k, max_k, "here")
    _check_bound("offset", options.offset + options.k, max_k, "here together with k")
    grouping = _grouping(options)
    if grouping is not None:
        most = min(MAX_GROUPS, max_k // grouping.size)
        _check_bound("k", options.offset + options.k, most, f"with offset, in groups of {grouping.size}")
    if options.vectors:
        _check_bound("k", options.k * options.group_size, MAX_PAGE, "hits where they have vectors")
    itself = [] if options.id is None or options.include_self else [options.id]
    excluded = frozenset([*options.exclude, *itself])
    return HitSelection(options.k, options.offset, options.min_score, excluded, options.vectors, grouping)


def _grouping(options: SearchOptions) -> Grouping | None:
    name, size = options.group_by, options.group_size
    if name is None:
        if size != 1:
            detail = f"group_size: must be set with group_by only, found {size}"
            raise Problem("invalid_parameter", detail, "group_size")
        return None
    if name.startswith("$"):
        detail = f"group_by: must be a field of the metadata, found {name[:80]!r}"
        raise Problem("invalid_parameter", detail, "group_by")
    return Grouping(name, read_field(name, "group_by").path, size)


def _check_bound(parameter: str, found: int, most: int, where: str) -> None:
    if found > most:
        raise Problem(
            "invalid_parameter", f"{parameter}: must be at most {most} {where}, found {found}", parameter
        )
