"""The responses, as pydantic models for the OpenAPI document alone.

Endpoints write plain JSON: checking thousands of hits on the way out would be waste. Fields may be added.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from sfsc_service.engine.policy import Reason
from sfsc_service.http.schemas import Metadata

__all__ = [
    "AlignResponse",
    "BulkResponse",
    "BulkResult",
    "ChosenWidth",
    "CollectionResponse",
    "CollectionsResponse",
    "DuplicatePair",
    "DuplicatesResponse",
    "EmbedResponse",
    "EmbedResult",
    "EmbeddingEntry",
    "EmbeddingsResponse",
    "HealthResponse",
    "HitResult",
    "ItemPageResponse",
    "ItemResponse",
    "Model",
    "ModelsResponse",
    "ProblemResponse",
    "PutResponse",
    "QualityResponse",
    "Sample",
    "SamplesResponse",
    "SearchResponse",
    "SearchResult",
    "SearchesResponse",
    "WidthsResponse",
]


class _Response(BaseModel):
    model_config = ConfigDict(extra="allow")


Timing = dict[str, float]


class ChosenWidth(_Response):
    """A vector's width, why it was chosen, and whether the budget is met."""

    width: str
    reason: Reason
    budget_met: bool


class EmbedResult(ChosenWidth):
    """One image's vector."""

    embedding: list[float] | str


class EmbedResponse(_Response):
    """The response of POST /embed; results are in the order of the images."""

    model: str
    space: str
    dim: int
    results: list[EmbedResult]
    timing_ms: Timing


class _ItemFields(_Response):
    id: str
    width: str
    metadata: Metadata
    image: str | None


class HitResult(_ItemFields):
    """One hit; `image` is relative to the service's root, null where the item has no image.

    `embedding` is there only where `vectors` was set, `group` where `group_by` was.
    """

    score: float


class SearchResponse(_Response):
    """The response of POST /search, best hit first."""

    query: ChosenWidth
    hits: list[HitResult]
    exact: bool
    timing_ms: Timing


class SearchResult(_Response):
    """One search's outcome: `query`, `hits` and `exact`, or `code` and `detail` of its problem."""

    status: int


class SearchesResponse(_Response):
    """The response of POST /search to many searches; results are in the order of the lines."""

    results: list[SearchResult]
    timing_ms: Timing


class PairItem(_ItemFields):
    """One item of a pair; `image` is relative to the service's root, null where the item has no image."""


class DuplicatePair(_Response):
    """Two items that are near to each other, in the order of their ids."""

    score: float
    items: list[PairItem]


class DuplicatesResponse(_Response):
    """One page of pairs; `next` is null on the last one.

    `compared`: items that were searched with. `truncated`: some of them have more neighbours than were looked at.
    """

    pairs: list[DuplicatePair]
    next: str | None
    compared: int
    exact: bool
    truncated: bool
    timing_ms: Timing


class PutResponse(ChosenWidth):
    """The response of PUT /items/{id}: the item is committed and searchable."""

    id: str
    created: bool
    timing_ms: Timing


class BulkResult(_Response):
    """One item's outcome: `width`, `reason` and `created`, or `code` and `detail` of its problem."""

    id: str | None
    status: int


class BulkResponse(_Response):
    """The response of POST /items; results are in the order of the items."""

    stored: int
    failed: int
    results: list[BulkResult]
    timing_ms: Timing


class ItemResponse(_ItemFields):
    """One item; `embedding` is there only where `vectors` was set, `image_sha256` is null where `image` is."""

    space: str
    image_sha256: str | None


class ItemPageResponse(_Response):
    """One page of items; `next` is null on the last one."""

    items: list[ItemResponse]
    next: str | None


class CountResponse(_Response):
    """How many items there are, or meet the filter."""

    count: int


class DeletedResponse(_Response):
    """How many items were removed, and how many more meet the filter; none where `ids` were given.

    `missing`: those of `ids` that no item has had.
    """

    removed: int
    remaining: int
    missing: list[str]


class CollectionResponse(_Response):
    """A collection: how many items it has, also by width, and how approximate searches in it are made."""

    name: str
    items: int
    widths: dict[str, int]
    approximate: dict[str, Any] | None


class CollectionsResponse(_Response):
    """All collections, by name."""

    collections: list[CollectionResponse]


class Sample(_Response):
    """One image to search with; `image` is relative to the service's root, `item` the id of the same image."""

    name: str
    metadata: Metadata
    image: str
    item: str | None


class SamplesResponse(_Response):
    """Images to search with; none where the bundle has none."""

    samples: list[Sample]


class WidthsResponse(_Response):
    """The bundle's widths, what they cost on this machine now, and how many items the gallery holds of each."""

    model: str
    space: str
    compatible_with: list[str]
    dim: int
    widths: list[dict[str, Any]]
    floor_width: str
    slo_ms: float
    quality: dict[str, Any]
    quality_measured: dict[str, Any] | None
    gallery: dict[str, Any]
    heal: dict[str, Any]
    demo_load: bool
    limits: dict[str, int]


class QualityResponse(_Response):
    """The quality in force, its source, and what is under way; `measured` is null where that is the bundle."""

    source: Literal["bundle", "gallery"]
    measured: dict[str, Any] | None
    quality: dict[str, Any]
    state: Literal["resting", "asked", "measuring", "paused"]
    embedded: int
    drawn: int
    failure: str | None


class AlignResponse(_Response):
    """The alignment on the gallery's own images, and what is under way; `fitted` is null where there is none."""

    space: str
    bundle_space: str
    fitted: dict[str, Any] | None
    in_force: bool
    state: Literal["resting", "asked", "measuring", "converting", "paused"]
    embedded: int
    drawn: int
    unchecked: int
    converted: int
    failure: str | None


class MaintenanceResponse(_Response):
    """What is under way, with `done` of `total`, and what came of the last one of each kind, null where none was.

    Each result has `finished`, `seconds` and `failure`, which is null where it went well. A check also has what
    `sfsc check --json` prints; a backup its `name` and counts; a compaction the bytes before and after; an
    embedding for a move what `sfsc reembed URL --json` prints.
    """

    task: Literal["check", "backup", "compact", "reembed"] | None
    state: Literal["resting", "running", "paused"]
    done: int
    total: int
    check: dict[str, Any] | None
    backup: dict[str, Any] | None
    compact: dict[str, Any] | None
    reembed: dict[str, Any] | None


class EmbeddingEntry(_Response):
    """One image's vector in OpenAI's form, and which width computed it."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    width: str
    reason: Reason


class EmbeddingsResponse(_Response):
    """The response of POST /v1/embeddings; images have no tokens, so `usage` counts none."""

    object: Literal["list"]
    data: list[EmbeddingEntry]
    model: str
    usage: dict[str, int]


class Model(_Response):
    """A bundle at a width, or at whichever the service chooses."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsResponse(_Response):
    """The response of GET /v1/models."""

    object: Literal["list"]
    data: list[Model]


class HealthResponse(_Response):
    """`reasons` says what is wrong, and is empty while nothing is; `notes` tells of workers that were replaced."""

    status: Literal["ok", "failing"]
    reasons: list[str]
    notes: list[str]


class ProblemResponse(_Response):
    """RFC 9457; `code` is stable, `detail` names the parameter, the rule and what was found."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    parameter: str | None = None
