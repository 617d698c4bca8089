"""JSON answers, written by orjson; nothing is validated on the way out."""

from typing import Any
from urllib.parse import quote

import orjson
from fastapi import Response

from sfsc_service.engine.embedder import Arrival, EmbeddedImage
from sfsc_service.gallery.gallery import Query
from sfsc_service.gallery.vectors import encode_vector
from sfsc_service.store.protocol import Hit, StoredItem

__all__ = ["hits_json", "item_answer", "json_response", "query_answer", "server_timing", "timing"]


def json_response(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer; numpy arrays and fragments may be in it."""
    return _Json(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), status, headers or {})


class _Json(Response):
    """Writes its headers itself; what Response does for any header takes as long as orjson."""

    def __init__(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.body, self.status_code, self.background = body, status, None
        length = str(len(body)).encode()
        self.raw_headers = [(b"content-length", length), (b"content-type", b"application/json")]
        self.raw_headers += [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def server_timing(times: dict[str, float], embedded: list[EmbeddedImage]) -> dict[str, str]:
    """The header `Server-Timing`: milliseconds by stage, and the widths with the reasons for them."""
    metrics = [f"{name};dur={ms}" for name, ms in times.items()]
    if embedded:
        metrics.append(f'width;desc="{" ".join(sorted({one.width for one in embedded}))}"')
        metrics.append(f'reason;desc="{" ".join(sorted({one.reason for one in embedded}))}"')
    return {"Server-Timing": ", ".join(metrics)}


def image_link(id: str) -> str:
    """Where an item's image is, relative to the service's root."""
    return f"items/{quote(id, safe='')}/image"


def hits_json(hits: list[Hit]) -> bytes:
    """Hits as a JSON list; their metadata are passed on unparsed."""
    return orjson.dumps(
        [
            {
                "id": hit.id,
                "score": hit.score,
                "width": hit.width,
                "metadata": orjson.Fragment(hit.metadata_json),
                "image": image_link(hit.id) if hit.image_digest else None,
            }
            for hit in hits
        ]
    )


def query_answer(query: Query, arrival: Arrival) -> dict[str, Any]:
    """How a query, or a new item, came to its width."""
    return {"width": query.width, "reason": query.reason, "budget_met": query.budget_met(arrival)}


def item_answer(record: StoredItem, encoding: str | None) -> dict[str, Any]:
    """An item; `encoding` None leaves the vector out."""
    answer: dict[str, Any] = {
        "id": record.id,
        "space": record.space,
        "width": record.width,
        "metadata": record.metadata,
        "image": image_link(record.id) if record.image_digest else None,
    }
    if encoding is not None:
        answer["embedding"] = encode_vector(record.vector, encoding)
    return answer


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
