"""When a request arrived: when its head was complete, which under load is long before its endpoint runs."""

import time

from starlette.requests import Request

from sfsc_service.engine.embedder import Arrival

__all__ = ["ARRIVED", "WAITED_MS", "arrival_of"]

ARRIVED = "sfsc.arrived"
"""Key of the ASGI scope that holds the time of arrival in seconds, monotonic."""
WAITED_MS = "sfsc.waited_ms"
"""Key of the ASGI scope that holds for how long the request may have waited to be read."""


def arrival_of(request: Request, *, bulk: bool = False) -> Arrival:
    """The arrival that the connection noted; the present time under a server that notes none."""
    scope = request.scope
    return Arrival(scope.get(ARRIVED) or time.monotonic(), bulk=bulk, waited_ms=scope.get(WAITED_MS, 0.0))
