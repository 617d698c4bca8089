"""POST /embed: images in, vectors out."""

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response

from sfsc_bundle.errors import ImageError
from sfsc_service.engine.embedder import Arrival, EmbeddedImage
from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem
from sfsc_service.gallery.vectors import encode_vector
from sfsc_service.http.arrival import arrival_of
from sfsc_service.http.disconnect import DisconnectWatch
from sfsc_service.http.openapi import image_call, problems
from sfsc_service.http.problems import clear_frames
from sfsc_service.http.request_body import read_call
from sfsc_service.http.responses import json_response, server_timing, timing
from sfsc_service.http.schemas import BudgetOptions, EmbedAnswer, EmbedOptions
from sfsc_service.lifecycle.service import Service

__all__ = ["add_embed", "budget_of"]


def add_embed(app: FastAPI) -> None:
    """Put the route on an app."""
    app.add_api_route(
        "/embed",
        _embed,
        methods=["POST"],
        tags=["search"],
        summary="Embed one image or several",
        response_model=None,
        responses={200: {"model": EmbedAnswer}, **problems(400, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra=image_call(EmbedOptions, "EmbedCall", many=True),
    )


def budget_of(options: BudgetOptions) -> Budget:
    """The budget of a call."""
    return Budget(options.width, options.latency_ms, options.gflops, options.deadline_ms, options.min_quality)


async def _embed(request: Request) -> Response:
    arrival = arrival_of(request)
    service: Service = request.app.state.service
    call = await read_call(request, EmbedOptions, service.settings.max_images)
    if not call.images:
        raise Problem("invalid_parameter", "image: is required, found none", "image")
    budget = budget_of(call.options)
    if len(call.images) > 1:
        arrival = replace(arrival, bulk=True)  # gives way to calls of one image
    async with DisconnectWatch(request):
        embedded = await _all(service, call.images, budget, arrival)
    manifest, times = embedded[0].manifest, timing(arrival, embedded)
    return json_response(
        {
            "model": manifest.name,
            "space": manifest.space,
            "dim": manifest.dimension,
            "results": [_result(one, call.options.encoding, arrival) for one in embedded],
            "timing_ms": times,
        },
        headers=server_timing(times, embedded),
    )


async def _all(service: Service, images: list[bytes], budget: Budget, arrival: Arrival) -> list[EmbeddedImage]:
    if len(images) == 1:
        return [await service.embedder.embed(images[0], budget, arrival)]
    try:
        # The tasks begin one right after the other, so that all get the same bundle's networks.
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_one(service, image, at, budget, arrival)) for at, image in enumerate(images)
            ]
    except ExceptionGroup as failures:
        clear_frames(failures)
        failure = failures.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise failure  # outside of the block, so that its own cause and context stay what they are


async def _one(service: Service, image: bytes, at: int, budget: Budget, arrival: Arrival) -> EmbeddedImage:
    try:
        return await service.embedder.embed(image, budget, arrival)
    except ImageError as error:
        raise Problem(error.code, f"image[{at}]: {error}", "image") from error


def _result(embedded: EmbeddedImage, encoding: str, arrival: Arrival) -> dict[str, Any]:
    return {
        "embedding": encode_vector(embedded.vector, encoding),
        "width": embedded.width,
        "reason": embedded.reason,
        "budget_met": embedded.budget_met(arrival),
    }
