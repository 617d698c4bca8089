"""POST /search with NDJSON: a search a line, each with an outcome of its own, in the order of the lines.

They are made window by window, with the low priority of bulk calls; the rest is not read from the socket yet.
"""

import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
from fastapi import Request, Response

from sfsc_bundle.errors import ImageError
from sfsc_service.engine.embedder import Arrival
from sfsc_service.errors import Problem
from sfsc_service.gallery.bulk_insert import WINDOW_TEXT_BYTES
from sfsc_service.gallery.bulk_load import BulkCall, BulkWindow
from sfsc_service.http.auth import caller_of
from sfsc_service.http.base64_image import decode_image
from sfsc_service.http.bounded_request import hold_response
from sfsc_service.http.bulk_results import problem_json
from sfsc_service.http.collection import collection_of, gallery_of
from sfsc_service.http.disconnect import UploadWatch
from sfsc_service.http.json_document import Body, read_object
from sfsc_service.http.ndjson_body import parsed_lines
from sfsc_service.http.problems import as_problem
from sfsc_service.http.request_body import check_size, max_document_bytes, query_options, validate
from sfsc_service.http.responses import results_response, timing
from sfsc_service.http.schemas import SearchOptions
from sfsc_service.http.search_request import SearchRequest, answer_json
from sfsc_service.http.together import together
from sfsc_service.lifecycle.service import Service
from sfsc_service.settings import Settings
from sfsc_service.store.errors import StoreError
from sfsc_service.store.filters.language import parse

__all__ = ["search_many"]

WINDOW = 64
WINDOW_BYTES = 32 * 2**20
MAX_ANSWER_BYTES = 64 * 2**20
"""Of the hits of a call; searches are refused once they have so many."""

FILTER_OBJECTS = 25
"""The bytes of a filter's objects for each byte of it as JSON, at most."""
ID_OBJECTS = 130
"""The bytes of an id in a set and of its place there."""

BEGUN_AT_ONCE = 4
"""Searches of a call that begin in a turn of the event loop: many calls may come at once."""

SEARCH_ERRORS = (Problem, ImageError, StoreError)


class _Line(NamedTuple):
    """A search or why it is none; the bytes of its image, and of the rest of its line and what was made of it."""

    search: SearchRequest | Exception
    image_bytes: int = 0
    text_bytes: int = 0


async def search_many(request: Request, arrival: Arrival) -> Response:
    """Make the searches of a body."""
    settings: Settings = request.app.state.service.settings
    parse_line = partial(
        _search_of_line,
        common=query_options(request),
        max_document=max_document_bytes(request),
        settings=settings,
    )
    results: list[list[bytes]] = []
    with gallery_of(request).bulk.call() as call:
        searches = _Searches(request, arrival, call)
        async with UploadWatch(request):
            async for window in _windows(parsed_lines(request, parse_line, "queries")):
                results += await searches.search([line.search for line in window])
    return results_response(results, timing(arrival, []))


class _Searches:
    def __init__(self, request: Request, arrival: Arrival, call: BulkCall) -> None:
        self._request = request
        self._service: Service = request.app.state.service
        self._gallery, self._collection = gallery_of(request), collection_of(request)
        self._caller = caller_of(request)
        self._arrival, self._call = arrival, call
        self._answer_bytes = 0
        self._begun = False

    async def search(self, window: list[SearchRequest | Exception]) -> list[list[bytes]]:
        """The outcomes of searches as pieces of JSON, in their order.

        Raises:
            Problem: bulk_full, and no search of this call has been made; queue_full, no memory is left for the
                answer.
        """
        images = sum(isinstance(one, SearchRequest) and one.image is not None for one in window)
        if images:
            self._call.admit(begun=self._begun)
        self._begun = True
        with self._call.window(images) as under_way:
            return await together((self._held_outcome(search, under_way) for search in window), BEGUN_AT_ONCE)

    async def _held_outcome(self, search: SearchRequest | Exception, window: BulkWindow) -> list[bytes]:
        """The outcome of a search, counted as held. Raises Problem: queue_full, which concerns the whole call."""
        outcome = await self._outcome(search, window)
        hold_response(self._request, outcome)
        return outcome

    async def _outcome(self, search: SearchRequest | Exception, window: BulkWindow) -> list[bytes]:
        if isinstance(search, Exception):
            return [orjson.dumps(problem_json(as_problem(search)))]
        if search.image is not None:
            self._caller.count_images(1)
        repeated = window.repeated if search.image is None else window.through
        try:
            return await repeated(lambda gives_up: self._search(search, gives_up))
        except SEARCH_ERRORS as error:
            return [orjson.dumps(problem_json(as_problem(error)))]

    async def _search(self, search: SearchRequest, gives_up: float) -> list[bytes]:
        if self._service.health.draining:
            raise Problem("shutting_down", "the service is shutting down and takes no further searches")
        self._check_answer()
        arrival = Arrival.now(bulk=True, gives_up=gives_up)
        query, found = await search.run(self._gallery, self._collection, arrival, used_ms=self._arrival.elapsed_ms)
        self._check_answer()  # others of the window have ended meanwhile
        self._answer_bytes += sum(map(len, found.answer))
        return answer_json(query, found, arrival, {"status": 200}, {})

    def _check_answer(self) -> None:
        if self._answer_bytes > MAX_ANSWER_BYTES:
            rule = f"the hits of a call may have at most {MAX_ANSWER_BYTES} bytes"
            raise Problem("limit_exceeded", f"queries: {rule}, found more before this one", "queries")


def _search_of_line(line: Body, common: dict[str, Any], max_document: int, settings: Settings) -> _Line:
    text_bytes = len(line)
    try:
        fields = {**common, **read_object(line, max_document)}
        encoded = fields.pop("image", None)
        image = None if encoded is None else decode_image(encoded, "image")
        text_bytes -= 0 if encoded is None else len(encoded)
        image_bytes = 0 if image is None else len(image)
        check_size(image_bytes, settings.max_image_bytes)
        options = validate(SearchOptions, fields)
        if options.filter is not None:
            # Now, because one that breaks the rules may be large, and would wait with its window.
            parse(options.filter)
        text_bytes += _object_bytes(options)
        return _Line(SearchRequest(options, image, settings.max_k), image_bytes, text_bytes)
    except SEARCH_ERRORS as error:
        error.__traceback__ = error.__cause__ = error.__context__ = None  # whose frames hold what was parsed
        return _Line(error, 0, text_bytes)


def _object_bytes(options: SearchOptions) -> int:
    """What a filter and ids take in memory, about, beside the text that they were read from."""
    filter_bytes = 0 if options.filter is None else FILTER_OBJECTS * len(json.dumps(options.filter))
    return filter_bytes + sum(ID_OBJECTS + len(one) for one in options.exclude)


async def _windows(batches: AsyncIterator[Sequence[_Line | Problem]]) -> AsyncIterator[list[_Line]]:
    """Lines to be worked on together; a Problem takes the place of a body's rest."""
    window: list[_Line] = []
    async for line in (line async for batch in batches for line in batch):
        window.append(_Line(line) if isinstance(line, Problem) else line)
        images, text = sum(one.image_bytes for one in window), sum(one.text_bytes for one in window)
        if len(window) >= WINDOW or images >= WINDOW_BYTES or text >= WINDOW_TEXT_BYTES:
            yield window
            window = []
    if window:
        yield window
