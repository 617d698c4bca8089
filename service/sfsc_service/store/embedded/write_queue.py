"""The writer thread and its queue: one thread makes all changes, those of several callers together.

Invariants:
- Requests are handled in the order in which they came, each in exactly one group, and each is answered.
- The thread survives every error: whatever a group raises is the answer of its requests that have none yet.
- The queue is bounded by its number of items; `close` handles what is queued.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sfsc_service.store.embedded.changes import AppliedChange
from sfsc_service.store.embedded.sqlite.writer import DatabaseWriter
from sfsc_service.store.errors import OutcomeUnknownError, StoreBusyError, StoreClosedError, StoreError

__all__ = ["WriteQueue", "WriteRequest"]

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class WriteRequest:
    """The change of one call. `items`: how many it concerns. `images`: digests, pinned until it is done."""

    change: Callable[[DatabaseWriter], AppliedChange]
    items: int
    images: Sequence[str] = ()
    future: "Future[AppliedChange]" = field(default_factory=Future)


class WriteQueue:
    """Hands groups of requests to `handle`, which answers them, in a thread of its own.

    Args:
        max_items: that may wait; a single larger request may wait alone.
        max_group_items: that are handled together; a larger request is a group by itself.
        timeout_s: seconds that a request waits for space in the queue.
    """

    def __init__(
        self,
        handle: Callable[[list[WriteRequest]], None],
        max_items: int,
        max_group_items: int,
        timeout_s: float,
    ) -> None:
        self._handle = handle
        self._max_items = max_items
        self._max_group_items = max_group_items
        self._timeout_s = timeout_s
        self._requests: deque[WriteRequest] = deque()
        self._queued_items = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sfsc-store-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, request: WriteRequest) -> "Future[AppliedChange]":
        """Queue a request.

        Raises:
            StoreBusyError: there was no space in the queue for `timeout_s`.
            StoreClosedError: the queue is closing or closed.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._closing or self._fits(request), self._timeout_s):
                rule = f"at most {self._max_items} changed items may wait"
                raise StoreBusyError(f"store: {rule}; found {self._queued_items} after {self._timeout_s:g} s")
            if self._closing:
                raise StoreClosedError("the store is closed")
            self._requests.append(request)
            self._queued_items += request.items
            self._changed.notify_all()
        return request.future

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _fits(self, request: WriteRequest) -> bool:
        return not self._requests or self._queued_items + request.items <= self._max_items

    def _run(self) -> None:
        while group := self._next_group():
            error: StoreError = OutcomeUnknownError("the writer thread did not answer this change")
            try:
                self._handle(group)
            except StoreError as failure:
                _log.error("a group of %d changes failed: %s", len(group), failure, exc_info=failure.__cause__)
                error = failure
            except Exception as failure:
                _log.exception("the writer thread failed at a group of %d changes and continues", len(group))
                error = OutcomeUnknownError(f"the writer thread failed: {failure!r}")
            for request in group:
                if not request.future.done():
                    request.future.set_exception(error)

    def _next_group(self) -> list[WriteRequest]:
        """The requests to handle next; none when the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._closing)
            group: list[WriteRequest] = []
            items = 0
            while self._requests and (not group or items + self._requests[0].items <= self._max_group_items):
                group.append(self._requests.popleft())
                items += group[-1].items
            self._queued_items -= items
            self._changed.notify_all()
            return group
