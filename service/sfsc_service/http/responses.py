"""JSON responses, written by orjson; what goes out is not validated again."""

from typing import Any
from urllib.parse import quote

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

from sfsc_service.engine.embedder import Arrival, EmbeddedImage
from sfsc_service.gallery.gallery import Query
from sfsc_service.gallery.grouped_search import group_of
from sfsc_service.gallery.hit_selection import Grouping, cosine
from sfsc_service.gallery.vectors import encode_vector
from sfsc_service.store.collections import DEFAULT
from sfsc_service.store.protocol import Hit, StoredItem

__all__ = [
    "hits_json",
    "image_link",
    "item_json",
    "json_response",
    "pieces_response",
    "query_json",
    "results_response",
    "server_timing",
    "timing",
]

PIECE_BYTES = 2**16
"""Of a long answer, put together at a time."""
NUMBER_BYTES, ID_BYTES = 12, 16
"""Of a vector's number in JSON, about; of a character of an id there and in the link to its image, at most."""


def json_response(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response; the document may hold numpy arrays and orjson fragments."""
    return _JsonResponse(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), status, headers or {})


class _JsonResponse(Response):
    """Writes its headers itself: starlette's general way takes as long as serialising a vector."""

    def __init__(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.body, self.status_code, self.background = body, status, None
        length = str(len(body)).encode()
        self.raw_headers = [(b"content-length", length), (b"content-type", b"application/json")]
        self.raw_headers += [(name.lower().encode(), value.encode()) for name, value in headers.items()]


class _PiecewiseResponse(_JsonResponse):
    """Hands over its body in pieces: putting one of many megabytes together would hold up the event loop."""

    def __init__(self, pieces: list[bytes], headers: dict[str, str]) -> None:
        super().__init__(b"", 200, headers)
        self.raw_headers[0] = (b"content-length", str(sum(map(len, pieces))).encode())
        self._pieces = pieces

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def results_response(results: list[list[bytes]], times: dict[str, float]) -> Response:
    """A JSON response with the outcomes of many, each of which is JSON already, in pieces."""
    pieces = [b'{"results":[']
    for number, result in enumerate(results):
        pieces += [b",", *result] if number else result
    pieces += [b'],"timing_ms":', orjson.dumps(times), b"}"]
    return pieces_response(pieces, server_timing(times, []))


def pieces_response(pieces: list[bytes], headers: dict[str, str]) -> Response:
    """A JSON response of pieces of JSON. Small ones are put together; large ones are not copied."""
    joined, waiting, size = list[bytes](), list[bytes](), 0
    for piece in pieces:
        is_large = len(piece) > PIECE_BYTES
        if waiting and (is_large or size > PIECE_BYTES):
            joined.append(b"".join(waiting))
            waiting, size = [], 0
        if is_large:
            joined.append(piece)
        else:
            waiting.append(piece)
            size += len(piece)
    if not joined:
        return _JsonResponse(b"".join(waiting), 200, headers)
    return _PiecewiseResponse([*joined, b"".join(waiting)], headers)


def server_timing(times: dict[str, float], embedded: list[EmbeddedImage]) -> dict[str, str]:
    """The header `Server-Timing`: milliseconds by stage, and the widths with the reasons for them."""
    metrics = [f"{name};dur={ms}" for name, ms in times.items()]
    if embedded:
        metrics.append(f'width;desc="{" ".join(sorted({one.width for one in embedded}))}"')
        metrics.append(f'reason;desc="{" ".join(sorted({one.reason for one in embedded}))}"')
    return {"Server-Timing": ", ".join(metrics)}


def image_link(id: str, collection: str) -> str:
    """The path of an item's image, relative to the service's root."""
    path = f"items/{quote(id, safe='')}/image"
    return path if collection == DEFAULT else f"collections/{collection}/{path}"


def hits_json(hits: list[Hit], collection: str, encoding: str, grouping: Grouping | None) -> list[bytes]:
    """Hits in a collection as a JSON list, in pieces: one of many megabytes would hold up every other thread.

    Args:
        encoding: of their vectors, where they have them.
    """
    pieces, waiting, size = list[bytes](), list[dict[str, Any]](), 0
    for hit in hits:
        document = hit_json(hit, collection, encoding)
        if grouping is not None:
            document["group"] = group_of(hit, grouping)
        waiting.append(document)
        size += len(hit.metadata_json) + ID_BYTES * len(hit.id)
        size += 0 if hit.vector is None else NUMBER_BYTES * hit.vector.size
        if size > PIECE_BYTES:
            pieces.append(_members(waiting, first=not pieces))
            waiting, size = [], 0
    if waiting:
        pieces.append(_members(waiting, first=not pieces))
    return [*pieces, b"]"] if pieces else [b"[]"]


def _members(documents: list[dict[str, Any]], *, first: bool) -> bytes:
    """Members of a JSON list, the first of them behind its bracket."""
    text = orjson.dumps(documents, option=orjson.OPT_SERIALIZE_NUMPY)
    return text[:-1] if first else b"," + text[1:-1]


def hit_json(hit: Hit, collection: str, encoding: str) -> dict[str, Any]:
    """One hit; its metadata, which is JSON already, is not parsed."""
    document = {
        "id": hit.id,
        "score": cosine(hit.score),
        "width": hit.width,
        "metadata": orjson.Fragment(hit.metadata_json),
        "image": image_link(hit.id, collection) if hit.image_digest else None,
    }
    if hit.vector is not None:
        document["embedding"] = encode_vector(hit.vector, encoding)
    return document


def query_json(query: Query, arrival: Arrival) -> dict[str, Any]:
    """The width of a query or of a new item, why it was chosen, and whether the budget is met."""
    return {"width": query.width, "reason": query.reason, "budget_met": query.budget_met(arrival)}


def item_json(item: StoredItem, collection: str, encoding: str | None) -> dict[str, Any]:
    """An item of a collection, with its vector unless `encoding` is None."""
    document: dict[str, Any] = {
        "id": item.id,
        "space": item.space,
        "width": item.width,
        "metadata": item.metadata,
        "image": image_link(item.id, collection) if item.image_digest else None,
        "image_sha256": item.image_digest,
    }
    if encoding is not None:
        document["embedding"] = encode_vector(item.vector, encoding)
    return document


def timing(arrival: Arrival, embedded: list[EmbeddedImage], **further: float) -> dict[str, float]:
    """Milliseconds by stage; of several images, the longest."""
    times: dict[str, float] = {}
    if embedded:
        times["preprocess"] = max(one.preprocess_ms for one in embedded)
        times["queue"] = max(one.queue_ms for one in embedded)
        times["compute"] = max(one.compute_ms for one in embedded)
    times |= further
    times["total"] = arrival.elapsed_ms
    return {name: round(ms, 3) for name, ms in times.items()}
