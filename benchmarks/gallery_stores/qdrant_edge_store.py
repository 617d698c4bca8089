"""Qdrant Edge as one of the stores that benchmarks/gallery_peers.py compares.

Searches are exact (`SearchParams(exact=True)`). No graph is built (`m=0`), which those do not use. There are two
large segments, so that both threads have one, and every field has an index.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    HnswIndexConfig,
    MatchValue,
    PayloadSchemaType,
    Point,
    Query,
    QueryRequest,
    SearchParams,
    UpdateOperation,
)

from gallery_stores.data import SHARES, TEXTS, Float32, Gallery, K, field_of, value_of

__all__ = ["QdrantEdgeGallery"]

POINTS = 5_000
THREADS = int(os.environ.get("GALLERY_THREADS", "2"))
LEAST_INDEXED_KB = 1_000


class QdrantEdgeGallery:
    def __init__(self, folder: Path) -> None:
        self._shard = EdgeShard.load(str(folder))
        self._exact = SearchParams(exact=True)

    @staticmethod
    def fill(folder: Path, gallery: Gallery) -> None:
        kilobytes = gallery.vectors.nbytes // 1024
        config = EdgeConfig(
            vectors=EdgeVectorParams(size=gallery.vectors.shape[1], distance=Distance.Dot),
            hnsw_config=HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
            optimizers=EdgeOptimizersConfig(
                default_segment_number=THREADS,
                max_segment_size=kilobytes // THREADS + LEAST_INDEXED_KB,
                indexing_threshold=min(LEAST_INDEXED_KB, kilobytes // THREADS + 1),
            ),
            max_search_threads=THREADS,
        )
        shard = EdgeShard.create(str(folder), config)
        for share in SHARES:
            kind = PayloadSchemaType.Keyword if share in TEXTS else PayloadSchemaType.Integer
            shard.update(UpdateOperation.create_field_index(field_of(share), kind))
        sealed = len(gallery) // THREADS
        for first in range(0, len(gallery), POINTS):
            vectors = np.array(gallery.vectors[first : first + POINTS]).tolist()
            points = [Point(first + n, vector, gallery.metadata(first + n)) for n, vector in enumerate(vectors)]
            shard.update(UpdateOperation.upsert_points(points))
            if first + POINTS >= sealed:
                shard.optimize()
                sealed += len(gallery) // THREADS
        shard.optimize()
        shard.flush()
        shard.close()

    def wait(self) -> None:
        pass

    def search(self, query: Float32, share: str | None) -> list[int]:
        wanted = None
        if share is not None:
            match = MatchValue(value_of(share, 0))
            wanted = Filter(must=[FieldCondition(key=field_of(share), match=match)])
        nearest = Query.Nearest(query.tolist())
        request = QueryRequest(limit=K, query=nearest, filter=wanted, params=self._exact, with_payload=True)
        return [int(found.id) for found in self._shard.query(request)]

    def notes(self) -> dict[str, Any]:
        return {"segments": self._shard.info().segments_count}

    def close(self) -> None:
        self._shard.close()
