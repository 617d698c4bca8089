"""One log line for every write: who, what, which item or collection, what became of it, in which request."""

import logging
from types import TracebackType
from typing import Self

from starlette.requests import Request

from sfsc_service.http.auth import caller_of
from sfsc_service.http.collection import collection_of
from sfsc_service.http.request_log import address_of
from sfsc_service.store.collections import DEFAULT

__all__ = ["AUDIT", "AuditedWrite", "audited_item", "log_write"]

AUDIT = __name__
"""The logger of these lines."""

log = logging.getLogger(AUDIT)


class AuditedWrite:
    """`with AuditedWrite(request, "put", audited_item(request, id)) as write:` logs one write when the block ends.

    The block sets `outcome`; where it raises, the outcome is the code of the error.
    """

    def __init__(self, request: Request, action: str, subject: str) -> None:
        self._request, self._action, self._subject = request, action, subject
        self.outcome = "unknown"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = self.outcome if error is None else str(getattr(error, "code", type(error).__name__))
        _log(self._request, self._action, self._subject, outcome)


def log_write(request: Request, action: str, id: str | None, outcome: str) -> None:
    """Log one write of an item."""
    if log.isEnabledFor(logging.INFO):
        _log(request, action, audited_item(request, id), outcome)


def audited_item(request: Request, id: str | None) -> str:
    """How the log names an item: with its collection, unless that is `default`."""
    collection = collection_of(request)
    return f"item {id!r}" if collection == DEFAULT else f"item {id!r} of collection {collection!r}"


def _log(request: Request, action: str, subject: str, outcome: str) -> None:
    address = address_of(request.scope)
    log.info("%s at %s: %s %s: %s", caller_of(request).name, address, action, subject, outcome)
