"""Who may enter: every request is checked here before anything of the application sees it.

1. The Host and the page that sends the request (http/origin.py); health routes answer under any name.
2. Where the service has keys: the key, the scope that the route declares (http/access.py), and the key's quota. A
   request that no route answers needs a key, too.

This layer lies between the edge and everything that answers requests, so its rules hold for every route, for
unknown paths and for added middleware. It refuses by raising `Problem`: the edge turns that into a response with
the common headers and counts it.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from sfsc_service.errors import Problem
from sfsc_service.http.access import AccessTable, KeyScope
from sfsc_service.http.keys import Caller, KeyRing
from sfsc_service.http.origin import check_host, check_page
from sfsc_service.settings import Settings, listed

__all__ = ["CALLER", "Authentication", "caller_of", "check_scope"]

log = logging.getLogger(__name__)

CALLER = "sfsc.caller"
"""Key of the ASGI scope that holds who calls."""


class Authentication:
    """ASGI layer that every request passes before anything of the application sees it.

    Raises:
        StartError: a route declares no access.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], keys: KeyRing, settings: Settings) -> None:
        self._app, self._keys = app, keys
        self._anybody = Caller("anybody")
        self._table = AccessTable(routes)
        self._hosts = frozenset(host.strip("[]") for host in listed(settings.hosts))
        self._origins = frozenset(origin.encode() for origin in listed(settings.cors_origins))
        self._metrics: Literal["open", "admin"] = "open" if settings.open_metrics else "admin"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or raise what `_check` raises."""
        if scope["type"] == "http":
            scope[CALLER] = self._check(scope)
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> Caller:
        """Find out who calls.

        Raises:
            Problem: invalid_request, foreign_host, foreign_origin, key_missing, key_unknown, scope_missing,
                quota_exceeded.
        """
        access = self._table.of(scope)
        if access == "health":
            return self._anybody
        if access == "metrics":
            access = self._metrics
        headers = dict(scope["headers"])
        check_host(scope, headers, self._hosts)
        check_page(scope, headers, self._origins, link=access == "open")
        if access == "open" or not self._keys.asked_for:
            return self._anybody
        caller = self._caller(headers)
        assert caller.entry is not None
        scope[CALLER] = caller  # the log names who was refused, too
        if access is not None:
            check_scope(caller, access)
        try:
            caller.admit()
        except Problem:
            log.info("the key %s is over its quota", caller.name, extra={"kind": caller.name})
            raise
        return caller

    def _caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        kind, _, key = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer":
            key = headers.get(b"x-api-key", b"")
        if not key.strip():
            raise Problem(
                "key_missing",
                "a key is needed, as Authorization: Bearer KEY or X-API-Key: KEY; "
                "the command sfsc and the clients for Python send the one in SFSC_API_KEY",
            )
        caller = self._keys.caller(key.strip().decode("latin-1"))
        if caller is None:
            raise Problem("key_unknown", "the service does not know this key")
        return caller


def check_scope(caller: Caller, scope: KeyScope, why: str = "") -> None:
    """Check that a key has a scope; `why` is said where it needs it beside that of its route.

    Raises Problem: scope_missing.
    """
    if caller.entry is not None and scope not in caller.entry.scopes:
        has, reason = ", ".join(caller.entry.scopes), f", because {why}" if why else ""
        raise Problem("scope_missing", f"the key {caller.name} must have the scope {scope}{reason}, found {has}")


def caller_of(request: Request) -> Caller:
    """Who sent a request that has passed `Authentication`."""
    caller: Caller = request.scope[CALLER]
    return caller
