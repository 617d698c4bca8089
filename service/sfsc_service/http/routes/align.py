"""/align: the alignment of the widths on the gallery's own images."""

from fastapi import FastAPI, Request, Response

from sfsc_service.http.access import needs
from sfsc_service.http.openapi import problems, query_parameters
from sfsc_service.http.request_body import read_query
from sfsc_service.http.response_schemas import AlignResponse
from sfsc_service.http.responses import json_response
from sfsc_service.http.schemas import OwnImagesOptions
from sfsc_service.lifecycle.service import Service

__all__ = ["add_routes"]


def add_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.add_api_route(
        "/align",
        _get,
        methods=["GET"],
        tags=["service"],
        summary="Whether the widths are aligned on the gallery's own images, and how far it is",
        response_model=None,
        responses={200: {"model": AlignResponse}},
    )
    app.add_api_route(
        "/align",
        _align,
        methods=["POST"],
        status_code=202,
        tags=["service"],
        summary="Align the widths on the gallery's own images, when the service is idle",
        response_model=None,
        responses={202: {"model": AlignResponse}, **problems(409, 422, 503)},
        openapi_extra=query_parameters(OwnImagesOptions),
    )
    app.add_api_route(
        "/align",
        _undo,
        methods=["DELETE"],
        status_code=202,
        tags=["service"],
        summary="Undo the alignment: stored vectors follow when the service is idle",
        response_model=None,
        responses={202: {"model": AlignResponse}, **problems(503)},
    )


@needs("read")
async def _get(request: Request) -> Response:
    return _answer(request, 200)


@needs("admin")
async def _align(request: Request) -> Response:
    options = read_query(request, OwnImagesOptions)
    service: Service = request.app.state.service
    await service.aligner.ask(options.field)
    return _answer(request, 202)


@needs("admin")
async def _undo(request: Request) -> Response:
    service: Service = request.app.state.service
    await service.aligner.undo()
    return _answer(request, 202)


def _answer(request: Request, code: int) -> Response:
    service: Service = request.app.state.service
    status = service.aligner.status()
    return json_response(
        {
            "space": status.space,
            "bundle_space": status.bundle_space,
            "fitted": None if status.fitted is None else status.fitted.model_dump(mode="json", exclude={"maps"}),
            "in_force": status.in_force,
            "state": status.state,
            "embedded": status.embedded,
            "drawn": status.drawn,
            "unchecked": status.unchecked,
            "converted": status.converted,
            "failure": status.failure,
        },
        code,
    )
