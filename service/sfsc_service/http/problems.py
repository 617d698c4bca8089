"""Exceptions → `application/problem+json` (RFC 9457)."""

import logging
import traceback
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sfsc_bundle.broken_rule import broken_rule, first_broken_rule
from sfsc_bundle.described import describe_value
from sfsc_bundle.errors import ImageError
from sfsc_service.errors import STATUS, Code, Problem
from sfsc_service.http.raw_path_route import allowed_methods
from sfsc_service.store.errors import InvalidInputError, StoreError

__all__ = [
    "HANDLED_ERRORS",
    "add_error_handlers",
    "as_problem",
    "error_response",
    "free_traceback_locals",
    "image_problem",
    "problem_response",
    "validation_problem",
]

MEDIA_TYPE = "application/problem+json"
OPENAI = "/v1/"
"""Where the routes begin whose clients look for OpenAI's errors."""
CODE_OF_STATUS: dict[int, Code] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_parameter",
}

HANDLED_ERRORS = (Problem, ImageError, StoreError, RequestValidationError, HTTPException, ClientDisconnect)
"""What an endpoint may raise on purpose; any other exception is a fault of the service."""

log = logging.getLogger(__name__)


def add_error_handlers(app: FastAPI) -> None:
    """Make FastAPI answer every foreseen error of a route with a problem response."""
    for code in STATUS:
        app.state.metrics.problems.labels(code)  # from zero on, so that the first one is an increase to an alert
    for kind in HANDLED_ERRORS:
        app.add_exception_handler(kind, error_response)


def as_problem(error: Exception, request: str = "a request") -> Problem:
    """The problem that an exception becomes; an unforeseen one is logged, and the client learns no details.

    Args:
        request: names the request in the log.
    """
    match error:
        case Problem():
            return error
        case ImageError():
            return image_problem(error, "image")
        case InvalidInputError():
            return Problem(_known(error.code), str(error), error.parameter.split(".")[0].split("[")[0])
        case StoreError():
            return Problem(_known(error.code), str(error), retry_after_s=1.0)
        case ValidationError() | RequestValidationError():
            return validation_problem(error)
        case ClientDisconnect():
            return Problem("client_gone", "the client has closed the connection")
        case HTTPException():
            return Problem(CODE_OF_STATUS.get(error.status_code, "invalid_request"), str(error.detail))
        case MemoryError():
            log.error("%s failed because there is not enough memory; the response is 503", request, exc_info=error)
            detail = "the service has no memory left for this request now"
            return Problem("out_of_memory", detail, retry_after_s=1.0)
        case _:
            name = type(error).__name__
            log.error("%s failed with an unforeseen %s; the response is 500", request, name, exc_info=error)
            return Problem("internal_error", "the service failed at this request; its log says why")


def image_problem(error: ImageError, place: str) -> Problem:
    """The problem of an image at a place such as image or image[2], or of its crop."""
    parameter = "crop" if error.code == "crop_outside" else place.split("[")[0]
    return Problem(error.code, f"{place}: {str(error).removeprefix('image ')}", parameter)


def validation_problem(error: ValidationError | RequestValidationError) -> Problem:
    """The first rule that was broken, by the name of its parameter."""
    broken = (
        first_broken_rule(error)
        if isinstance(error, ValidationError)
        else broken_rule(error.errors()[0], ignored=("body", "query", "path"))
    )
    place = broken.place or ("body",)
    return Problem("invalid_parameter", f"{'.'.join(place)}: {broken.rule}", place[0])


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None, path: str = "") -> Response:
    """The response that tells a client of a problem; under /v1 also in OpenAI's way."""
    status, title = STATUS[problem.code]
    document: dict[str, Any] = {
        "type": f"urn:sfsc:problem:{problem.code}",
        "title": title,
        "status": status,
        "detail": problem.detail.encode("utf-8", "replace").decode(),
        "code": problem.code,
        "parameter": problem.parameter,
    }
    if path.startswith(OPENAI):
        error = {"message": document["detail"], "type": title, "param": problem.parameter, "code": problem.code}
        document["error"] = error
    extra = dict(headers or {})
    if status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    if problem.retry_after_s is not None and status in (429, 503):
        extra["Retry-After"] = str(max(1, round(problem.retry_after_s + 0.5)))
    return Response(orjson.dumps(document), status, extra, MEDIA_TYPE)


async def error_response(request: Request, error: Exception) -> Response:
    """The response to one of HANDLED_ERRORS, counted in the metrics."""
    problem, headers, path = as_problem(error), None, request.scope["path"]
    free_traceback_locals(error)
    if problem.code == "method_not_allowed":
        allowed = ", ".join(allowed_methods(request.app.routes, request.scope))
        headers = {"Allow": allowed}
        problem = Problem(problem.code, f"method: must be one of {allowed}, found {request.method}")
    elif problem.code == "not_found" and isinstance(error, HTTPException):
        problem = Problem(problem.code, f"path: must be one that /docs lists, found {describe_value(path)}")
    request.app.state.metrics.problems.labels(problem.code).inc()
    return problem_response(problem, headers, path)


def free_traceback_locals(error: BaseException) -> None:
    """Drop the local variables of the frames in an error's traceback.

    Error and frames refer to each other, so without this a request's body would stay in memory until the garbage
    collector finds the cycle.
    """
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        if (one := pending.pop()) is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            pending += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def _known(code: str) -> Code:
    return code if code in STATUS else "internal_error"
