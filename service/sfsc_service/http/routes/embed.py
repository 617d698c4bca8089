"""POST /embed: images in, vectors out."""

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response

from sfsc_bundle.crop import Crop
from sfsc_bundle.errors import ImageError
from sfsc_service.engine.embedder import Arrival, EmbeddedImage
from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem
from sfsc_service.gallery.vectors import encode_vector
from sfsc_service.http.arrival import arrival_of
from sfsc_service.http.disconnect import DisconnectWatch
from sfsc_service.http.openapi import image_request, problems
from sfsc_service.http.problems import free_traceback_locals, image_problem
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


async def _embed(request: Request) -> Response:
    arrival = arrival_of(request)
    service: Service = request.app.state.service
    parsed = await read_request(request, EmbedOptions, service.settings.max_images)
    if not parsed.images:
        raise Problem("invalid_parameter", "image: is required, found none", "image")
    if len(parsed.images) > 1:
        arrival = replace(arrival, bulk=True)  # requests with one image go first
    async with DisconnectWatch(request):
        embedded = await _embed_all(service, parsed.images, parsed.options, arrival)
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


async def _embed_all(
    service: Service, images: list[bytes], options: EmbedOptions, arrival: Arrival
) -> list[EmbeddedImage]:
    budget, crop = budget_of(options), crop_of(options)
    if len(images) == 1:
        return [await service.embedder.embed(images[0], budget, arrival, crop=crop)]
    try:
        # The tasks start one right after the other, so a swap of bundles cannot come between two of them.
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_embed_one(service, image, at, budget, crop, arrival))
                for at, image in enumerate(images)
            ]
    except ExceptionGroup as failures:
        free_traceback_locals(failures)
        failure = failures.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise failure  # outside of the except block, which would set its context


async def _embed_one(
    service: Service, image: bytes, at: int, budget: Budget, crop: Crop | None, arrival: Arrival
) -> EmbeddedImage:
    try:
        return await service.embedder.embed(image, budget, arrival, crop=crop)
    except ImageError as error:
        raise image_problem(error, f"image[{at}]") from error


def _result(embedded: EmbeddedImage, encoding: str, arrival: Arrival) -> dict[str, Any]:
    return {
        "embedding": encode_vector(embedded.vector, encoding),
        "width": embedded.width,
        "reason": embedded.reason,
        "budget_met": embedded.budget_met(arrival),
    }
