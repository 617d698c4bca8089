"""Routes that match the path as it was sent, before percent-decoding, so that an id may hold an encoded slash.

What answers GET answers HEAD, too (RFC 9110, section 9.1); the server leaves out the body.
"""

from collections.abc import Iterable
from urllib.parse import unquote

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

__all__ = ["RawPathRoute", "allowed_methods"]


class RawPathRoute(APIRoute):
    """FastAPI's route, matched against `raw_path`; its parameters are percent-decoded one by one."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match a request, with decoded parameters in `path_params`."""
        raw: bytes | None = scope.get("raw_path")
        sent = scope if raw is None else {**scope, "path": raw.split(b"?")[0].decode("latin-1")}
        match, found = super().matches(sent)
        if match is Match.PARTIAL and self._is_head_of_get(scope):
            match = Match.FULL
        for name, value in found.get("path_params", {}).items():
            # Bytes that are not UTF-8 become surrogates, which the rules for ids refuse with a sentence.
            found["path_params"][name] = unquote(value, errors="surrogateescape") if raw else value
        return match, found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that matches."""
        if self._is_head_of_get(scope):
            await self.app(scope, receive, send)
        else:
            await super().handle(scope, receive, send)

    def _is_head_of_get(self, scope: Scope) -> bool:
        return scope["method"] == "HEAD" and "GET" in (self.methods or ())


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """The methods that the routes answer at a request's path, sorted."""
    matching = [
        route for route in routes if isinstance(route, APIRoute) and route.matches(scope)[0] is not Match.NONE
    ]
    methods = {method for route in matching for method in route.methods or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))
