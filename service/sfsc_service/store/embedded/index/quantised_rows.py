"""Vectors of 8 bits a component in a FAISS index, each identified by its sequence number.

They take a quarter of the memory of float32, and give candidates whose exact scores are found elsewhere:

    int8   every vector is scanned
    ivf    the vectors lie in lists, each around a centroid; the lists nearest to the query are scanned

An index of scanned vectors is in parts of equal size: a single array that grows takes twice the memory whenever it
is moved. Threads share the parts of one query, too.
"""

import math
from typing import Any, Literal, assert_never

import faiss
import numpy as np

from sfsc_service.store.embedded.changes import Int64
from sfsc_service.store.embedded.index.faiss_rows import BestRows
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
# A power of two, so that a full part has no memory beyond its rows: arrays double.
_PART_ROWS = 2**18


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
        threads: for one call.
        part_rows: of a part, where every vector is scanned.

    Attributes:
        lists: how many lists there are; 1 for int8.
        probes: how many of them a search scans.
    """

    def __init__(
        self, quantisation: Quantisation, sample: Float32, rows: int, threads: int, part_rows: int = _PART_ROWS
    ) -> None:
        self._threads = threads
        self._trained = _trained(quantisation, sample, min(_list_count(rows), len(sample)))
        self.lists: int = getattr(self._trained, "nlist", 1)
        self.probes = 1
        self._part_rows = part_rows if quantisation == "int8" else None
        self._parts = [self._new_part()]

    def __len__(self) -> int:
        return sum(int(part.ntotal) for part in self._parts)

    def add(self, sequences: Int64, vectors: Float32) -> None:
        while len(sequences):
            space = len(sequences) if self._part_rows is None else self._part_rows - int(self._parts[-1].ntotal)
            if space:
                self._parts[-1].add_with_ids(vectors[:space], sequences[:space])
                sequences, vectors = sequences[space:], vectors[space:]
            else:
                self._parts.append(self._new_part())

    def search(self, queries: Float32, wanted: int) -> Int64:
        """Sequence numbers [n, wanted] of about the best rows, -1 where fewer were scanned."""
        size = max(_MIN_QUERIES, math.ceil(len(queries) / self._threads))
        jobs = [(first, part) for first in range(0, len(queries), size) for part in self._parts]

        def search_part(job: tuple[int, Any]) -> tuple[Float32, Int64]:
            first, part = job
            return self._search(part, queries[first : first + size], wanted)

        found = in_threads(self._threads, search_part, jobs)
        best: dict[int, BestRows] = {}
        for (first, _), (scores, positions) in zip(jobs, found, strict=True):
            best.setdefault(first, BestRows(len(scores), wanted)).add(scores, positions, 0)
        return np.vstack([one.result()[1] for one in best.values()])

    def _search(self, part: Any, queries: Float32, wanted: int) -> tuple[Float32, Int64]:
        parameters = None
        if self.lists > 1:
            # faiss writes into some parameters, so each call has its own.
            parameters = faiss.SearchParametersIVF()
            parameters.nprobe = self.probes
        scores, positions = part.search(queries, wanted, params=parameters)
        return scores, positions

    def _new_part(self) -> Any:
        if self._part_rows is None:
            return self._trained
        library: Any = faiss  # its stubs know the C++ constructors only
        return library.IndexIDMap(library.clone_index(self._trained))


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
            return flat
        case "ivf":
            centroids = library.IndexFlatIP(dimension)
            index = library.IndexIVFScalarQuantizer(centroids, dimension, lists, eight_bits, metric)
            index.cp.spherical, index.cp.niter = True, _ITERATIONS
            index.cp.min_points_per_centroid = 1
            index.train(sample)
            return index
        case _:
            assert_never(quantisation)
