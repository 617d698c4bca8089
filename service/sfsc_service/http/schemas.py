"""The options of every request, as pydantic models: unknown options are errors, and every value is bounded.

Classes named Options hold what any form of a request may say; classes named Body or Line are its JSON form.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

from sfsc_bundle.described import describe_value
from sfsc_bundle.widths import WIDTH_PATTERN, canonical_width
from sfsc_service.gallery.simulated_load import MAX_PER_S
from sfsc_service.store.errors import InvalidIdError
from sfsc_service.store.filters.operands import MAX_FIELD_LENGTH
from sfsc_service.store.protocol import MAX_ID_LENGTH, MAX_ITEMS, NO_METADATA, MetadataJson
from sfsc_service.store.validation import check_id, check_metadata, metadata_json

__all__ = [
    "BudgetOptions",
    "BulkItem",
    "BulkLine",
    "CropBox",
    "DeleteItemsOptions",
    "DemoLoadOptions",
    "DuplicatesOptions",
    "EmbedBody",
    "EmbedOptions",
    "EmbeddingsBody",
    "GetItemOptions",
    "ImageOptions",
    "ItemBody",
    "ItemId",
    "ItemOptions",
    "ItemPatch",
    "ListItemsOptions",
    "Metadata",
    "OwnImagesOptions",
    "SearchBody",
    "SearchOptions",
    "VectorOptions",
]

MAX_NUMBERS = 8192
MAX_IDS = 1000
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
    if isinstance(value, str) and "_" in value:  # which Python and pydantic skip
        raise ValueError(f"must be a number, found {describe_value(value)}")
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
    WithJsonSchema({"type": "string", "pattern": WIDTH_PATTERN, "examples": ["0.25"]}),
]
Ms = Annotated[float, BeforeValidator(_number), Field(gt=0, le=HOUR_MS, allow_inf_nan=False)]


def _checked_metadata(_kind: Any, schema_of: GetCoreSchemaHandler) -> CoreSchema:
    return no_info_after_validator_function(metadata_json, schema_of.generate_schema(dict[str, Any]))


Metadata = Annotated[MetadataJson, GetPydanticSchema(_checked_metadata)]
"""A JSON object within the store's rules. Raises InvalidMetadataError: clients know its code."""
MetadataPatch = Annotated[dict[str, Any], AfterValidator(lambda patch: check_metadata(patch) and patch)]
Encoding = Literal["float", "base64"]
VectorField = (
    Annotated[list[Annotated[float, Strict()]], Field(min_length=1, max_length=MAX_NUMBERS, fail_fast=True)]
    | Annotated[str, Field(min_length=1, max_length=MAX_BASE64)]
)
SpaceName = Annotated[str, Field(min_length=1, max_length=100)]
Base64Image = Annotated[
    str, Field(description="an encoded image in base64", json_schema_extra={"contentEncoding": "base64"})
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_one_unknown_key(cls, members: object) -> object:
        # pydantic makes an error of every unknown key, and a body may have millions of them.
        if not isinstance(members, dict) or len(members) <= len(cls.model_fields):
            return members
        unknown = next(name for name in members if name not in cls.model_fields)
        return {name: members[name] for name in (*cls.model_fields, unknown) if name in members}


class BudgetOptions(_Request):
    """Limits that decide the width: an exact width, or limits to be kept; none = the service's own target.

    Each field has the name of a field of `engine.policy.Budget`.
    """

    width: WidthName | None = Field(None, description="exactly this width; refused where the bundle has none such")
    latency_ms: Ms | None = Field(None, description="soft: from arrival to response")
    gflops: Annotated[float, BeforeValidator(_number)] | None = Field(
        None, gt=0, le=1e9, allow_inf_nan=False, description="soft: 2 × MACs for one image"
    )
    deadline_ms: Ms | None = Field(
        None, description="hard: 503 if it cannot be met, 504 if it passes while the request waits"
    )
    min_quality: Annotated[float, BeforeValidator(_number)] | None = Field(
        None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="mAP in points, 0 to 100: the cheapest width that reaches it",
    )


def _split_crop(value: object) -> object:
    if not isinstance(value, str):
        return value
    numbers = value.split(",")
    if len(numbers) not in (4, 5):
        raise ValueError(f"must be x,y,w,h or x,y,w,h,rotation, found {len(numbers)} values")
    return dict(zip(CropBox.model_fields, numbers, strict=False))


Pixels = Annotated[float, BeforeValidator(_number), Field(ge=-65_535, le=65_535, allow_inf_nan=False)]
Side = Annotated[float, BeforeValidator(_number), Field(ge=1, le=65_535, allow_inf_nan=False)]


class CropBox(_Request):
    """The part of an image that counts, in pixels of the upright image; it must lie within the image."""

    x: Pixels = Field(description="of the upper left corner, before the box is turned")
    y: Pixels
    w: Side
    h: Side
    rotation: Annotated[float, BeforeValidator(_number)] = Field(
        0.0,
        ge=-360,
        le=360,
        allow_inf_nan=False,
        description="degrees that the box is turned clockwise about its centre",
    )


CropField = Annotated[CropBox, BeforeValidator(_split_crop)]


class EmbedOptions(BudgetOptions):
    """Options of POST /embed."""

    crop: CropField | None = Field(None, description="the part of each image that counts")
    encoding: Encoding = Field("float", description="JSON numbers, or base64 of little-endian float32")


class VectorOptions(BudgetOptions):
    """A vector in the place of an image; `width` and `space` then say where it comes from."""

    vector: VectorField | None = Field(None, description="JSON numbers, or base64 of little-endian float32")
    space: SpaceName | None = Field(None, description="the vector's embedding space")
    crop: CropField | None = Field(None, description="the part of the image that counts")


class SearchOptions(VectorOptions):
    """Options of POST /search."""

    k: Annotated[int, BeforeValidator(_number)] = Field(
        10, ge=1, le=1_000_000, description="the greatest number of hits"
    )
    offset: Annotated[int, BeforeValidator(_number)] = Field(
        0, ge=0, le=1_000_000, description="hits to pass over, the best first"
    )
    min_score: Annotated[float, BeforeValidator(_number)] = Field(
        -1.0, ge=-1, le=1, allow_inf_nan=False, description="the least score of a hit"
    )
    filter: dict[str, Any] | None = Field(None, description='such as {"colour": "red"}')
    exclude: Annotated[list[ItemId], Field(max_length=MAX_IDS, fail_fast=True)] = Field(
        default=[], description="ids of items that are no hits"
    )
    group_by: Annotated[str, Field(min_length=1, max_length=MAX_FIELD_LENGTH)] | None = Field(
        None, description="a field of the metadata: k and offset count groups of hits that have one value in it"
    )
    group_size: Annotated[int, BeforeValidator(_number)] = Field(
        1, ge=1, le=1000, description="the greatest number of hits of a group"
    )
    exact: bool = Field(False, description="miss no hit, where SFSC_SEARCH lets other searches miss some")
    id: ItemId | None = Field(None, description="search with the vector of this item, which is no hit itself")
    include_self: bool = Field(False, description="whether the item of `id` may be a hit")
    vectors: bool = Field(False, description="whether hits have their vectors")
    encoding: Encoding = Field("float", description="of those: JSON numbers, or base64 of little-endian float32")


class DuplicatesOptions(_Request):
    """Options of POST /search/duplicates."""

    min_score: Annotated[float, BeforeValidator(_number)] = Field(
        ge=-1, le=1, allow_inf_nan=False, description="the least score of a pair"
    )
    filter: dict[str, Any] | None = Field(None, description="pairs of items that meet it, both of them")
    limit: Annotated[int, BeforeValidator(_number)] = Field(
        100, ge=1, le=1000, description="the greatest number of pairs in a page"
    )
    cursor: Annotated[str, Field(min_length=1, max_length=8192)] | None = Field(
        None, description="`next` of the previous page"
    )
    exact: bool = Field(False, description="miss no pair, where SFSC_SEARCH lets searches miss some")


class ItemOptions(VectorOptions):
    """Options of PUT /items/{id}."""

    metadata: Metadata = Field(default_factory=lambda: NO_METADATA, description="a JSON object of at most 16 KiB")


class BulkItem(ItemOptions):
    """Options of one item of POST /items."""

    id: ItemId


class EmbedBody(EmbedOptions):
    """The JSON form of POST /embed."""

    image: Base64Image | list[Base64Image] | None = None


class SearchBody(SearchOptions):
    """The JSON form of POST /search, and one line of it as NDJSON; exactly one of `image`, `vector` and `id`."""

    image: Base64Image | None = None


class ItemBody(ItemOptions):
    """The JSON form of PUT /items/{id}; exactly one of `image` and `vector`."""

    image: Base64Image | None = None


class BulkLine(BulkItem):
    """One line of POST /items as NDJSON; exactly one of `image` and `vector`."""

    image: Base64Image | None = None


class EmbeddingsBody(_Request):
    """The body of POST /v1/embeddings."""

    model: str = Field(min_length=1, max_length=200, description="one that /v1/models lists, such as demo@0.25")
    input: Annotated[
        Annotated[list[str], FailFast()],  # a body may have millions of wrong inputs
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
        Field(min_length=1, description="an image as a data URI, data:image/jpeg;base64,…, or a list of them"),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
        ),
    ]
    encoding_format: Encoding = "float"
    dimensions: Annotated[int, BeforeValidator(_number)] | None = Field(
        None, ge=1, description="none but the bundle's own"
    )
    user: str | None = Field(None, max_length=1000, description="accepted and not used")


