"""POST /search: images, vectors or items' ids in; hits of every width out."""

from fastapi import APIRouter, FastAPI, Request, Response

from sfsc_service.http.access import needs
from sfsc_service.http.arrival import arrival_of
from sfsc_service.http.auth import caller_of
from sfsc_service.http.collection import collection_of, gallery_of
from sfsc_service.http.disconnect import DisconnectWatch
from sfsc_service.http.ndjson_body import NDJSON
from sfsc_service.http.openapi import image_request, lines_content, problems
from sfsc_service.http.request_body import media_type, read_request
from sfsc_service.http.response_schemas import SearchesResponse, SearchResponse
from sfsc_service.http.responses import pieces_response, server_timing, timing
from sfsc_service.http.routes.search_many import search_many
from sfsc_service.http.schemas import SearchBody, SearchOptions
from sfsc_service.http.search_request import SearchRequest, answer_json

__all__ = ["add_routes"]


def add_routes(app: FastAPI | APIRouter) -> None:
    """Add the route to an application."""
    app.add_api_route(
        "/search",
        _search,
        methods=["POST"],
        tags=["search"],
        summary="Search the gallery with an image, a vector or an item, or with many of them",
        response_model=None,
        responses={
            200: {"model": SearchResponse | SearchesResponse},
            **problems(400, 404, 413, 415, 422, 429, 500, 503, 504),
        },
        openapi_extra=image_request(SearchOptions, SearchBody, further=lines_content(SearchBody)),
    )


@needs("read")
async def _search(request: Request) -> Response:
    gallery, settings = gallery_of(request), request.app.state.service.settings
    if media_type(request) in NDJSON:
        return await search_many(request, arrival_of(request))
    parsed = await read_request(request, SearchOptions, others=NDJSON[:1])
    arrival = arrival_of(request)
    caller_of(request).count_images(len(parsed.images))
    search = SearchRequest(parsed.options, next(iter(parsed.images), None), settings.max_k)
    async with DisconnectWatch(request):
        query, found = await search.run(gallery, collection_of(request), arrival)
    embedded = [] if query.embedded is None else [query.embedded]
    times = timing(arrival, embedded, search=found.took_ms)
    pieces = answer_json(query, found, arrival, {}, {"timing_ms": times})
    return pieces_response(pieces, server_timing(times, embedded))
