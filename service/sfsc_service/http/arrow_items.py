"""Items in a body of Arrow's stream format: a matrix of vectors, with ids and metadata beside it.

    id         utf8
    vector     fixed_size_list<float32>[D]
    metadata   utf8, a JSON object each; may be null, or missing

Invariants:
- Nothing takes much more memory than the body has bytes: what a message refers to is bounded before pyarrow reads
  it (arrow_messages.py), and a batch is validated before its numbers are used.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sfsc_service.errors import Problem
from sfsc_service.http.arrow_messages import messages_of
from sfsc_service.store.protocol import Float32

if TYPE_CHECKING:
    import pyarrow

__all__ = ["ARROW", "ArrowItems", "read_arrow"]

ARROW = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True, slots=True, eq=False)
class ArrowItems:
    """Columns, each n long; `vectors` is float32 [n, D]. An id or metadata may be None."""

    ids: list[str | None]
    vectors: Float32
    metadata: list[str | None]


def read_arrow(body: bytes | bytearray, dimension: int, max_items: int) -> ArrowItems:
    """Read all items of a body.

    Raises:
        Problem: unsupported_media_type, where pyarrow is not installed; invalid_parameter, a column is missing or
            of another type; dimension_mismatch; limit_exceeded; invalid_request, the body is no such stream.
    """
    try:
        import pyarrow
    except ImportError:
        detail = f"Content-Type: {ARROW} needs the extra parquet, which this service lacks"
        raise Problem("unsupported_media_type", detail, "Content-Type") from None
    try:
        return _read(pyarrow, body, dimension, max_items)
    except (pyarrow.ArrowException, EOFError, OSError, ValueError) as error:
        raise Problem("invalid_request", f"body: must be an Arrow stream: {str(error)[:200]}", "body") from error


def _read(arrow: Any, body: bytes | bytearray, dimension: int, max_items: int) -> ArrowItems:
    messages = messages_of(body)
    schema = arrow.ipc.read_schema(_message(arrow, next(messages)))
    _check_schema(arrow, schema, dimension)
    parts, found = list[ArrowItems](), 0
    for number, data in enumerate(messages, start=1):
        if number > max_items:
            detail = f"batches: at most {max_items} in a request, found more; nothing was stored"
            raise Problem("limit_exceeded", detail, "batches")
        batch = arrow.ipc.read_record_batch(_message(arrow, data), schema)
        found += batch.num_rows
        if found > max_items:
            detail = f"items: at most {max_items} in a request, found more; nothing was stored"
            raise Problem("limit_exceeded", detail, "items")
        batch.validate(full=True)
        parts.append(_items_of(batch, dimension))
    vectors = [part.vectors for part in parts] or [np.empty((0, dimension), np.float32)]
    return ArrowItems(
        [one for part in parts for one in part.ids],
        np.concatenate(vectors),
        [one for part in parts for one in part.metadata],
    )


def _message(arrow: Any, data: memoryview) -> "pyarrow.Message":
    return arrow.ipc.read_message(arrow.py_buffer(data))


def _check_schema(arrow: Any, schema: "pyarrow.Schema", dimension: int) -> None:
    columns = {name: schema.field(number).type for number, name in enumerate(schema.names)}
    if len(columns) < len(schema.names) or not {"id", "vector"} <= columns.keys() <= {"id", "vector", "metadata"}:
        found = ", ".join(schema.names)[:200] or "none"
        rule = "must be id, vector and, if wanted, metadata"
        raise Problem("invalid_parameter", f"columns: {rule}, found {found}", "columns")
    for name in columns.keys() - {"vector"}:
        if columns[name] != arrow.string():
            raise Problem("invalid_parameter", f"{name}: must be utf8, found {columns[name]}"[:300], name)
    kind = columns["vector"]
    if not arrow.types.is_fixed_size_list(kind) or kind.value_type != arrow.float32():
        rule = f"must be fixed_size_list<float32>[{dimension}]"
        raise Problem("invalid_parameter", f"vector: {rule}, found {kind}"[:300], "vector")
    if kind.list_size != dimension:
        detail = f"vector: must have {dimension} numbers, found {kind.list_size}"
        raise Problem("dimension_mismatch", detail, "vector")


def _items_of(batch: "pyarrow.RecordBatch", dimension: int) -> ArrowItems:
    lists = batch.column("vector")
    numbers = lists.flatten()
    if lists.null_count or numbers.null_count or len(numbers) != batch.num_rows * dimension:
        raise Problem("vector_invalid", "vector: must not be null, found a null", "vector")
    vectors = numbers.to_numpy(zero_copy_only=True).reshape(-1, dimension)
    has_metadata = "metadata" in batch.schema.names
    metadata = batch.column("metadata").to_pylist() if has_metadata else [None] * batch.num_rows
    return ArrowItems(batch.column("id").to_pylist(), vectors, metadata)
