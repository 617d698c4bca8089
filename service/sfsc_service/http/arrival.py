"""When a request arrived: when its head was read, which may be long before its handler has its turn."""

import time

from starlette.requests import Request

from sfsc_service.engine.embedder import Arrival

__all__ = ["ARRIVED", "arrival_of"]

ARRIVED = "sfsc.arrived"
"""The key of an ASGI scope that holds it: seconds, monotonic."""


def arrival_of(request: Request, *, bulk: bool = False) -> Arrival:
    """The moment that the connection has noted; now, where the server is another one."""
    return Arrival(request.scope.get(ARRIVED) or time.monotonic(), bulk=bulk)