class DemoLoadOptions(_Request):
    """Options of PUT /demo/load."""

    per_s: float = Field(ge=0, le=MAX_PER_S, allow_inf_nan=False, description="searches a second; 0 ends the load")


class GetItemOptions(_Request):
    """Options of GET /items/{id}."""

    vectors: bool = Field(False, description="whether the response holds vectors")
    encoding: Encoding = Field("float", description="JSON numbers, or base64 of little-endian float32")


class ImageOptions(_Request):
    """Options of GET /items/{id}/image."""

    preview: Annotated[int, BeforeValidator(_number)] | None = Field(
        None, ge=16, le=1024, description="a JPEG, at most so many pixels wide and high, in the place of the file"
    )


class CountOptions(_Request):
    """Options of GET /items:count."""

    filter: dict[str, Any] | None = Field(None, description='such as {"colour": "red"}')


class DeleteItemsOptions(_Request):
    """Options of DELETE /items; exactly one of `filter` and `ids`."""

    filter: dict[str, Any] | None = Field(None, description='remove what meets it, such as {"colour": "red"}')
    ids: Annotated[list[ItemId], Field(max_length=MAX_IDS, fail_fast=True)] | None = Field(
        None, description="remove these items, if they are there"
    )
    limit: Annotated[int, BeforeValidator(_number)] = Field(
        1000, ge=1, le=MAX_ITEMS, description="the greatest number of items to remove by a filter"
    )


