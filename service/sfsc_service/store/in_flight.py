"""Counts the calls under way: `close` waits for them and refuses new ones."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sfsc_service.store.errors import StoreClosedError, StoreFailedError

__all__ = ["InFlightCalls", "cause_of"]

_log = logging.getLogger(__name__)


def cause_of(error: Exception) -> str:
    """What failed, without the path of a file, which is no business of callers."""
    return f"{error.strerror}" if isinstance(error, OSError) else f"{error}"


class InFlightCalls:
    """`failures`: what storage raises when it fails, apart from errors of the system."""

    def __init__(self, failures: tuple[type[Exception], ...] = ()) -> None:
        self._failures: tuple[type[Exception], ...] = (*failures, OSError, MemoryError, RuntimeError)
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False

    @contextmanager
    def call(self, *, opening: bool = False) -> Iterator[None]:
        """Around the body of every public method.

        Args:
            opening: whether an error is shown to the operator, with the path of its file, and to nobody else.

        Raises:
            StoreClosedError: `close` was called before.
            StoreFailedError: in place of any error of the storage, the file system or memory.
        """
        with self._changed:
            if self._closed:
                raise StoreClosedError("the store is closed")
            self._running += 1
        try:
            yield
        except self._failures as error:
            if not opening:
                _log.error("a call of the store failed with %s: %s", type(error).__name__, error)
            cause = error if opening else cause_of(error)
            raise StoreFailedError(f"storage failure: {type(error).__name__}: {cause}") from error
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._running)
