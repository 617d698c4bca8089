"""An id for every request: in its response, and in every line that is logged on the way.

An `X-Request-ID` that a caller or a proxy sends is kept where it is fit for a log, else one is made. Requests that
were wrong or failed are logged; refusals because of load are counted in metrics, a line each would be load again.
"""

import logging
import os
import re
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["REQUEST_ID", "RequestLog"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that the running code works for; None outside of requests."""
HEADER = b"x-request-id"
SANE = re.compile(rb"[\w.:+/=-]{1,128}")
NOT_LOGGED = frozenset({429, 503})
MAX_SHOWN_PATH = 200

log = logging.getLogger(__name__)


class RequestLog:
    """ASGI layer around every request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request under its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        request_id = given if SANE.fullmatch(given) else os.urandom(8).hex().encode()
        REQUEST_ID.set(request_id.decode())  # the request's task has a context of its own

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, request_id)]
                status = message["status"]
                if status >= 400 and status not in NOT_LOGGED:
                    log.info("%s %r is answered with %d", scope["method"], scope["path"][:MAX_SHOWN_PATH], status)
            await send(message)

        await self._app(scope, receive, send_with_id)
