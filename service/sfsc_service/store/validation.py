"""The rules for what a store accepts, shared by all implementations, so that all refuse the same.

`check_items` copies what it checks (vectors into one array, metadata into text), so that the caller may change its
objects afterwards.
"""

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from sfsc_bundle.described import describe_value
from sfsc_service.store.errors import (
    DimensionMismatchError,
    InvalidIdError,
    InvalidImageError,
    InvalidInputError,
    InvalidMetadataError,
    InvalidVectorError,
    InvalidWidthError,
    LimitExceededError,
    SpaceMismatchError,
)
from sfsc_service.store.protocol import (
    MAX_ID_LENGTH,
    MAX_IMAGE_BYTES,
    MAX_ITEMS,
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    MAX_QUERIES,
    MAX_TOTAL_HITS,
    UNIT_TOLERANCE,
    Float32,
    Item,
    MetadataJson,
    VectorChange,
)

__all__ = [
    "CheckedItems",
    "accepted_changes",
    "accepted_items",
    "check_count",
    "check_id",
    "check_ids",
    "check_items",
    "check_limit",
    "check_metadata",
    "check_queries",
    "metadata_json",
]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_WIDTH = re.compile(r"[0-9A-Za-z._-]{1,16}")
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}")


@dataclass(frozen=True, slots=True)
class CheckedItems:
    """`errors[i]`: why item i is refused, or None. `vectors`: float32 [n, D], little-endian.

    Refused items have "" as metadata and zeros as vector.
    """

    errors: list[InvalidInputError | None]
    metadata: list[str]
    vectors: Float32


def check_items(items: Sequence[Item], spaces: Collection[str], dimension: int) -> CheckedItems:
    check_count(len(items), "items")
    errors: list[InvalidInputError | None] = [None] * len(items)
    metadata = [""] * len(items)
    vectors = np.zeros((len(items), dimension), "<f4")
    for position, item in enumerate(items):
        try:
            metadata[position] = _check_item(item, spaces, dimension)
            vectors[position] = item.vector
        except InvalidInputError as error:
            error.position = position
            errors[position] = error
    for position, bad_row in _bad_rows(vectors, "vector"):
        errors[position] = errors[position] or bad_row
    return CheckedItems(errors, metadata, vectors)


def accepted_items(items: Sequence[Item], spaces: Collection[str], dimension: int) -> CheckedItems:
    """As `check_items`; raises the first item's error, if any is refused."""
    checked = check_items(items, spaces, dimension)
    for error in checked.errors:
        if error is not None:
            raise error
    return checked


def accepted_changes(changes: Sequence[VectorChange], spaces: Collection[str], dimension: int) -> Float32:
    """The vectors of `changes`, float32 [n, D], little-endian; raises the first one's error, if any is refused."""
    items = [Item(one.item.id, one.space, one.width, one.vector, {}) for one in changes]
    return accepted_items(items, spaces, dimension).vectors


def check_queries(vectors: Float32, dimension: int, k: int, items: int) -> Float32:
    """A checked copy of the queries, float32 [n, dimension], C order, for `k` hits each among so many items."""
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32:
        raise InvalidVectorError("vectors", "must be a float32 array", describe_value(vectors))
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise DimensionMismatchError("vectors", f"must be [n, {dimension}]", f"{list(vectors.shape)}")
    if len(vectors) > MAX_QUERIES:
        raise LimitExceededError("vectors", f"must be at most {MAX_QUERIES} in a call", f"{len(vectors)}")
    queries = np.array(vectors, np.float32, order="C")
    for _, error in _bad_rows(queries, "vectors"):
        raise error
    if k < 1:
        raise LimitExceededError("k", "must be at least 1", f"{k}")
    if (hits := len(queries) * min(k, items)) > MAX_TOTAL_HITS:
        raise LimitExceededError("k", f"all queries together may have {MAX_TOTAL_HITS} hits", f"{hits}")
    return queries


def check_limit(limit: int, most: int) -> None:
    if not 1 <= limit <= most:
        raise LimitExceededError("limit", f"must be 1 .. {most}", f"{limit}")


def check_ids(ids: Sequence[str]) -> list[str]:
    check_count(len(ids), "ids")
    for position, identifier in enumerate(ids):
        try:
            check_id(identifier)
        except InvalidIdError as error:
            error.position = position
            raise
    return list(ids)


def check_count(count: int, parameter: str) -> None:
    if count > MAX_ITEMS:
        raise LimitExceededError(parameter, f"must be at most {MAX_ITEMS} in a call", f"{count}")


def _check_item(item: Item, spaces: Collection[str], dimension: int) -> str:
    """The metadata as JSON text; the values of vectors are checked later, for all items together."""
    check_id(item.id)
    if item.space not in spaces:
        raise SpaceMismatchError(
            "space", f"must be one of {', '.join(sorted(spaces))}", f"{str(item.space)[:80]!r}"
        )
    if not isinstance(item.width, str) or not _WIDTH.fullmatch(item.width):
        rule = "must be 1 .. 16 letters, digits, dots, dashes or underscores"
        raise InvalidWidthError("width", rule, f"{str(item.width)[:40]!r}")
    if not isinstance(item.vector, np.ndarray) or item.vector.dtype != np.float32:
        raise InvalidVectorError("vector", "must be a float32 array", describe_value(item.vector))
    if item.vector.shape != (dimension,):
        raise DimensionMismatchError(
            "vector", f"must have {dimension} components", f"shape {list(item.vector.shape)}"
        )
    _check_image(item)
    return item.metadata.text if isinstance(item.metadata, MetadataJson) else check_metadata(item.metadata)


