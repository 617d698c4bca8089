"""One search, as a request or a line of one asks for it."""

from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from sfsc_service.engine.embedder import Arrival
from sfsc_service.errors import Problem
from sfsc_service.gallery.gallery import Found, Gallery, Query
from sfsc_service.gallery.grouped_search import MAX_GROUPS
from sfsc_service.gallery.hit_selection import Grouping, HitSelection
from sfsc_service.http.query_source import budget_of, caller_vector, crop_of, refuse_budget, require_one
from sfsc_service.http.responses import hits_json, query_json
from sfsc_service.http.schemas import SearchOptions
from sfsc_service.store.filters.operands import read_field
from sfsc_service.store.protocol import MAX_PAGE

__all__ = ["SearchRequest", "answer_json"]

LEAST_MS = 0.001
"""A deadline that has passed."""


class SearchRequest:
    """A search that was checked; nothing is computed yet.

    Args:
        image: encoded; None where the options name another source.

    Raises:
        Problem, InvalidFilterError: an option breaks a rule.
    """

    def __init__(self, options: SearchOptions, image: bytes | None, max_k: int) -> None:
        self.image = image
        self._selection = _selection(options, max_k)
        self._source = require_one(
            image=image is not None, vector=options.vector is not None, id=options.id is not None
        )
        self._vector = caller_vector(options) if self._source == "vector" else None
        self._options = options.model_copy(update={"vector": None, "exclude": []})  # which are kept above

    async def run(
        self, gallery: Gallery, collection: str, arrival: Arrival, used_ms: float = 0.0
    ) -> tuple[Query, Found[list[bytes]]]:
        """The query and its hits in the gallery of a collection, as pieces of JSON.

        Args:
            used_ms: what has passed of the caller's deadline before `arrival`.
        """
        query = await self._query(gallery, arrival, used_ms)
        options, selection = self._options, self._selection
        render = partial(hits_json, collection=collection, encoding=options.encoding, grouping=selection.grouping)
        return query, await gallery.search(query, selection, options.filter, render, arrival, exact=options.exact)

    async def _query(self, gallery: Gallery, arrival: Arrival, used_ms: float) -> Query:
        options = self._options
        if self.image is not None:
            budget = budget_of(options)
            if budget.deadline_ms is not None:
                budget = replace(budget, deadline_ms=max(budget.deadline_ms - used_ms, LEAST_MS))
            filtered = options.filter is not None or options.group_by is not None
            return await gallery.query_image(self.image, crop_of(options), budget, arrival, filtered=filtered)
        if self._vector is not None:
            return gallery.query_vector(self._vector)
        refuse_budget(options, "id")
        assert options.id is not None
        return await gallery.query_item(options.id)


def answer_json(
    query: Query, found: Found[list[bytes]], arrival: Arrival, before: dict[str, Any], after: dict[str, Any]
) -> list[bytes]:
    """What is answered to one search, as pieces of a JSON object; members that stand before and after."""
    first = orjson.dumps({**before, "query": query_json(query, arrival)})
    last = orjson.dumps({"exact": found.exact, **after})
    return [first[:-1], b',"hits":', *found.answer, b",", last[1:]]


def _selection(options: SearchOptions, max_k: int) -> HitSelection:
    """Which hits are wanted. Raises Problem or InvalidFilterError where they are too many or cannot be grouped."""
    _check_bound("k", options.k, max_k, "here")
    _check_bound("offset", options.offset + options.k, max_k, "here together with k")
    grouping = _grouping(options)
    if grouping is not None:
        most = min(MAX_GROUPS, max_k // grouping.size)
        _check_bound("k", options.offset + options.k, most, f"with offset, in groups of {grouping.size}")
    if options.vectors:
        _check_bound("k", options.k * options.group_size, MAX_PAGE, "hits where they have vectors")
    itself = [] if options.id is None or options.include_self else [options.id]
    excluded = frozenset([*options.exclude, *itself])
    return HitSelection(options.k, options.offset, options.min_score, excluded, options.vectors, grouping)


def _grouping(options: SearchOptions) -> Grouping | None:
    name, size = options.group_by, options.group_size
    if name is None:
        if size != 1:
            detail = f"group_size: must be set with group_by only, found {size}"
            raise Problem("invalid_parameter", detail, "group_size")
        return None
    if name.startswith("$"):
        detail = f"group_by: must be a field of the metadata, found {name[:80]!r}"
        raise Problem("invalid_parameter", detail, "group_by")
    return Grouping(name, read_field(name, "group_by").path, size)


def _check_bound(parameter: str, found: int, most: int, where: str) -> None:
    if found > most:
        raise Problem(
            "invalid_parameter", f"{parameter}: must be at most {most} {where}, found {found}", parameter
        )
