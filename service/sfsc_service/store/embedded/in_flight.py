"""Which calls are under way: `close` lets them finish and lets no new one in."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sfsc_service.store.errors import StoreClosedError, StoreFailedError

__all__ = ["InFlightCalls"]


class InFlightCalls:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around the body of every public method.

        Raises:
            StoreClosedError: `close` was called before.
            StoreFailedError: in place of what SQLite, the file system, the memory or faiss raised.
        """
        with self._changed:
            if self._closed:
                raise StoreClosedError("store: it must be open; found it closed")
            self._running += 1
        try:
            yield
        except (sqlite3.Error, OSError, MemoryError, RuntimeError) as error:
            found = f"{type(error).__name__}: {error}"
            raise StoreFailedError(f"store: disk, record and memory must be in order; found {found}") from error
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._running)
