"""The best hits of the best groups; a group is the items that have one value in a field of their metadata.

Found by searches with filters, each for so many hits that most galleries need one: as long as there are too few
groups, one more search leaves out those that were found; then one more asks for those of which hits are missing.
Each of these searches finds a new group or completes one, so there are at most as many as groups.

Items whose field is missing, null, a list or an object are in no group. Every search sees the changes before it,
so an item that is changed meanwhile may be in two groups.
"""

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sfsc_service.gallery.hit_selection import Grouping, HitSelection, cosine
from sfsc_service.store.filters.terms import identity
from sfsc_service.store.protocol import Filter, Hit

__all__ = ["MAX_GROUPS", "group_of", "grouped_hits"]

MAX_GROUPS = 256
"""Groups that a filter may name, with room for a filter of the caller's own."""
LEAST_FETCHED = 64
MOST_FETCHED = 8_192
"""Searches for more hits than these numbers are made only where so many are wanted."""


def grouped_hits(
    search: Callable[[Filter, int], list[Hit]], selection: HitSelection, grouping: Grouping, filter: Filter | None
) -> list[Hit]:
    """The hits of the selected groups, group by group, the group with the best hit first.

    Args:
        search: the given number of best hits that meet a filter, or all of them.
        selection: of groups in the place of hits; `offset` + `k` are at most MAX_GROUPS.
    """
    found = _GroupedSearch(search, selection, grouping, filter).find()
    return [hit for group in found for hit in group.hits[: grouping.size]]


def group_of(hit: Hit, grouping: Grouping) -> str | int | float | bool | None:
    """The value that a hit shares with its group."""
    value: Any = hit.metadata
    for name in grouping.path:
        value = value.get(name) if isinstance(value, dict) else None
    return None if isinstance(value, dict | list) else value


@dataclass(slots=True)
class _Group:
    """`hits`: the best ones, as many as were found. `whole`: no others are hits."""

    value: str | int | float | bool | None
    hits: list[Hit] = field(default_factory=list)
    whole: bool = False


class _GroupedSearch:
    def __init__(
        self,
        search: Callable[[Filter, int], list[Hit]],
        selection: HitSelection,
        grouping: Grouping,
        filter: Filter | None,
    ) -> None:
        self._search, self._selection, self._grouping = search, selection, grouping
        self._wanted = selection.offset + selection.k
        # Twice what is wanted, so that one of the groups is completed by each search, whatever the others have.
        self._most = max(MOST_FETCHED, 2 * self._wanted * grouping.size)
        self._fetched = max(LEAST_FETCHED, 2 * self._wanted * grouping.size)
        self._conditions = [_has_group(grouping.name), *([] if filter is None else [filter])]

    def find(self) -> list[_Group]:
        chosen = self._best_groups()[self._selection.offset : self._wanted]
        for _ in range(len(chosen)):
            lacking = [group for group in chosen if not group.whole and len(group.hits) < self._grouping.size]
            if not lacking:
                break
            again = self._groups_where("$in", lacking)
            for group in lacking:
                found = again.get(identity(group.value))
                group.hits, group.whole = (found.hits, found.whole) if found else ([], True)
        return chosen

    def _best_groups(self) -> list[_Group]:
        """The groups that are wanted, or all there are; maybe more."""
        found: list[_Group] = []
        for _ in range(self._wanted):
            more = self._groups_where("$nin", found)
            found += more.values()
            if len(found) >= self._wanted or not more or found[-1].whole:
                break
        return found

    def _groups_where(self, operator: str, groups: Sequence[_Group]) -> Mapping[Hashable, _Group]:
        """The groups of the best hits that are in none of `groups` (`$nin`) or in one of them (`$in`)."""
        condition = {self._grouping.name: {operator: [group.value for group in groups]}}
        fetched = self._fetched + len(self._selection.exclude)
        nearest = self._search({"$and": [*self._conditions, condition]}, fetched)
        self._fetched = min(2 * self._fetched, self._most)
        hits = self._selection.admitted(nearest)
        whole = len(nearest) < fetched or cosine(nearest[-1].score) < self._selection.min_score
        found: dict[Hashable, _Group] = {}
        for hit in hits:
            value = group_of(hit, self._grouping)
            found.setdefault(identity(value), _Group(value, whole=whole)).hits.append(hit)
        return found


def _has_group(name: str) -> Filter:
    """The field is a number, a text, true or false."""
    return {
        "$or": [
            {name: {"$gte": -sys.float_info.max}},
            {name: {"$gte": ""}},
            {name: {"$in": [True, False]}},
        ]
    }
