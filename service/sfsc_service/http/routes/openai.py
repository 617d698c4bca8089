"""/v1/embeddings and /v1/models: for programs that speak OpenAI's API.

A model is a bundle at a width, such as demo@0.25, or demo@auto, where the service chooses. Inputs are images as
data URIs. A problem under /v1 has the member `error` too, from which OpenAI's packages make their exceptions.
"""

from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response

from sfsc_bundle.described import describe_value
from sfsc_bundle.manifest import Manifest
from sfsc_service.engine.embedder import EmbeddedImage
from sfsc_service.engine.policy import Budget
from sfsc_service.errors import Problem
from sfsc_service.gallery.vectors import encode_vector
from sfsc_service.http.access import needs
from sfsc_service.http.arrival import arrival_of
from sfsc_service.http.auth import caller_of
from sfsc_service.http.base64_image import decode_image, is_data_uri
from sfsc_service.http.disconnect import DisconnectWatch
from sfsc_service.http.embed_images import embed_images
from sfsc_service.http.openapi import json_request, problems
from sfsc_service.http.request_body import (
    check_count,
    check_size,
    media_type,
    read_json_body,
    unsupported_media_type,
    validate,
)
from sfsc_service.http.response_schemas import EmbeddingsResponse, ModelsResponse
from sfsc_service.http.responses import json_response, server_timing, timing
from sfsc_service.http.schemas import EmbeddingsBody
from sfsc_service.lifecycle.service import Service
from sfsc_service.settings import Settings

__all__ = ["add_routes"]

AUTO = "auto"
NO_TOKENS = {"prompt_tokens": 0, "total_tokens": 0}
"""An image has no tokens."""


def add_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.add_api_route(
        "/v1/embeddings",
        _embeddings,
        methods=["POST"],
        tags=["OpenAI"],
        summary="Embed images, as OpenAI's API has it",
        response_model=None,
        responses={
            200: {"model": EmbeddingsResponse},
            **problems(400, 404, 413, 415, 422, 429, 500, 503),
        },
        openapi_extra=json_request(EmbeddingsBody),
    )
    app.add_api_route(
        "/v1/models",
        _models,
        methods=["GET"],
        tags=["OpenAI"],
        summary="The bundle at each of its widths, as OpenAI's API lists models",
        response_model=None,
        responses={200: {"model": ModelsResponse}},
    )


@needs("read")
async def _embeddings(request: Request) -> Response:
    service: Service = request.app.state.service
    if (kind := media_type(request)) != "application/json":
        raise unsupported_media_type(kind, "application/json")
    body, images = await read_json_body(request, lambda members: _read(members, service), "input")
    arrival = arrival_of(request)
    places = [f"input[{at}]" for at in range(len(images))]
    budget = _budget(body, service.manifest)
    caller_of(request).count_images(len(images))
    if len(images) > 1:
        arrival = replace(arrival, bulk=True)  # requests with one image go first
    async with DisconnectWatch(request):
        embedded = await embed_images(service.embedder, images, places, budget, None, arrival)
    document = {
        "object": "list",
        "data": [_entry(one, at, body.encoding_format) for at, one in enumerate(embedded)],
        "model": body.model,
        "usage": NO_TOKENS,
    }
    return json_response(document, headers=server_timing(timing(arrival, embedded), embedded))


@needs("read")
async def _models(request: Request) -> Response:
    service: Service = request.app.state.service
    models = [
        {"id": name, "object": "model", "created": 0, "owned_by": "sfsc"}
        for name in _model_names(service.manifest)
    ]
    return json_response({"object": "list", "data": models})


def _read(members: dict[str, Any], service: Service) -> tuple[EmbeddingsBody, list[bytes]]:
    """The checked body and its images, which are not looked into yet."""
    sent = members.get("input")
    uris = sent if isinstance(sent, list) else [sent]
    if any(isinstance(uri, memoryview) for uri in uris):  # of an image the model has to know that it is a text
        members = members | {"input": ["" if isinstance(uri, memoryview) else uri for uri in uris]}
    body = validate(EmbeddingsBody, members)
    check_count(len(uris), service.settings.max_images, "input")
    _budget(body, service.manifest)
    return body, [_image(uri, f"input[{at}]", service.settings) for at, uri in enumerate(uris)]


def _budget(body: EmbeddingsBody, manifest: Manifest) -> Budget:
    """What the model's name asks for; every other wish of the body is checked too."""
    names = _model_names(manifest)
    if body.model not in names:
        found = describe_value(body.model)
        raise Problem("unknown_model", f"model: must be one of {', '.join(names)}, found {found}", "model")
    if body.dimensions not in (None, manifest.dimension):
        raise Problem(
            "invalid_parameter",
            f"dimensions: must be {manifest.dimension}, the only one of this model, found {body.dimensions}",
            "dimensions",
        )
    width = body.model.removeprefix(f"{manifest.name}@")
    return Budget() if width == AUTO else Budget(width=width)


def _model_names(manifest: Manifest) -> list[str]:
    return [f"{manifest.name}@{width}" for width in (*manifest.widths, AUTO)]


def _image(uri: str | memoryview, place: str, settings: Settings) -> bytes:
    if not is_data_uri(uri):
        rule = "must be an image as a data URI, data:image/…;base64,…"
        raise Problem("invalid_parameter", f"{place}: {rule}, found {describe_value(uri)}", "input")
    image = decode_image(uri, place)
    check_size(len(image), settings.max_image_bytes, place)
    return image


def _entry(embedded: EmbeddedImage, index: int, encoding: str) -> dict[str, Any]:
    return {
        "object": "embedding",
        "index": index,
        "embedding": encode_vector(embedded.vector, encoding),
        "width": embedded.width,
        "reason": embedded.reason,
    }
