"""Hot calls without FastAPI around them: the same functions, the same problems, nothing in between.

Routes here read their request themselves and return a finished answer, so what FastAPI does at each call
(matching, dependencies, exit stacks, telemetry) has nothing to do, and costs more than some networks. The OpenAPI
document and whatever does not match exactly come from FastAPI.
"""

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from sfsc_service.http.problems import EXPECTED, answer_problem

__all__ = ["FastPath"]

HOT = ("/embed", "/search")


class FastPath:
    """An ASGI app of the hot routes of another; `calls` are the (method, path as it was sent) that it takes."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.calls = {
            (method, route.path.encode()): route
            for route in app.routes
            if isinstance(route, APIRoute) and route.path in HOT
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one of `calls`."""
        route = self.calls[scope["method"], scope["raw_path"]]
        scope["app"], scope["route"] = self._app, route
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except EXPECTED as error:
            response = await answer_problem(request, error)
        await response(scope, receive, send)
