"""Pairs of items that are near to each other, page by page.

Items are taken in the order of their ids, and the nearest items of each are searched; a pair is found with the
item whose id comes first. A call ends at the page's limit or when its time is up, and its cursor leads on.

Nothing is held between calls, and other calls may change items meanwhile: two items that stay as they are make a
pair exactly once in all pages together; one that is changed is compared as it was at one moment or another. Of an
item, no more than MOST_NEIGHBOURS are looked at, which the page says where there were more.
"""

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sfsc_service.gallery.hit_selection import cosine
from sfsc_service.gallery.store_search import search_store
from sfsc_service.store.errors import InvalidCursorError
from sfsc_service.store.protocol import Filter, Hit, Store, StoredItem

__all__ = ["DuplicatesPage", "NearDuplicates", "Pair"]

ITEMS_AT_ONCE = 32
"""Searched in one call of the store; the time is looked at in between."""
FIRST_NEIGHBOURS = 16
NEIGHBOURS_FACTOR = 8
MOST_NEIGHBOURS = 1_024
TIME_S = 1.0
"""Of a call, until no further items are begun with."""


class Pair(NamedTuple):
    """Two items, and how near they are."""

    first: StoredItem
    second: Hit


@dataclass(slots=True)
class DuplicatesPage:
    """What a call found.

    Attributes:
        cursor: leads to what follows; None where nothing does.
        compared: items that were searched with.
        exact: whether no neighbour can have been missed.
        truncated: whether items had more neighbours than were looked at.
    """

    pairs: list[Pair] = field(default_factory=list)
    cursor: str | None = None
    compared: int = 0
    exact: bool = True
    truncated: bool = False


class _Place(NamedTuple):
    """What follows: the page of items behind `page`, from the item `first` on, whose pairs follow `second`."""

    page: str | None = None
    first: str = ""
    second: str = ""


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Pairs that score at least `min_score`, among the items that meet a filter; `limit`: so many in a page."""

    min_score: float
    limit: int
    filter: Filter | None = None
    exact: bool = False

    def find(self, store: Store, cursor: str | None) -> DuplicatesPage:
        """One page, which may have fewer pairs and still be followed by others. Raises StoreError."""
        place, found = _Place() if cursor is None else _decoded(cursor), DuplicatesPage()
        end = time.monotonic() + TIME_S
        while True:
            page = store.page(place.page, ITEMS_AT_ONCE, self.filter)
            items = [item for item in page.items if item.id >= place.first]
            if (rest := self._add_pairs(store, items, place, found)) is not None:
                found.cursor = _encoded(rest)
                return found
            if page.cursor is None:
                return found
            # Items may have been inserted before the one that is to go on with.
            place = place._replace(page=page.cursor) if not items else _Place(page.cursor)
            if len(found.pairs) == self.limit or time.monotonic() > end:
                found.cursor = _encoded(place)
                return found

    def _add_pairs(
        self, store: Store, items: Sequence[StoredItem], place: _Place, found: DuplicatesPage
    ) -> _Place | None:
        """Add the pairs of `items`; where what follows begins, if there are more than the page may have."""
        for item, hits in zip(items, self._neighbours(store, items, found), strict=True):
            after = place.second if item.id == place.first else ""
            partners = sorted((hit for hit in hits if hit.id > max(item.id, after)), key=lambda hit: hit.id)
            room = self.limit - len(found.pairs)
            found.pairs += [Pair(item, hit) for hit in partners[:room]]
            if len(partners) > room:
                return place._replace(first=item.id, second=partners[room - 1].id if room else after)
            found.compared += 1
        return None

    def _neighbours(self, store: Store, items: Sequence[StoredItem], found: DuplicatesPage) -> list[list[Hit]]:
        """The items near to each of `items`, itself among them."""
        near: list[list[Hit]] = [[] for _ in items]
        pending, k = list(range(len(items))), FIRST_NEIGHBOURS
        while pending:
            queries = np.stack([items[at].vector for at in pending])
            answers, exact = search_store(store, queries, k, self.filter, exact=self.exact)
            found.exact = found.exact and exact
            for at, hits in zip(pending, answers, strict=True):
                near[at] = [hit for hit in hits if cosine(hit.score) >= self.min_score]
            pending = [at for at in pending if len(near[at]) == k]
            if k == MOST_NEIGHBOURS:
                found.truncated = found.truncated or bool(pending)
                break
            k = min(NEIGHBOURS_FACTOR * k, MOST_NEIGHBOURS)
        return near


def _encoded(place: _Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _decoded(cursor: str) -> _Place:
    try:
        page, first, second = json.loads(base64.b64decode(cursor.encode(), b"-_", validate=True))
        if (
            not (page is None or isinstance(page, str))
            or not isinstance(first, str)
            or not isinstance(second, str)
        ):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise InvalidCursorError("cursor", "must be the `next` of an earlier page", f"{cursor[:80]!r}") from None
    return _Place(page, first, second)
