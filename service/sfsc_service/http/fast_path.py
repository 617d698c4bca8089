"""The hottest routes without FastAPI's own layers around them: the same endpoints and the same error handling.

These endpoints read their request themselves and return a finished response, so the work that FastAPI does for
each request (matching, dependencies, exit stacks) is wasted on them and costs more CPU than a narrow network. Any
request that does not match exactly goes on to FastAPI.
"""

from collections.abc import Sequence

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from sfsc_service.http.problems import HANDLED_ERRORS, error_response

__all__ = ["FastPath"]

FAST_PATHS = ("/embed", "/search")


class FastPath:
    """ASGI layer that answers requests to `FAST_PATHS` and passes all others on to `app`."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = {
            (method, route.path.encode()): route
            for route in routes
            if isinstance(route, APIRoute) and route.path in FAST_PATHS
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = self._routes.get((scope.get("method", ""), scope.get("raw_path", b"")))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route  # the edge labels its metrics by it
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except HANDLED_ERRORS as error:
            response = await error_response(request, error)
        await response(scope, receive, send)
