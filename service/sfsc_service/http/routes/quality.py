"""/quality: how well each width searches, by the bundle or measured on the gallery's own images."""

from typing import Any

from fastapi import FastAPI, Request, Response

from sfsc_service.gallery.quality import QualityStatus
from sfsc_service.http.access import needs
from sfsc_service.http.openapi import problems, query_parameters
from sfsc_service.http.request_body import read_query
from sfsc_service.http.response_schemas import QualityResponse
from sfsc_service.http.responses import json_response
from sfsc_service.http.schemas import OwnImagesOptions
from sfsc_service.lifecycle.service import Service

__all__ = ["add_routes", "measured_json"]


def add_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.add_api_route(
        "/quality",
        _get,
        methods=["GET"],
        tags=["service"],
        summary="How well each width searches, and who says so",
        response_model=None,
        responses={200: {"model": QualityResponse}},
    )
    app.add_api_route(
        "/quality",
        _measure,
        methods=["POST"],
        status_code=202,
        tags=["service"],
        summary="Measure it on the gallery's own images, when the service is idle",
        response_model=None,
        responses={202: {"model": QualityResponse}, **problems(422)},
        openapi_extra=query_parameters(OwnImagesOptions),
    )
    app.add_api_route(
        "/quality",
        _forget,
        methods=["DELETE"],
        tags=["service"],
        summary="Forget what was measured: the bundle's own figures are in force again",
        response_model=None,
        responses={200: {"model": QualityResponse}, **problems(503)},
    )


@needs("read")
async def _get(request: Request) -> Response:
    return _answer(request, 200)


@needs("admin")
async def _measure(request: Request) -> Response:
    options = read_query(request, OwnImagesOptions)
    service: Service = request.app.state.service
    service.quality.ask(options.field)
    return _answer(request, 202)


@needs("admin")
async def _forget(request: Request) -> Response:
    service: Service = request.app.state.service
    await service.quality.forget()
    return _answer(request, 200)


def measured_json(status: QualityStatus) -> dict[str, Any] | None:
    """When, on how many items and by which field it was measured; None where the bundle's own is in force."""
    if status.measured is None:
        return None
    return status.measured.model_dump(mode="json", include={"measured", "items", "field"})


def _answer(request: Request, code: int) -> Response:
    service: Service = request.app.state.service
    status = service.quality.status()
    return json_response(
        {
            "source": "bundle" if status.measured is None else "gallery",
            "measured": measured_json(status),
            "quality": status.quality.model_dump(mode="json"),
            "state": status.state,
            "embedded": status.embedded,
            "drawn": status.drawn,
            "failure": status.failure,
        },
        code,
    )
