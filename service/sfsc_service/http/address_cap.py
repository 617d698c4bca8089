"""How many requests of one address may be under way, so that one caller cannot take all of the queue."""

from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from sfsc_service.errors import Problem
from sfsc_service.http.access import HEALTH_PATHS

__all__ = ["AddressCap"]


class AddressCap:
    """ASGI layer inside of what reads a trusted proxy's headers, so that an address is the caller's own."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises Problem: address_limit."""
        client = scope.get("client")
        if client is None or scope["path"] in HEALTH_PATHS:
            await self._app(scope, receive, send)
            return
        address = client[0]
        if self._under_way[address] >= self._most:
            detail = f"requests: at most {self._most} of one address may be under way"
            raise Problem("address_limit", detail, retry_after_s=1.0)
        self._under_way[address] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[address] -= 1
            if not self._under_way[address]:
                del self._under_way[address]
