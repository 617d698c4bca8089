"""LanceDB as one of the stores that benchmarks/gallery_peers.py compares.

Without a vector index every search is exact, which its documentation recommends up to about a million rows. Fields
have the scalar indexes that it recommends: a bitmap where there are few values, a B-tree where there are more.
"""

import os
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import Bitmap, BTree

from gallery_stores.data import SHARES, Float32, Gallery, K, field_of, value_of

__all__ = ["LanceGallery"]

ROWS = 100_000
MANY_VALUES = 1_000
os.environ["LANCE_CPU_THREADS"] = os.environ.get("GALLERY_THREADS", "2")


class LanceGallery:
    def __init__(self, folder: Path) -> None:
        self._table = lancedb.connect(folder).open_table("items")
        self._columns = ["id", *map(field_of, SHARES), "_distance"]

    @staticmethod
    def fill(folder: Path, gallery: Gallery) -> None:
        database, table = lancedb.connect(folder), None
        for first in range(0, len(gallery), ROWS):
            rows = _rows(gallery, first)
            if table is None:
                table = database.create_table("items", rows)
            else:
                table.add(rows)
        assert table is not None
        for share, values in SHARES.items():
            table.create_index(field_of(share), config=BTree() if values > MANY_VALUES else Bitmap())
        table.optimize()

    def wait(self) -> None:
        pass

    def search(self, query: Float32, share: str | None) -> list[int]:
        wanted = self._table.search(query).distance_type("dot").limit(K).select(self._columns)
        if share is not None:
            value = value_of(share, 0)
            wanted = wanted.where(
                f"{field_of(share)} = " + (f"'{value}'" if isinstance(value, str) else f"{value}")
            )
        return [int(hit["id"][len("item-") :]) for hit in wanted.to_list()]

    def notes(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        del self._table


def _rows(gallery: Gallery, first: int) -> pa.Table:
    vectors = np.array(gallery.vectors[first : first + ROWS])
    numbers = range(first, first + len(vectors))
    fields = {
        field_of(share): [value_of(share, int(values[n])) for n in numbers]
        for share, values in zip(SHARES, gallery.fields, strict=True)
    }
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({"id": [f"item-{n:08d}" for n in numbers], "vector": flat, **fields})
