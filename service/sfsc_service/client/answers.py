"""What the service answers, for type checkers: the answers themselves are plain dictionaries.

Fields are those of http/response_schemas.py (a test compares them); the service may add further ones.
"""

from collections.abc import Callable
from typing import Any, NotRequired, TypedDict

import httpx

__all__ = [
    "AlignAnswer",
    "BulkItemAnswer",
    "CollectionAnswer",
    "DeletedAnswer",
    "EmbedAnswer",
    "EmbeddingAnswer",
    "HitAnswer",
    "ItemAnswer",
    "PairAnswer",
    "PairItemAnswer",
    "PutAnswer",
    "QualityAnswer",
    "SearchAnswer",
    "SearchResultAnswer",
    "WidthAnswer",
    "WidthsAnswer",
    "answer_reader",
]


class WidthAnswer(TypedDict):
    """A vector's width, why it was chosen, and whether the budget is met."""

    width: str
    reason: str
    budget_met: bool


class EmbeddingAnswer(WidthAnswer):
    """One image's vector: numbers, or base64 of little-endian float32 where `encoding` asked for it."""

    embedding: list[float] | str


class EmbedAnswer(TypedDict):
    """The vectors of one image or several, in their order."""

    model: str
    space: str
    dim: int
    results: list[EmbeddingAnswer]
    timing_ms: dict[str, float]


class HitAnswer(TypedDict):
    """One hit; `image` is a path below the service's address, None where the item has no image.

    `embedding` is there only where `vectors` was set, `group` where `group_by` was.
    """

    id: str
    score: float
    width: str
    metadata: dict[str, Any]
    image: str | None
    embedding: NotRequired[list[float] | str]
    group: NotRequired[str | int | float | bool]


class SearchAnswer(TypedDict):
    """The hits, best first."""

    query: WidthAnswer
    hits: list[HitAnswer]
    exact: bool
    timing_ms: dict[str, float]


class SearchResultAnswer(TypedDict):
    """What became of one search of many: `status` 200 and its hits, or the problem's `code` and `detail`."""

    status: int
    query: NotRequired[WidthAnswer]
    hits: NotRequired[list[HitAnswer]]
    exact: NotRequired[bool]
    code: NotRequired[str]
    detail: NotRequired[str]
    parameter: NotRequired[str | None]


class PairItemAnswer(TypedDict):
    """One item of a pair; `image` is a path below the service's address, None where the item has no image."""

    id: str
    width: str
    metadata: dict[str, Any]
    image: str | None


class PairAnswer(TypedDict):
    """Two items that are near to each other, in the order of their ids."""

    score: float
    items: list[PairItemAnswer]


class PutAnswer(WidthAnswer):
    """An item that is committed and searchable; `created` is false where it replaced another."""

    id: str
    created: bool
    timing_ms: dict[str, float]


class BulkItemAnswer(TypedDict):
    """What became of one item of many: `status` 200, or the problem's `code`, `detail` and `parameter`."""

    id: str | None
    status: int
    width: NotRequired[str]
    reason: NotRequired[str]
    budget_met: NotRequired[bool]
    created: NotRequired[bool]
    code: NotRequired[str]
    detail: NotRequired[str]
    parameter: NotRequired[str | None]


class ItemAnswer(TypedDict):
    """One item; `embedding` is there only where `vectors` was set."""

    id: str
    space: str
    width: str
    metadata: dict[str, Any]
    image: str | None
    image_sha256: str | None
    embedding: NotRequired[list[float] | str]


class DeletedAnswer(TypedDict):
    """How many items were removed, and how many more meet the filter; none where ids were given.

    `missing`: those of ids that no item has had.
    """

    removed: int
    remaining: int
    missing: list[str]


class CollectionAnswer(TypedDict):
    """A collection, and how many items it has; `approximate` is None where every search in it is exact."""

    name: str
    items: int
    widths: dict[str, int]
    approximate: dict[str, Any] | None


class QualityAnswer(TypedDict):
    """How well each width searches; `measured` is None where the bundle is the source."""

    source: str
    measured: dict[str, Any] | None
    quality: dict[str, Any]
    state: str
    embedded: int
    drawn: int
    failure: str | None


class AlignAnswer(TypedDict):
    """The alignment on the gallery's own images; `fitted` is None where there is none."""

    space: str
    bundle_space: str
    fitted: dict[str, Any] | None
    in_force: bool
    state: str
    embedded: int
    drawn: int
    unchecked: int
    converted: int
    failure: str | None


class MaintenanceAnswer(TypedDict):
    """What is under way on the data folder, and what came of the last one of each kind; None where none was."""

    task: str | None
    state: str
    done: int
    total: int
    check: dict[str, Any] | None
    backup: dict[str, Any] | None
    compact: dict[str, Any] | None
    reembed: dict[str, Any] | None


class WidthsAnswer(TypedDict):
    """The bundle that is served, its widths, and what the gallery is made of."""

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


def answer_reader(kind: Any) -> Callable[[httpx.Response], Any]:
    """How to read an answer of one of these kinds; another program's JSON is refused."""

    def read(response: httpx.Response) -> Any:
        document = response.json()
        if not isinstance(document, dict) or not kind.__required_keys__ <= document.keys():
            raise ValueError("not the answer of this service")
        return document

    return read
