"""An id for every request: in its response, and in every line that is logged on the way.

An `X-Request-ID` that a caller or a proxy sends is kept where it is fit for a log, else one is made. Requests that
were wrong or failed are logged, with who sent them; refusals because of load and clients that left are counted in
the metrics alone.
"""

import ipaddress
import logging
import os
import re
from collections.abc import Iterable
from contextvars import ContextVar
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfsc_service.http.auth import CALLER

__all__ = ["HEADER", "OVERLOADED", "REQUEST_ID", "RequestLog", "address_of", "request_id"]

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
                    _log(scope, status)
            await send(message)

        await self._app(scope, receive, send_with_id)


def _log(scope: Scope, status: int) -> None:
    caller = scope.get(CALLER)
    name = "anybody" if caller is None else caller.name
    what = (scope["method"], scope["path"][:MAX_SHOWN_PATH], status)
    # Wrong requests of one kind, however many, do not keep those of another kind or key out of the log.
    log.info(
        "%s %r is answered with %d to %s at %s", *what, name, address_of(scope), extra={"kind": (status, name)}
    )


def address_of(scope: Scope) -> str:
    """The caller's address, which a trusted proxy may have passed on from a header that the caller wrote."""
    client = scope.get("client")
    return _address("" if client is None else client[0])


@lru_cache(64)
def _address(host: str) -> str:
    """Without the zone of an IPv6 address, which may be any text."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return "an unknown address"


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The id that a request's headers give, if it is sane, else a new one."""
    given = next((value for name, value in headers if name == HEADER), b"")
    return given if SANE.fullmatch(given) else os.urandom(8).hex().encode()
