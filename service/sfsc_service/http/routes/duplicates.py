"""POST /search/duplicates: pairs of items that are near to each other."""

from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response

from sfsc_service.gallery.hit_selection import cosine
from sfsc_service.gallery.near_duplicates import NearDuplicates, Pair
from sfsc_service.http.access import needs
from sfsc_service.http.arrival import arrival_of
from sfsc_service.http.collection import collection_of, gallery_of
from sfsc_service.http.disconnect import DisconnectWatch
from sfsc_service.http.openapi import json_request, problems, query_parameters
from sfsc_service.http.request_body import read_options
from sfsc_service.http.response_schemas import DuplicatesResponse
from sfsc_service.http.responses import image_link, json_response, timing
from sfsc_service.http.schemas import DuplicatesOptions

__all__ = ["add_routes"]


def add_routes(app: FastAPI | APIRouter) -> None:
    """Add the route to an application."""
    app.add_api_route(
        "/search/duplicates",
        _duplicates,
        methods=["POST"],
        tags=["search"],
        summary="Pairs of items that are near to each other, a page at a time",
        response_model=None,
        responses={200: {"model": DuplicatesResponse}, **problems(400, 413, 415, 422, 429, 503)},
        openapi_extra=query_parameters(DuplicatesOptions) | json_request(DuplicatesOptions, required=False),
    )


@needs("read")
async def _duplicates(request: Request) -> Response:
    arrival = arrival_of(request)
    options = await read_options(request, DuplicatesOptions)
    collection, gallery = collection_of(request), gallery_of(request)
    wanted = NearDuplicates(options.min_score, options.limit, options.filter, options.exact)
    async with DisconnectWatch(request):
        page = await gallery.near_duplicates(wanted, options.cursor)
    return json_response(
        {
            "pairs": [_pair_json(pair, collection) for pair in page.pairs],
            "next": page.cursor,
            "compared": page.compared,
            "exact": page.exact,
            "truncated": page.truncated,
            "timing_ms": timing(arrival, []),
        }
    )


def _pair_json(pair: Pair, collection: str) -> dict[str, Any]:
    first, second = pair
    links = [image_link(one.id, collection) if one.image_digest else None for one in pair]
    return {
        "score": cosine(second.score),
        "items": [
            _item_json(first.id, first.width, first.metadata, links[0]),
            _item_json(second.id, second.width, orjson.Fragment(second.metadata_json), links[1]),
        ],
    }


def _item_json(id: str, width: str, metadata: Any, image: str | None) -> dict[str, Any]:
    return {"id": id, "width": width, "metadata": metadata, "image": image}
