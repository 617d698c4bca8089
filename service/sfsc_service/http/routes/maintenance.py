"""/maintenance: an operator's work on the data folder while the service goes on."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response

from sfsc_service.http.access import needs
from sfsc_service.http.audit import AuditedWrite
from sfsc_service.http.openapi import problems, query_parameters
from sfsc_service.http.request_body import query_options, read_query, refuse_body, validate
from sfsc_service.http.response_schemas import MaintenanceResponse
from sfsc_service.http.responses import json_response
from sfsc_service.http.schemas import BackupOptions, ReembedOptions
from sfsc_service.lifecycle.maintenance import Maintenance, MaintenanceTask
from sfsc_service.lifecycle.service import Service

__all__ = ["add_routes"]

SUBJECT = "the data folder"
SUMMARIES: dict[MaintenanceTask, str] = {
    "check": "Check every row, vector and image, in idle moments",
    "backup": "Copy the data folder into the folder for backups",
    "compact": "Write the vectors anew without what was deleted or replaced",
    "reembed": "Embed all images, in idle moments, for a move to a bundle of another space",
}


OPTIONS: dict[MaintenanceTask, Any] = {"backup": BackupOptions, "reembed": ReembedOptions}


def add_routes(app: FastAPI) -> None:
    """Add the routes to an application."""
    app.add_api_route(
        "/maintenance",
        _get,
        methods=["GET"],
        tags=["service"],
        summary="Whether maintenance is under way, and what came of the last one of each kind",
        response_model=None,
        responses={200: {"model": MaintenanceResponse}},
    )
    begins: dict[MaintenanceTask, Any] = {
        "check": _check,
        "backup": _backup,
        "compact": _compact,
        "reembed": _reembed,
    }
    for task, endpoint in begins.items():
        app.add_api_route(
            f"/maintenance/{task}",
            endpoint,
            methods=["POST"],
            status_code=202,
            tags=["service"],
            summary=SUMMARIES[task],
            response_model=None,
            responses={202: {"model": MaintenanceResponse}, **problems(409, 422, 503)},
            openapi_extra=query_parameters(OPTIONS[task]) if task in OPTIONS else None,
        )
    app.add_api_route(
        "/maintenance",
        _stop,
        methods=["DELETE"],
        status_code=202,
        tags=["service"],
        summary="Stop the check, the backup or the embedding that is under way",
        response_model=None,
        responses={202: {"model": MaintenanceResponse}},
    )


@needs("admin")
async def _get(request: Request) -> Response:
    return _answer(request, 200)


@needs("admin")
async def _check(request: Request) -> Response:
    return _begun(request, "check", lambda maintenance: maintenance.check())


@needs("admin")
async def _backup(request: Request) -> Response:
    service: Service = request.app.state.service
    with AuditedWrite(request, "backup", SUBJECT) as write:
        name = await service.maintenance.backup(read_query(request, BackupOptions).name)
        write.outcome = f"begun as {name!r}"
    return _answer(request, 202)


@needs("admin")
async def _compact(request: Request) -> Response:
    return _begun(request, "compact", lambda maintenance: maintenance.compact())


@needs("admin")
async def _reembed(request: Request) -> Response:
    def begin(maintenance: Maintenance) -> None:
        options = validate(ReembedOptions, query_options(request))
        maintenance.reembed(options.bundle, options.width, options.to)

    return _begun(request, "reembed", begin)


@needs("admin")
async def _stop(request: Request) -> Response:
    service: Service = request.app.state.service
    with AuditedWrite(request, "stop the maintenance of", SUBJECT) as write:
        running = service.maintenance.status().running
        service.maintenance.stop()
        write.outcome = "none was under way" if running is None else f"the {running} ends"
    return _answer(request, 202)


def _begun(request: Request, task: MaintenanceTask, begin: Callable[[Maintenance], None]) -> Response:
    """Begin a task, with a line in the audit whatever comes of it."""
    service: Service = request.app.state.service
    with AuditedWrite(request, task, SUBJECT) as write:
        refuse_body(request)
        begin(service.maintenance)
        write.outcome = "begun"
    return _answer(request, 202)


def _answer(request: Request, code: int) -> Response:
    service: Service = request.app.state.service
    status = service.maintenance.status()
    state = "resting" if status.running is None else "paused" if status.paused else "running"
    document = {"task": status.running, "state": state, "done": status.done, "total": status.total}
    return json_response(document | {task: status.results.get(task) for task in SUMMARIES}, code)
