"""Bounds on bodies, security headers, metrics, and a response whatever happens inside."""

import time

from starlette.types import ASGIApp, Receive, Scope, Send

from sfsc_service.http.bounded_request import BodyMemory, BoundedRequest
from sfsc_service.http.problems import as_problem, problem_response
from sfsc_service.metrics import Metrics

__all__ = ["Edge"]

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
CLIENT_CLOSED_REQUEST = 499
"""What a request counts as whose client left before a response began."""


class Edge:
    """ASGI layer around every request."""

    def __init__(self, app: ASGIApp, metrics: Metrics, memory: BodyMemory) -> None:
        self._app, self._metrics = app, metrics
        self._memory = memory
        self._open = 0
        metrics.open_requests.set_function(lambda: self._open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what the application raises becomes a problem response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        self._open += 1
        request = BoundedRequest(scope, receive, send, self._memory)
        try:
            request.check_head()
            await self._app(scope, request.receive, request.send)
        except Exception as error:
            problem = as_problem(error, f"{scope['method']} {_route(scope)}")
            self._metrics.problems.labels(problem.code).inc()
            if request.status is None:
                response = problem_response(problem, path=scope["path"])
                await response(scope, receive, request.send)
        finally:
            if request.replaced is not None:
                self._metrics.problems.labels(request.replaced.code).inc()
            request.release()
            self._open -= 1
            self._observe(scope, request.status or CLIENT_CLOSED_REQUEST, time.monotonic() - started)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.http_requests.labels(method, _route(scope), str(status)).inc()
        self._metrics.http_seconds.labels(_route(scope)).observe(seconds)


def _route(scope: Scope) -> str:
    """The matched route's path, its parameters left open, so that ids make no series of their own."""
    return str(getattr(scope.get("route"), "path", "unmatched"))
