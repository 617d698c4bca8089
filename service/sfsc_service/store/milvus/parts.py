"""Ids and rows in parts that Milvus takes in one call."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sfsc_service.store.protocol import Float32

__all__ = ["Row", "json_bytes", "parts_by_size", "parts_of"]

Row = dict[str, Any]

_ROWS_AT_ONCE = 1_000
_BYTES_AT_ONCE = 16 * 2**20


def json_bytes(fields: dict[str, str | list[str]]) -> int:
    """As Milvus gets it; all texts are ASCII."""
    return len(json.dumps(fields, separators=(",", ":")))


def parts_of(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(ids), _ROWS_AT_ONCE):
        yield ids[first : first + _ROWS_AT_ONCE]


def parts_by_size(rows: Sequence[Row]) -> Iterator[list[Row]]:
    part, size = list[Row](), 0
    for row in rows:
        if part and (len(part) == _ROWS_AT_ONCE or size + _row_bytes(row) > _BYTES_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(row)
        size += _row_bytes(row)
    if part:
        yield part


def _row_bytes(row: Row) -> int:
    """About what a row takes in a message."""
    vector: Float32 = row["vector"]
    return 1_000 + vector.nbytes + 4 * len(row["metadata"]) + json_bytes(row["fields"])
