"""Locks of ids: changes of the same item follow each other, those of other items go on beside them."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["IdLocks"]


class IdLocks:
    """Takes all ids of a change at once, so that no two changes wait for each other."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held = set[str]()

    @contextmanager
    def held(self, ids: Iterable[str]) -> Iterator[None]:
        """Wait until no other thread holds one of `ids`, and hold them."""
        wanted = frozenset(ids)
        with self._changed:
            self._changed.wait_for(lambda: self._held.isdisjoint(wanted))
            self._held |= wanted
        try:
            yield
        finally:
            with self._changed:
                self._held -= wanted
                self._changed.notify_all()
