"""Vectors as a body of Arrow's stream format. Needs pyarrow, which is imported where it is used."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sfsc_bundle.extras import installing

__all__ = ["ARROW", "arrow_body"]

ARROW = "application/vnd.apache.arrow.stream"


def arrow_body(
    ids: Sequence[str], vectors: npt.NDArray[np.float32], metadata: Sequence[Mapping[str, Any] | None] | None
) -> bytes:
    """Items, a row of `vectors` [n, D] each, as one body.

    Raises ValueError where the numbers of items differ, ModuleNotFoundError without the extra `parquet`.
    """
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"many vectors are sent by pyarrow: {installing('parquet')}") from error
    if vectors.ndim != 2 or len(vectors) != len(ids) or (metadata is not None and len(metadata) != len(ids)):
        found = f"{len(ids)} ids, vectors of shape {list(vectors.shape)}"
        raise ValueError(
            f"vectors: must be [n, D], with an id and, if given, metadata for each row; found {found}"
        )
    numbers = np.ascontiguousarray(vectors, np.float32)
    columns = {
        "id": pyarrow.array(list(ids), pyarrow.string()),
        "vector": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(numbers.reshape(-1)), numbers.shape[1]),
    }
    if metadata is not None:
        texts = [None if one is None else json.dumps(one, ensure_ascii=False) for one in metadata]
        columns["metadata"] = pyarrow.array(texts, pyarrow.string())
    batch = pyarrow.RecordBatch.from_pydict(columns)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body
