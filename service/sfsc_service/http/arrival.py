"""When a request arrived: when its head was complete, which under load is long before its endpoint runs."""

import time

from starlette.requests import Request

from sfsc_service.engine.embedder import Arrival

__all__ = ["ARRIVED", "arrival_of"]

ARRIVED = "sfsc.arrived"
"""Key of the ASGI scope that holds the time of arrival in seconds, monotonic."""


def arrival_of(request: Request, *, bulk: bool = False) -> Arrival:
    """The arrival that the connection noted; the present time under a server that notes none."""
    return Arrival(request.scope.get(ARRIVED) or time.monotonic(), bulk=bulk)
