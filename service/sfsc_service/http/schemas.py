"""What comes in and goes out, as pydantic models. Unknown fields are errors; everything is bounded.

Requests: what a call's options are, however its image travels (see routes/incoming.py). Answers: for the
OpenAPI document; routes write them as plain JSON, because checking thousands of hits on the way out is waste.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from sfsc_bundle.widths import canonical_width
from sfsc_service.store.errors import InvalidIdError
from sfsc_service.store.protocol import MAX_ID_LENGTH
from sfsc_service.store.validation import check_id

__all__ = [
    "BudgetOptions",
    "BulkAnswer",
    "BulkCall",
    "BulkItem",
    "BulkResult",
    "EmbedAnswer",
    "EmbedCall",
    "EmbedOptions",
    "EmbedResult",
    "HealthAnswer",
    "HitAnswer",
    "ItemAnswer",
    "ItemCall",
    "ItemId",
    "ItemOptions",
    "ItemView",
    "PageAnswer",
    "PageOptions",
    "ProblemAnswer",
    "QueryAnswer",
    "SampleAnswer",
    "SamplesAnswer",
    "SearchAnswer",
    "SearchCall",
    "SearchOptions",
    "StoredAnswer",
    "WidthsAnswer",
]

MAX_NUMBERS = 8192
MAX_BASE64 = 4 * 4 * MAX_NUMBERS // 3 + 4
HOUR_MS = 3_600_000.0


def _id(value: str) -> str:
    try:
        check_id(value)
    except InvalidIdError as error:
        raise ValueError(f"{error.rule}, found {error.found}") from None
    return value


def _width(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be a width such as 0.25, found {type(value).__name__}")
    return canonical_width(value)


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, found {str(value).lower()}")
    return value


ItemId = Annotated[
    str,
    AfterValidator(_id),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_ID_LENGTH,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$",
        }
    ),
]
WidthName = Annotated[
    str,
    BeforeValidator(_width),
    WithJsonSchema({"type": "string", "pattern": r"^(0\.\d{1,4}|1(\.0{1,4})?)$", "examples": ["0.25"]}),
]
Ms = Annotated[float, BeforeValidator(_number), Field(gt=0, le=HOUR_MS, allow_inf_nan=False)]
Metadata = dict[str, Any]
Encoding = Literal["float", "base64"]
VectorField = (
    Annotated[list[float], Field(min_length=1, max_length=MAX_NUMBERS)]
    | Annotated[str, Field(min_length=1, max_length=MAX_BASE64)]
)
SpaceName = Annotated[str, Field(min_length=1, max_length=100)]
Base64Image = Annotated[
    str, Field(description="an encoded image in base64", json_schema_extra={"contentEncoding": "base64"})
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BudgetOptions(_Request):
    """Which width may answer: exactly one, or whichever keeps the limits; nothing = the service's own target."""

    width: WidthName | None = Field(None, description="exactly this width, or refused")
    latency_ms: Ms | None = Field(None, description="soft: from arrival to answer")
    gflops: Annotated[float, BeforeValidator(_number)] | None = Field(
        None, gt=0, le=1e9, allow_inf_nan=False, description="soft: 2 × MACs for one image"
    )
    deadline_ms: Ms | None = Field(None, description="hard: 503 if it cannot be met, 504 if it passes")
    min_quality: Annotated[float, BeforeValidator(_number)] | None = Field(
        None, ge=0, le=100, allow_inf_nan=False, description="mAP in points: the cheapest width that reaches it"
    )


class EmbedOptions(BudgetOptions):
    """Options of /embed."""

    encoding: Encoding = Field("float", description="JSON numbers, or base64 of little-endian float32")


class SearchOptions(BudgetOptions):
    """Options of /search; with `vector`, `width` and `space` say where the vector comes from."""

    k: Annotated[int, BeforeValidator(_number)] = Field(10, ge=1, le=1_000_000, description="hits wanted")
    filter: dict[str, Any] | None = Field(None, description='such as {"match": {"colour": "red"}}')
    exact: bool = Field(True, description="whether the exact search is wanted; every search is exact today")
    id: ItemId | None = Field(None, description="search with the vector of this item")
    vector: VectorField | None = Field(None, description="JSON numbers, or base64 of little-endian float32")
    space: SpaceName | None = Field(None, description="the vector's embedding space")


