"""Stored vectors are brought into the space in force, after an alignment was put in force or undone.

Invariants:
- An item's space says whether its vector was converted, so it is converted once, whenever a pass is interrupted.
- Only vector and space change, and only if the item is as it was when it was read.
- A pass works in idle moments, and one page is read and written at a time.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sfsc_service.engine.embedder import Embedder
from sfsc_service.engine.gallery_alignment import GalleryAlignment
from sfsc_service.engine.networks import Networks
from sfsc_service.gallery.idle import IdleWork
from sfsc_service.metrics import Metrics
from sfsc_service.store.protocol import Filter, Store, StoredItem, VectorChange

__all__ = ["VectorConversion"]

PAGE = 250


class _ConvertedPage(NamedTuple):
    """`looked_at` items, of which `found` were of the other space, and what became of those."""

    cursor: str | None
    looked_at: int
    found: int
    replaced: int


class VectorConversion:
    """Converts what stores hold.

    Attributes:
        unchecked: items that the pass under way has not looked at yet.
        converted: items that were converted since the start.
    """

    def __init__(self, embedder: Embedder, idle: IdleWork, metrics: Metrics) -> None:
        self._embedder, self._idle, self._metrics = embedder, idle, metrics
        self.unchecked = self.converted = 0

    async def run_pass(self, store: Store, networks: Networks, alignment: GalleryAlignment) -> int:
        """Look at every item of a store that may need it; how many were of the other space, converted or not.

        Ends early when other networks are served. Raises StoreError, and Problem: shutting_down.
        """
        among: Filter | None = {"$width": {"$in": list(alignment.maps)}} if alignment.in_force else None
        widths = store.composition()
        self.unchecked = sum(n for width, n in widths.items() if among is None or width in alignment.maps)
        cursor, found = None, 0
        while self._embedder.networks is networks:
            page = await self._idle.call(_convert_page, store, alignment, cursor, among)
            found += page.found
            self.converted += page.replaced
            self._metrics.align_items.labels("converted").inc(page.replaced)
            self._metrics.align_items.labels("changed").inc(page.found - page.replaced)
            self.unchecked = max(0, self.unchecked - page.looked_at)
            if (cursor := page.cursor) is None:
                break
        self.unchecked = 0
        return found


def _convert_page(
    store: Store, alignment: GalleryAlignment, cursor: str | None, among: Filter | None
) -> _ConvertedPage:
    page = store.page(cursor, PAGE, among)
    changes = _changes([item for item in page.items if item.space == alignment.other], alignment)
    replaced = store.replace_vectors(changes) if changes else []
    return _ConvertedPage(page.cursor, len(page.items), len(changes), sum(replaced))


def _changes(items: Sequence[StoredItem], alignment: GalleryAlignment) -> list[VectorChange]:
    by_width = defaultdict[str, list[StoredItem]](list)
    for item in items:
        by_width[item.width].append(item)
    changes = list[VectorChange]()
    for width, alike in by_width.items():
        vectors, space = alignment.bring(np.stack([item.vector for item in alike]), width, alignment.other)
        changes += [VectorChange(item, space, width, row) for item, row in zip(alike, vectors, strict=True)]
    return changes
