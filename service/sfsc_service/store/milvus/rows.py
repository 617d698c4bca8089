"""Items as rows of the collection, and back."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from sfsc_service.store.errors import InvalidInputError, InvalidMetadataError
from sfsc_service.store.filters.sort_keys import flat_fields
from sfsc_service.store.milvus.collection import MAX_FIELDS_BYTES
from sfsc_service.store.milvus.images import digest_of
from sfsc_service.store.milvus.parts import Row, json_bytes
from sfsc_service.store.protocol import Float32, Hit, Item, StoredItem, VectorChange
from sfsc_service.store.validation import CheckedItems

__all__ = [
    "HIT_FIELDS",
    "ITEM_FIELDS",
    "STORED_FIELDS",
    "changed_row",
    "check_fields",
    "hit_of",
    "item_of",
    "row_of",
]

HIT_FIELDS = ("space", "width", "metadata", "image")
ITEM_FIELDS = ("id", "vector", *HIT_FIELDS, "reason", "created")
STORED_FIELDS = (*ITEM_FIELDS, "media_type")
"""All but what is made of the metadata."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_fields(items: Sequence[Item], checked: CheckedItems) -> tuple[list[InvalidInputError | None], list[Any]]:
    """What refuses each item, and the fields of its metadata as filters read them."""
    errors, fields = list(checked.errors), list[Any]()
    for position, item in enumerate(items):
        fields.append(None)
        if errors[position] is None:
            try:
                fields[position] = _checked_fields(item.id, checked.metadata[position])
            except InvalidMetadataError as error:
                error.position = position
                errors[position] = error
    return errors, fields


def _checked_fields(identifier: str, metadata: str) -> dict[str, str | list[str]]:
    """The fields of metadata, JSON text, as filters read them. Raises InvalidMetadataError: they take too much."""
    fields = flat_fields(json.loads(metadata))
    if (size := json_bytes(fields)) > MAX_FIELDS_BYTES:
        rule = f"must take at most {MAX_FIELDS_BYTES} bytes in Milvus, as fields that filters read"
        raise InvalidMetadataError("metadata", rule, f"{size} for {identifier!r}")
    return fields


def row_of(item: Item, vector: Float32, metadata: str, fields: Any, created: int) -> Row:
    """`vector`, `metadata`: as checked; `created`: microseconds since 1970."""
    return {
        "id": item.id,
        "vector": vector,
        "space": item.space,
        "width": item.width,
        "reason": item.reason,
        "metadata": metadata,
        "fields": fields,
        "image": digest_of(item.image.data) if item.image else "",
        "media_type": item.image.media_type if item.image else "",
        "created": created,
    }


def changed_row(row: Row, *, metadata: str | None = None, vector: VectorChange | None = None) -> Row:
    """A row with STORED_FIELDS, as it is to be written again, with other metadata, as checked, or another vector.

    Raises InvalidMetadataError.
    """
    changed = {**row, "metadata": row["metadata"] if metadata is None else metadata}
    changed["fields"] = _checked_fields(row["id"], changed["metadata"])
    changed["vector"] = np.array(row["vector"], np.float32)
    if vector is not None:
        changed |= {"space": vector.space, "width": vector.width, "vector": np.array(vector.vector, np.float32)}
    return changed


def item_of(row: Mapping[str, Any]) -> StoredItem:
    """The item of a row with ITEM_FIELDS."""
    vector = np.array(row["vector"], np.float32)
    vector.setflags(write=False)
    created = _EPOCH + timedelta(microseconds=row["created"])
    metadata = json.loads(row["metadata"])
    digest = row["image"] or None
    return StoredItem(row["id"], row["space"], row["width"], vector, metadata, digest, row["reason"], created)


def hit_of(found: Mapping[str, Any]) -> Hit:
    """The hit of a row that a search found, with HIT_FIELDS, and with `vector` if it was asked for."""
    row = found["entity"]
    score, vector = float(found["distance"]), None
    if "vector" in row:
        vector = np.array(row["vector"], np.float32)
        vector.setflags(write=False)
    return Hit(found["id"], row["space"], row["width"], row["metadata"], row["image"] or None, score, vector)
