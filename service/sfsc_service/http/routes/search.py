"""POST /search: an image, a vector or an item's id in, hits of every width out."""

import orjson
from fastapi import FastAPI, Request, Response

from sfsc_service.engine.embedder import Arrival
from sfsc_service.errors import Problem
from sfsc_service.gallery.gallery import Query
from sfsc_service.http.arrival import arrival_of
from sfsc_service.http.disconnect import DisconnectWatch
from sfsc_service.http.openapi import image_call, problems
from sfsc_service.http.query_source import caller_vector, one_source, refuse_budget
from sfsc_service.http.request_body import ParsedCall, read_call
from sfsc_service.http.responses import hits_json, json_response, query_answer, server_timing, timing
from sfsc_service.http.routes.embed import budget_of
from sfsc_service.http.schemas import SearchAnswer, SearchOptions
from sfsc_service.lifecycle.service import Service

__all__ = ["add_search"]


def add_search(app: FastAPI) -> None:
    """Put the route on an app."""
    app.add_api_route(
        "/search",
        _search,
        methods=["POST"],
        tags=["search"],
        summary="Search the gallery with an image, a vector or an item",
        response_model=None,
        responses={200: {"model": SearchAnswer}, **problems(400, 404, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra=image_call(SearchOptions, "SearchCall"),
    )


async def _search(request: Request) -> Response:
    arrival = arrival_of(request)
    service: Service = request.app.state.service
    call = await read_call(request, SearchOptions)
    _check_k(call.options.k, service.settings.max_k)
    async with DisconnectWatch(request):
        query = await _query(service, call, arrival)
        hits, search_ms = await service.gallery.search(query, call.options.k, call.options.filter, hits_json)
    embedded = [] if query.embedded is None else [query.embedded]
    times = timing(arrival, embedded, search=search_ms)
    return json_response(
        {
            "query": query_answer(query, arrival),
            "hits": orjson.Fragment(hits),
            "exact": True,
            "timing_ms": times,
        },
        headers=server_timing(times, embedded),
    )


async def _query(service: Service, call: ParsedCall[SearchOptions], arrival: Arrival) -> Query:
    options = call.options
    source = one_source(image=bool(call.images), vector=options.vector is not None, id=options.id is not None)
    if source == "image":
        return await service.gallery.query_image(call.images[0], budget_of(options), arrival)
    if source == "vector":
        return service.gallery.given(caller_vector(options))
    refuse_budget(options, "id", "width")
    assert options.id is not None
    return await service.gallery.query_item(options.id)


def _check_k(k: int, most: int) -> None:
    if k > most:
        raise Problem("invalid_parameter", f"k: must be at most {most} here, found {k}", "k")
