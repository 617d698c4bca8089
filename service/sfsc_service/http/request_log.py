"""An id for every request: in its response, and in every line that is logged on the way.

An `X-Request-ID` that a caller or a proxy sends is kept where it is fit for a log, else one is made. Requests that
were wrong or failed are logged; refusals because of load and clients that left are counted in the metrics alone.
"""

import logging
import os
import re
from collections.abc import Iterable
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADER", "OVERLOADED", "REQUEST_ID", "RequestLog", "request_id"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that the running code works for; None outside of requests."""
HEADER = b"x-request-id"
OVERLOADED = "sfsc.overloaded"
"""Key of the ASGI scope of a request that was refused because of load."""
SANE = re.compile(rb"[\w.:+/=-]{1,128}")
LOAD = frozenset({429, 503})
"""Statuses of refusals because of load."""
CLIENT_GONE = 499
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
        own = request_id(scope["headers"])
        REQUEST_ID.set(own.decode())  # the request's task has a context of its own

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, own)]
                status = message["status"]
                if status in LOAD:
                    scope[OVERLOADED] = True
                elif status >= 400 and status != CLIENT_GONE:
                    log.info("%s %r is answered with %d", scope["method"], scope["path"][:MAX_SHOWN_PATH], status)
            await send(message)

        await self._app(scope, receive, send_with_id)


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The id that a request's headers give, if it is sane, else a new one."""
    given = next((value for name, value in headers if name == HEADER), b"")
    return given if SANE.fullmatch(given) else os.urandom(8).hex().encode()
