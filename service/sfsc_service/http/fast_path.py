"""The hottest routes without FastAPI's own layers around them: the same endpoints and the same error handling.

These endpoints read their request themselves and return a finished response, so the work that FastAPI does for
each request (matching, dependencies, exit stacks) is wasted on them and costs more CPU than a narrow network. Any
request that does not match exactly goes on to FastAPI.
"""

import re
from collections.abc import Sequence

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from sfsc_service.http.problems import HANDLED_ERRORS, error_response

__all__ = ["FastPath"]

IN_COLLECTION = "/collections/{collection}/search"
FAST_PATHS = ("/embed", "/search", IN_COLLECTION)
SENT_IN_COLLECTION = re.compile(rb"/collections/([A-Za-z0-9_-]+)/search")
"""The last of them, where nothing in it has to be decoded."""


class FastPath:
    """ASGI layer that answers requests to `FAST_PATHS` and passes all others on to `app`."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = {
            (method, route.path if route.path == IN_COLLECTION else route.path.encode()): route
            for route in routes
            if isinstance(route, APIRoute) and route.path in FAST_PATHS
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: bytes = scope.get("raw_path", b"")
        named = SENT_IN_COLLECTION.fullmatch(path)
        route = self._routes.get((scope.get("method", ""), path if named is None else IN_COLLECTION))
        if route is None:
            await self._app(scope, receive, send)
            return
        if named is not None:
            scope["path_params"] = {"collection": named[1].decode()}
        scope["route"] = route  # the edge labels its metrics by it
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except HANDLED_ERRORS as error:
            response = await error_response(request, error)
        await response(scope, receive, send)
