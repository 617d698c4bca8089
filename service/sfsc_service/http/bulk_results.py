"""The answer of a bulk call: an outcome per item, in the order of the call."""

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Any

import orjson
from fastapi import Request, Response

from sfsc_service.engine.embedder import Arrival
from sfsc_service.errors import Problem
from sfsc_service.http.audit import log_write
from sfsc_service.http.bounded_request import hold_response
from sfsc_service.http.problems import as_problem
from sfsc_service.http.responses import pieces_response, server_timing, timing

__all__ = ["BulkOutcomes", "failure_json", "problem_json"]

AT_ONCE = 128
"""Outcomes that are written until the event loop gets its turn."""


class BulkOutcomes:
    """The outcomes of a call, as JSON as soon as they are known, and in the log of writes.

    Attributes:
        count: how many there are.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self.count = self._failed = 0
        self._pieces: list[bytes] = []

    async def add(self, outcomes: Iterable[dict[str, Any]]) -> None:
        """Add the next ones, so many at a time; the event loop gets its turn in between.

        All of them are logged and counted, even where nobody waits for the response any more.

        Raises:
            Problem: queue_full, no memory is left for the response.
        """
        remaining = iter(outcomes)
        try:
            while some := list(islice(remaining, AT_ONCE)):
                self._note(some)
                self._pieces += [b"," if self._pieces else b"", orjson.dumps(some)[1:-1]]
                hold_response(self._request, self._pieces[-1:])
                await asyncio.sleep(0)
        except BaseException:
            self._note(list(remaining))
            raise

    def _note(self, outcomes: list[dict[str, Any]]) -> None:
        for one in outcomes:
            self._failed += one["status"] != 200
            written = "created" if one.get("created") else "replaced"
            log_write(self._request, "put", one["id"], one.get("code", written))
        self.count += len(outcomes)

    def log_unknown(self, ids: Iterable[str | None]) -> None:
        """Note that nobody was told what became of these items."""
        for item_id in ids:
            log_write(self._request, "put", item_id, "outcome_unknown")

    def response(self, arrival: Arrival) -> Response:
        """The response with these outcomes."""
        times = timing(arrival, [])
        counts = orjson.dumps({"stored": self.count - self._failed, "failed": self._failed})
        pieces = [counts[:-1], b',"results":[', *self._pieces, b'],"timing_ms":', orjson.dumps(times), b"}"]
        return pieces_response(pieces, server_timing(times, []))


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