class ItemPatch(_Request):
    """The body of PATCH /items/{id}: a JSON merge patch (RFC 7396) of the item."""

    metadata: MetadataPatch = Field(
        description="merged into the item's metadata: members are set, and removed where they are null"
    )


class OwnImagesOptions(_Request):
    """Options of POST /quality and POST /align."""

    field: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="the metadata that names what an image shows, in the place of SFSC_QUALITY_FIELD",
    )


class BackupOptions(_Request):
    """Options of POST /maintenance/backup."""

    name: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="of the backup: letters, digits, -, _ and .; the time where none is given",
    )


class ReembedOptions(_Request):
    """Options of POST /maintenance/reembed."""

    bundle: str = Field(
        min_length=1, max_length=64, description="the name of a bundle in the folder of the one that is served"
    )
    width: WidthName | None = Field(None, description="the width to embed at; unset: the widest")
    to: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="a new folder in the data folder; unset: the new gallery is to take the data folder's place",
    )


class ListItemsOptions(GetItemOptions):
    """Options of GET /items."""

    limit: Annotated[int, BeforeValidator(_number)] = Field(
        100, ge=1, le=1000, description="the greatest number of items on a page"
    )
    cursor: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        None, description="`next` of the previous page"
    )
    filter: dict[str, Any] | None = Field(None, description='such as {"colour": "red"}')
