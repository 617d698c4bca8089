"""When a request arrived, and when its body had come: under load, both are long before its endpoint runs."""

import time

from starlette.requests import Request

from sfsc_service.engine.embedder import Arrival

__all__ = ["ARRIVED", "READ_AT", "WAITED_MS", "arrival_of"]

ARRIVED = "sfsc.arrived"
"""Key of the ASGI scope that holds the time of arrival in seconds, monotonic."""
READ_AT = "sfsc.read_at"
"""Key of the ASGI scope that holds when the body had come whole, in seconds, monotonic."""
WAITED_MS = "sfsc.waited_ms"
"""Key of the ASGI scope that holds for how long the request may have waited to be read."""


def arrival_of(request: Request, *, bulk: bool = False) -> Arrival:
    """The arrival that the connection noted; the present time under a server that notes none.

    To be asked for once the body has been read, where the request may wait for a network.
    """
    scope = request.scope
    arrived, waited_ms = scope.get(ARRIVED) or time.monotonic(), scope.get(WAITED_MS, 0.0)
    return Arrival(arrived, bulk=bulk, waited_ms=waited_ms, read_at=scope.get(READ_AT))
