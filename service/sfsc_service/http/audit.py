"""One log line for every write: who, what, which item, what became of it, in which request."""

import ipaddress
import logging
from functools import lru_cache
from types import TracebackType
from typing import Self

from starlette.requests import Request

from sfsc_service.http.auth import caller_of

__all__ = ["AUDIT", "AuditedWrite", "log_write"]

AUDIT = __name__
"""The logger of these lines."""

log = logging.getLogger(AUDIT)


class AuditedWrite:
    """`with AuditedWrite(request, "put", id) as write:` logs one write when the block ends.

    The block sets `outcome`; where it raises, the outcome is the code of the error.
    """

    def __init__(self, request: Request, action: str, id: str) -> None:
        self._request, self._action, self._id = request, action, id
        self.outcome = "unknown"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = self.outcome if error is None else str(getattr(error, "code", type(error).__name__))
        log_write(self._request, self._action, self._id, outcome)


def log_write(request: Request, action: str, id: str | None, outcome: str) -> None:
    """Log one write."""
    if not log.isEnabledFor(logging.INFO):
        return
    client = request.client
    log.info(
        "%s at %s: %s item %r: %s",
        caller_of(request).name,
        _address("" if client is None else client.host),
        action,
        id,
        outcome,
    )


@lru_cache(64)
def _address(host: str) -> str:
    """The caller's address, which a trusted proxy may have passed on from a header that the caller wrote."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "an unknown address"
