"""Authentication: which requests may enter. Today all may; see the security section of docs/operations.md.

This layer lies between the edge and everything that answers requests, so a rule that is added here holds for every
route, for unknown paths and for added middleware. Raise `Problem` to refuse a request: the edge turns it into a
response with the common headers and counts it.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Authentication"]


class Authentication:
    """ASGI layer that every request passes before anything of the application sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through: the service has no keys, so there is nothing to compare with."""
        await self._app(scope, receive, send)
