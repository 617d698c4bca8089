"""POST /embed: images in, vectors out."""

from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response

from sfsc_service.engine.embedder import Arrival, EmbeddedImage
from sfsc_service.errors import Problem
from sfsc_service.gallery.vectors import encode_vector
from sfsc_service.http.access import needs
from sfsc_service.http.arrival import arrival_of
from sfsc_service.http.auth import caller_of
from sfsc_service.http.disconnect import DisconnectWatch
from sfsc_service.http.embed_images import embed_images
from sfsc_service.http.openapi import image_request, problems
from sfsc_service.http.query_source import budget_of, crop_of
from sfsc_service.http.request_body import read_request
from sfsc_service.http.response_schemas import EmbedResponse
from sfsc_service.http.responses import json_response, server_timing, timing
from sfsc_service.http.schemas import EmbedBody, EmbedOptions
from sfsc_service.lifecycle.service import Service

__all__ = ["add_routes"]


def add_routes(app: FastAPI) -> None:
    """Add the route to an application."""
    app.add_api_route(
        "/embed",
        _embed,
        methods=["POST"],
        tags=["search"],
        summary="Embed one image or several",
        response_model=None,
        responses={200: {"model": EmbedResponse}, **problems(400, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra=image_request(EmbedOptions, EmbedBody, many=True),
    )


@needs("read")
async def _embed(request: Request) -> Response:
    service: Service = request.app.state.service
    parsed = await read_request(request, EmbedOptions, service.settings.max_images)
    arrival = arrival_of(request)
    if not parsed.images:
        raise Problem("invalid_parameter", "image: is required, found none", "image")
    caller_of(request).count_images(len(parsed.images))
    if len(parsed.images) > 1:
        arrival = replace(arrival, bulk=True)  # requests with one image go first
    places = ["image"] if len(parsed.images) == 1 else [f"image[{at}]" for at in range(len(parsed.images))]
    async with DisconnectWatch(request):
        embedded = await embed_images(
            service.embedder, parsed.images, places, budget_of(parsed.options), crop_of(parsed.options), arrival
        )
    manifest, times = embedded[0].manifest, timing(arrival, embedded)
    return json_response(
        {
            "model": manifest.name,
            "space": manifest.space,
            "dim": manifest.dimension,
            "results": [_result(one, parsed.options.encoding, arrival) for one in embedded],
            "timing_ms": times,
        },
        headers=server_timing(times, embedded),
    )


def _result(embedded: EmbeddedImage, encoding: str, arrival: Arrival) -> dict[str, Any]:
    return {
        "embedding": encode_vector(embedded.vector, encoding),
        "width": embedded.width,
        "reason": embedded.reason,
        "budget_met": embedded.budget_met(arrival),
    }