class ItemOptions(BudgetOptions):
    """Options of PUT /items/{id}; with `vector`, `width` and `space` say where the vector comes from."""

    metadata: Metadata = Field(default_factory=dict, description="a JSON object of at most 16 KiB")
    vector: VectorField | None = Field(None, description="JSON numbers, or base64 of little-endian float32")
    space: SpaceName | None = Field(None, description="the vector's embedding space")


class BulkItem(ItemOptions):
    """One line of a bulk call, beside `image`."""

    id: ItemId


class EmbedCall(EmbedOptions):
    """The body of /embed as JSON."""

    image: Base64Image | list[Base64Image] | None = None


class SearchCall(SearchOptions):
    """The body of /search as JSON; one of `image`, `vector` and `id`."""

    image: Base64Image | None = None


class ItemCall(ItemOptions):
    """The body of PUT /items/{id} as JSON; either `image` or `vector`."""

    image: Base64Image | None = None


class BulkCall(BulkItem):
    """One line of POST /items; either `image` or `vector`."""

    image: Base64Image | None = None


class ItemView(_Request):
    """Options of GET /items/{id}."""

    vectors: bool = Field(False, description="whether to answer the vectors too")
    encoding: Encoding = Field("float", description="JSON numbers, or base64 of little-endian float32")


class PageOptions(ItemView):
    """Options of GET /items."""

    limit: int = Field(100, ge=1, le=1000, description="items on a page")
    cursor: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        None, description="`next` of the page before"
    )
    filter: dict[str, Any] | None = Field(None, description='such as {"match": {"colour": "red"}}')


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


Reason = Literal["requested", "budget", "load"]
Timing = dict[str, float]


class EmbedResult(_Answer):
    """One image's vector."""

    embedding: list[float] | str
    width: str
    reason: Reason
    budget_met: bool


class EmbedAnswer(_Answer):
    """The answer of /embed; results are in the order of the images."""

    model: str
    space: str
    dim: int
    results: list[EmbedResult]
    timing_ms: Timing


class QueryAnswer(_Answer):
    """How the query came to its width."""

    width: str
    reason: Reason
    budget_met: bool


class HitAnswer(_Answer):
    """One hit; `image` is relative to the service's root, null where the item has no image."""

    id: str
    score: float
    width: str
    metadata: Metadata
    image: str | None


class SearchAnswer(_Answer):
    """The answer of /search, best hit first."""

    query: QueryAnswer
    hits: list[HitAnswer]
    exact: bool
    timing_ms: Timing


class StoredAnswer(_Answer):
    """The answer of PUT /items/{id}: committed and searchable."""

    id: str
    width: str
    reason: Reason
    budget_met: bool
    created: bool
    timing_ms: Timing


class BulkResult(_Answer):
    """One item's outcome: `width`, `reason` and `created`, or `code` and `detail` of its problem."""

    id: str | None
    status: int


class BulkAnswer(_Answer):
    """The answer of POST /items; results are in the order of the items."""

    stored: int
    failed: int
    results: list[BulkResult]
    timing_ms: Timing


class ItemAnswer(_Answer):
    """One item; `embedding` only where vectors were asked for."""

    id: str
    space: str
    width: str
    metadata: Metadata
    image: str | None


class PageAnswer(_Answer):
    """One page of items; `next` is null on the last one."""

    items: list[ItemAnswer]
    next: str | None


class SampleAnswer(_Answer):
    """One image to search with; `image` is relative to the service's root."""

    name: str
    metadata: Metadata
    image: str


class SamplesAnswer(_Answer):
    """Images to search with; empty where the bundle brings none."""

    samples: list[SampleAnswer]


class WidthsAnswer(_Answer):
    """What the bundle offers, what it costs here and now, and what the gallery is made of."""

    model: str
    space: str
    dim: int
    widths: list[dict[str, Any]]
    quality: dict[str, Any]
    gallery: dict[str, Any]


class HealthAnswer(_Answer):
    """`reasons` is empty while all is well; `notes` tell of workers that were lost and replaced."""

    status: Literal["ok", "failing"]
    reasons: list[str]
    notes: list[str]


class ProblemAnswer(_Answer):
    """RFC 9457; `code` is stable, `detail` names the parameter, the rule and what was found."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    parameter: str | None = None
