"""How many items there are of each width, known without asking Milvus.

Changes of this process are added at once. Those of others are learnt by counting anew; a count during which this
process was changing something is not used, unless the last one that was used is old.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sfsc_service.store.filters.milvus import one_of
from sfsc_service.store.milvus.client import CollectionClient

__all__ = ["WidthCounts"]

_OLD_S = 30.0


class WidthCounts:
    """Counts once when it is made. Raises StoreError."""

    def __init__(self, client: CollectionClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._under_way = self._ended = 0
        self._counts = Counter[str]()
        self._counted = time.monotonic()
        self._counts = self._ask()

    def now(self) -> dict[str, int]:
        """Items by width; never waits for Milvus."""
        with self._lock:
            return {width: count for width, count in self._counts.items() if count > 0}

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Around a change in Milvus and the call of `change` that tells of it."""
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._ended += 1

    def change(self, added: Iterable[str], removed: Iterable[str]) -> None:
        """Widths of items that were added and removed."""
        with self._lock:
            self._counts.update(added)
            self._counts.subtract(removed)

    def refresh(self) -> None:
        """Count anew. Raises StoreError."""
        with self._lock:
            quiet, ended = not self._under_way, self._ended
        counts = self._ask()
        with self._lock:
            quiet = quiet and not self._under_way and ended == self._ended
            if quiet or time.monotonic() - self._counted > _OLD_S:
                self._counts, self._counted = counts, time.monotonic()

    def _ask(self) -> Counter[str]:
        """Count what is known, then look for a width that is not, until there is none."""
        known = list(self.now())
        counts = Counter({width: self._client.count(f'(width == "{width}")') for width in known})
        while others := self._client.first_rows(_other_than(known), 1, ["width"]):
            width = others[0]["width"]
            known.append(width)
            counts[width] = self._client.count(f'(width == "{width}")')
        return counts


def _other_than(widths: list[str]) -> str:
    return f"(not {one_of('width', widths)})" if widths else '(id > "")'