def check_id(identifier: object) -> None:
    """The one rule for ids. Raises InvalidIdError."""
    if not isinstance(identifier, str) or not 1 <= len(identifier) <= MAX_ID_LENGTH:
        found = f"{len(identifier)} characters" if isinstance(identifier, str) else describe_value(identifier)
        raise InvalidIdError("id", f"must be a string of 1 .. {MAX_ID_LENGTH} characters", found)
    if bad := _CONTROL.search(identifier):
        rule = "must be UTF-8 text without control characters"
        raise InvalidIdError("id", rule, f"U+{ord(bad[0]):04X} at {bad.start()}")
    if identifier in (".", ".."):
        raise InvalidIdError("id", "must not be . or .., which an address cannot hold", identifier)


def _check_image(item: Item) -> None:
    if item.image is None:
        return
    data, media_type = item.image.data, item.image.media_type
    if not isinstance(data, bytes) or not 1 <= len(data) <= MAX_IMAGE_BYTES:
        found = f"{len(data)}" if isinstance(data, bytes) else describe_value(data)
        raise InvalidImageError("image", f"must be 1 .. {MAX_IMAGE_BYTES} bytes", found)
    if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
        raise InvalidImageError("image", "the media type must look like image/jpeg", f"{str(media_type)[:80]!r}")


def _bad_rows(vectors: Float32, parameter: str) -> list[tuple[int, InvalidVectorError]]:
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    refused = ~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE)
    return [(int(i), _vector_error(parameter, int(i), float(lengths[i]))) for i in np.flatnonzero(refused)]


def _vector_error(parameter: str, position: int, length: float) -> InvalidVectorError:
    if not math.isfinite(length):
        return InvalidVectorError(parameter, "must be finite", f"length {length}", position)
    return InvalidVectorError(parameter, f"must be of length 1 ± {UNIT_TOLERANCE}", f"{length:.6g}", position)


def check_metadata(metadata: object) -> str:
    """The metadata as JSON text. Raises InvalidMetadataError."""
    if not isinstance(metadata, dict):
        raise InvalidMetadataError("metadata", "must be a JSON object", describe_value(metadata))
    _check_object(metadata, _ValueCounter(), 1)
    try:
        text = orjson.dumps(metadata)
    except orjson.JSONEncodeError:
        raise InvalidMetadataError("metadata", "must be Unicode text", "a lone surrogate") from None
    if len(text) > MAX_METADATA_BYTES:
        rule = f"must be at most {MAX_METADATA_BYTES} bytes of JSON"
        raise InvalidMetadataError("metadata", rule, f"{len(text)}")
    return text.decode()


def metadata_json(metadata: object) -> MetadataJson:
    """The metadata, checked once and for all. Raises InvalidMetadataError."""
    return MetadataJson(check_metadata(metadata))


class _ValueCounter:
    """Stops at metadata of too many values before they are encoded: each takes at least one byte of JSON."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, values: int) -> None:
        self._count += values
        if self._count > MAX_METADATA_BYTES:
            rule = f"must be at most {MAX_METADATA_BYTES} bytes of JSON"
            raise InvalidMetadataError("metadata", rule, "more values than that")


def _check_json(value: Any, counter: _ValueCounter, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if check := _CHECKS.get(kind):
        check(value, counter, depth)
        return
    raise InvalidMetadataError("metadata", "must hold nothing but JSON's own types", kind.__name__)


def _check_object(value: dict[Any, Any], counter: _ValueCounter, depth: int) -> None:
    for key in value:
        if type(key) is not str:
            raise InvalidMetadataError("metadata", "must have strings as keys", describe_value(key))
    _check_array(value.values(), counter, depth)


def _check_array(value: Collection[Any], counter: _ValueCounter, depth: int) -> None:
    if depth > MAX_METADATA_DEPTH:
        raise InvalidMetadataError("metadata", f"must be nested at most {MAX_METADATA_DEPTH} deep", "more")
    counter.add(len(value))
    for part in value:
        _check_json(part, counter, depth + 1)


def _check_integer(value: int, _counter: _ValueCounter, _depth: int) -> None:
    if not -(2**63) <= value < 2**63:
        raise InvalidMetadataError("metadata", "must have integers of 64 bits", f"{value.bit_length()} bits")


def _check_number(value: float, _counter: _ValueCounter, _depth: int) -> None:
    if not math.isfinite(value):
        raise InvalidMetadataError("metadata", "must have finite numbers", f"{value}")


_CHECKS: dict[type, Callable[[Any, _ValueCounter, int], None]] = {
    dict: _check_object,
    list: _check_array,
    int: _check_integer,
    float: _check_number,
}
