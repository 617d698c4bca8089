"""The answer of a bulk call: an outcome per item, in the order of the call."""

from typing import Any

from fastapi import Response

from sfsc_service.engine.embedder import Arrival
from sfsc_service.errors import Problem
from sfsc_service.http.problems import as_problem
from sfsc_service.http.responses import json_response, server_timing, timing

__all__ = ["bulk_response", "failure_json", "problem_json"]


def bulk_response(results: list[dict[str, Any]], arrival: Arrival) -> Response:
    """The response with these outcomes."""
    failed = sum(result["status"] != 200 for result in results)
    times = timing(arrival, [])
    document = {"stored": len(results) - failed, "failed": failed, "results": results, "timing_ms": times}
    return json_response(document, headers=server_timing(times, []))


def failure_json(id: str | None, error: Exception) -> dict[str, Any]:
    """The outcome of an item that was not stored."""
    return {"id": id, **problem_json(as_problem(error, "POST /items"))}


def problem_json(problem: Problem) -> dict[str, Any]:
    """The outcome of a part of a call that was refused."""
    return {
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail.encode("utf-8", "replace").decode(),
        "parameter": problem.parameter,
    }
