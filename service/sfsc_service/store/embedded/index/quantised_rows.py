"""Vectors of 8 bits a component in a FAISS index, each identified by its sequence number.

They take a quarter of the memory of float32, and give candidates whose exact scores are found elsewhere:

    int8   every vector is scanned
    ivf    the vectors lie in lists, each around a centroid; the lists nearest to the query are scanned
"""

import math
from typing import Any, Literal, assert_never

import faiss
import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.threads import in_threads
from sfsc_service.store.protocol import Float32

__all__ = ["Quantisation", "QuantisedRows", "sample_size"]

Quantisation = Literal["int8", "ivf"]

_LISTS_PER_ROOT = 2
_SAMPLE_PER_LIST = 48
_SCALE_SAMPLE = 20_000
_ITERATIONS = 8
# A smaller share of the queries of a call is not worth the start of a thread.
_MIN_QUERIES = 4


def sample_size(quantisation: Quantisation, rows: int) -> int:
    """How many vectors to train with, where about so many rows are to follow."""
    match quantisation:
        case "int8":
            return _SCALE_SAMPLE
        case "ivf":
            return _SAMPLE_PER_LIST * _list_count(rows)
        case _:
            assert_never(quantisation)


class QuantisedRows:
    """Searches may run in parallel; `add` must run alone.

    Args:
        sample: float32 [n, D], about `sample_size` of the vectors, from which scales and centroids are found.
        rows: how many vectors are to follow, about.
        threads: for the queries of one call.

    Attributes:
        lists: how many lists there are; 1 for int8.
        probes: how many of them a search scans.
    """

    def __init__(self, quantisation: Quantisation, sample: Float32, rows: int, threads: int) -> None:
        self._threads = threads
        self._index = _trained(quantisation, sample, min(_list_count(rows), len(sample)))
        self.lists: int = getattr(self._index, "nlist", 1)
        self.probes = 1

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, sequences: Int64, vectors: Float32) -> None:
        self._index.add_with_ids(vectors, sequences)

    def search(self, queries: Float32, wanted: int) -> Int64:
        """Sequence numbers [n, wanted] of about the best rows, -1 where fewer were scanned."""
        size = max(_MIN_QUERIES, math.ceil(len(queries) / self._threads))
        parts = [queries[first : first + size] for first in range(0, len(queries), size)]
        found: Int64 = np.vstack(in_threads(self._threads, lambda part: self._search(part, wanted), parts))
        return found

    def _search(self, queries: Float32, wanted: int) -> Int64:
        parameters = None
        if self.lists > 1:
            # faiss writes into some parameters, so each call has its own.
            parameters = faiss.SearchParametersIVF()
            parameters.nprobe = self.probes
        positions: Int64 = self._index.search(queries, wanted, params=parameters)[1]
        return positions


def _list_count(rows: int) -> int:
    return max(1, int(_LISTS_PER_ROOT * math.sqrt(rows)))


def _trained(quantisation: Quantisation, sample: Float32, lists: int) -> Any:
    library: Any = faiss  # its stubs know the C++ constructors only
    faiss.omp_set_num_threads(1)
    dimension = sample.shape[1]
    eight_bits, metric = library.ScalarQuantizer.QT_8bit, library.METRIC_INNER_PRODUCT
    match quantisation:
        case "int8":
            flat = library.IndexScalarQuantizer(dimension, eight_bits, metric)
            flat.train(sample)
            return library.IndexIDMap(flat)
        case "ivf":
            centroids = library.IndexFlatIP(dimension)
            index = library.IndexIVFScalarQuantizer(centroids, dimension, lists, eight_bits, metric)
            index.cp.spherical, index.cp.niter = True, _ITERATIONS
            index.cp.min_points_per_centroid = 1
            index.train(sample)
            return index
        case _:
            assert_never(quantisation)
