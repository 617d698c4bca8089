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
from sfsc_bundle.errors import ImageError
from sfsc_service.errors import KINDS, STATUS, Kind, Problem
from sfsc_service.store.errors import InvalidInputError, StoreError

__all__ = [
    "EXPECTED",
    "add_problems",
    "answer_problem",
    "as_problem",
    "clear_frames",
    "problem_response",
    "validation_problem",
]

MEDIA_TYPE = "application/problem+json"
HTTP_KINDS: dict[int, Kind] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_parameter",
}

EXPECTED = (Problem, ImageError, StoreError, RequestValidationError, HTTPException, ClientDisconnect)

log = logging.getLogger(__name__)


def add_problems(app: FastAPI) -> None:
    """Make every exception of a route answer as a problem."""
    for kind in EXPECTED:
        app.add_exception_handler(kind, answer_problem)


def as_problem(error: Exception) -> Problem:
    """The problem that an exception is answered with; what is not foreseen is logged and tells nothing."""
    match error:
        case Problem():
            return error
        case ImageError():
            return Problem(error.code, f"image: {error}", "image")
        case InvalidInputError():
            return Problem(_kind(error.code), error.message, error.parameter.split(".")[0].split("[")[0])
        case StoreError():
            return Problem(_kind(error.code), error.message, retry_after_s=1.0)
        case ValidationError() | RequestValidationError():
            return validation_problem(error)
        case ClientDisconnect():
            return Problem("client_gone", "the client has closed the connection")
        case HTTPException():
            kind = HTTP_KINDS.get(error.status_code, "invalid_request")
            return Problem(kind, str(error.detail))
        case _:
            log.error("unexpected", exc_info=error)
            return Problem("internal_error", "the service failed at this request; its log says why")


def validation_problem(error: ValidationError | RequestValidationError) -> Problem:
    """The first rule that was broken, by the name of its parameter."""
    if isinstance(error, ValidationError):
        broken = first_broken_rule(error)
    else:
        broken = broken_rule(error.errors()[0], ignored=("body", "query", "path"))
    place = broken.place or ("body",)
    return Problem("invalid_parameter", f"{'.'.join(place)}: {broken.rule}", place[0])


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The answer of a problem."""
    status, title = STATUS[problem.kind]
    document: dict[str, Any] = {
        "type": f"urn:sfsc:problem:{problem.kind}",
        "title": title,
        "status": status,
        "detail": problem.detail.encode("utf-8", "replace").decode(),
        "code": problem.kind,
        "parameter": problem.parameter,
    }
    extra = dict(headers or {})
    if problem.retry_after_s is not None and status in (429, 503):
        extra["Retry-After"] = str(max(1, round(problem.retry_after_s + 0.5)))
    return Response(orjson.dumps(document), status, extra, MEDIA_TYPE)


async def answer_problem(request: Request, error: Exception) -> Response:
    """The answer to one of EXPECTED, counted."""
    problem = as_problem(error)
    clear_frames(error)
    request.app.state.metrics.problems.labels(problem.kind).inc()
    headers = getattr(error, "headers", None) if isinstance(error, HTTPException) else None
    response = problem_response(problem, headers)
    if isinstance(error, HTTPException) and error.status_code not in HTTP_KINDS:
        response.status_code = error.status_code
    return response


def clear_frames(error: BaseException) -> None:
    """Empty the frames that an exception came through: in a cycle with it, they would keep the body for long."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        if (one := left.pop()) is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            left += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def _kind(code: str) -> Kind:
    known: Kind = code if code in KINDS else "internal_error"  # type: ignore[assignment]
    return known
