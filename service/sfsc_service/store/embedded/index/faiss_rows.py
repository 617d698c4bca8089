"""Vectors in float32 that FAISS searches where they are, on the CPU or a GPU.

`make_index` gives rows of float32 [D], each identified by its position from 0: first those of given matrices,
which are not copied, then those that are appended. Rows are never altered.
Scores are inner products in float32, off by at most `dimension` roundings; their last digits depend on device and
batch. A device that is asked for and fails a probe search is an error, never a silent run on the CPU.
"""

import copy
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self, assert_never, cast

import faiss
import numpy as np
import numpy.typing as npt

from sfsc_bundle.runner import Device
from sfsc_service.store.embedded.index.growable_array import GrowableArray
from sfsc_service.store.embedded.index.threads import in_threads
from sfsc_service.store.errors import DeviceUnavailableError
from sfsc_service.store.protocol import Float32

__all__ = ["AcceleratedRows", "BestRows", "HostRows", "make_index", "probe"]

# The classic GPU indexes take no larger k.
_MAX_DEVICE_K = 2048
_PROBES = 64
_CHUNK = 65_536
# From so many queries on, a product of matrices takes less time than one scan for each query.
_PRODUCT_QUERIES = 4
# Where a filter keeps a smaller share of the rows, one by one is quicker than all with a look at a bit for each.
_BITMAP_SHARE = 0.35
# So much of the vectors is copied at once: it stays in the cache.
_COPIED_BYTES = 2 << 20
_MIN_COPIED_ROWS = 64
# Newer releases of faiss compare queries × components with this threshold, older ones queries; their own values of
# it, 128,000 and 20, tell which.
_COUNTS_COMPONENTS = cast("Any", faiss).cvar.distance_compute_blas_threshold > 1_000
# A thread that has fewer rows to search is not worth its start.
_MIN_PART_ROWS = 32_768
# Of rows that are read one by one.
_MIN_CHOSEN_ROWS = 8_192
# So many parts for each thread, because a thread may get less of its core than another.
_PARTS_PER_THREAD = 4
# Results of so many times k are collected before the k best of them are kept.
_KEPT_RESULTS = 16

_log = logging.getLogger(__name__)

Mask = npt.NDArray[np.bool_]
SearchResult = tuple[Float32, npt.NDArray[np.int64]]


class HostRows:
    """Rows in main memory or mapped files. Reads and searches may run in parallel; `add` must run alone."""

    def __init__(self, dimension: int, threads: int, matrices: Sequence[Float32] = ()) -> None:
        self._dimension = dimension
        self._threads = threads
        self._arrange(matrices, GrowableArray(np.float32, (dimension,)))

    def __len__(self) -> int:
        return self._mapped_count + len(self._added)

    @property
    def dimension(self) -> int:
        return self._dimension

    def add(self, vectors: Float32) -> None:
        self._added.extend(vectors)

    def rearranged(self, matrices: Sequence[Float32], added: GrowableArray[np.float32]) -> Self:
        """The same rows in the same order, now in `matrices` and then `added`; what a device has is shared.

        These rows must not be used any more, and `added` is the new ones'.
        """
        rows = copy.copy(self)
        rows._arrange(matrices, added)
        return rows

    def take(self, positions: npt.NDArray[np.int64]) -> Float32:
        """The rows at `positions` [n] as a copy [n, D]."""
        taken = np.empty((len(positions), self._dimension), np.float32)
        for start, matrix in self._pieces():
            inside = (positions >= start) & (positions < start + len(matrix))
            if inside.any():
                taken[inside] = matrix[positions[inside] - start]
        return taken

    def search(self, queries: Float32, k: int, mask: Mask | None) -> SearchResult:
        """Scores [n, k] descending and positions [n, k]; k ≤ rows. `mask` [rows]: among these rows only.

        Where the mask has fewer than k rows, all of them are found.
        """
        parts = [
            (start, matrix, selected, len(matrix) if selected is None else int(np.count_nonzero(selected)))
            for start, matrix in self._parts()
            for selected in (None if mask is None else mask[start : start + len(matrix)],)
        ]
        parts = [part for part in parts if part[-1]]
        least = _MIN_PART_ROWS if mask is None else _MIN_CHOSEN_ROWS
        threads = min(self._threads, sum(chosen for *_, chosen in parts) // least)

        def search_part(part: tuple[int, Float32, Mask | None, int]) -> SearchResult:
            _, matrix, selected, chosen = part
            return _search_matrix(queries, matrix, k, selected, chosen)

        best = BestRows(len(queries), k)
        for (start, *_), found in zip(parts, in_threads(threads, search_part, parts), strict=True):
            best.add(*found, start)
        return best.result()

    def _arrange(self, matrices: Sequence[Float32], added: GrowableArray[np.float32]) -> None:
        self._matrices = list(matrices)
        self._mapped_count = sum(map(len, matrices))
        self._added = added

    def _pieces(self) -> Iterator[tuple[int, Float32]]:
        """Matrices of rows with the position of their first one."""
        start = 0
        for matrix in (*self._matrices, self._added.view()):
            yield start, matrix
            start += len(matrix)

    def _parts(self) -> Iterator[tuple[int, Float32]]:
        """The same matrices, cut so that all threads have work until the end."""
        rows = max(_MIN_PART_ROWS, math.ceil(len(self) / (_PARTS_PER_THREAD * self._threads)))
        for start, matrix in self._pieces():
            for first in range(0, len(matrix), rows):
                yield start + first, matrix[first : first + rows]


class AcceleratedRows(HostRows):
    """Rows with a second copy on a device, for searches that the device can do; the host does the others.

    A device that fails, such as one whose memory is full, is not used again, and the log says so: the rows on the
    host are complete at any time.

    `device_index`: an empty index with the interface of faiss.Index, which need not honour selectors.
    """

    def __init__(self, dimension: int, threads: int, device_index: Any, matrices: Sequence[Float32] = ()) -> None:
        super().__init__(dimension, threads, matrices)
        self._device_index = device_index
        # Two threads must not use one faiss.StandardGpuResources at the same time.
        self._device_lock = threading.Lock()
        for matrix in matrices:
            self._add_on_device(matrix)

    @property
    def on_device(self) -> bool:
        """Whether the device has the rows."""
        return self._device_index is not None

    def add(self, vectors: Float32) -> None:
        super().add(vectors)
        self._add_on_device(vectors)

    def search(self, queries: Float32, k: int, mask: Mask | None) -> SearchResult:
        if mask is not None or k > _MAX_DEVICE_K:
            return super().search(queries, k, mask)
        with self._device_lock:
            if self._device_index is not None:
                try:
                    scores, positions = self._device_index.search(queries, k)
                    return scores, positions
                except RuntimeError as error:
                    self._lose_device(error)
        return super().search(queries, k, mask)

    def _add_on_device(self, vectors: Float32) -> None:
        for start in range(0, len(vectors), _CHUNK):
            if self._device_index is not None:
                try:
                    self._device_index.add(np.ascontiguousarray(vectors[start : start + _CHUNK], np.float32))
                except RuntimeError as error:
                    self._lose_device(error)

    def _lose_device(self, error: RuntimeError) -> None:
        self._device_index = None  # which also frees its memory
        reason = str(error).strip().partition("\n")[0]
        rule = "the device failed; until they are copied to it anew, %d rows are searched on the CPU: %s"
        _log.error(rule, len(self), reason)


def make_index(dimension: int, device: Device, threads: int, matrices: Sequence[Float32] = ()) -> HostRows:
    """Rows on `device`, "cpu" or "cuda", at first those of `matrices`; `threads` for one search on the host.

    Raises:
        DeviceUnavailableError: the device is missing or fails its probe.
    """
    library: Any = faiss  # its stubs know no variables
    counted = dimension if _COUNTS_COMPONENTS else 1
    library.cvar.distance_compute_blas_threshold = _PRODUCT_QUERIES * counted
    match device:
        case "cpu":
            return HostRows(dimension, threads, matrices)
        case "cuda":
            return AcceleratedRows(dimension, threads, _cuda_index(dimension), matrices)
        case _:
            assert_never(device)


def _cuda_index(dimension: int) -> Any:
    if not hasattr(faiss, "StandardGpuResources"):
        rule = "cuda needs a faiss with GPU support (the extra gpu)"
        raise DeviceUnavailableError(f"device: {rule}; found faiss {faiss.__version__} without it")
    if not faiss.get_num_gpus():
        raise DeviceUnavailableError("device: cuda needs a GPU that faiss can use; found none")
    try:
        index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), dimension)
        probe(index, dimension)
    except RuntimeError as error:
        raise DeviceUnavailableError(f"device: cuda must answer a probe search; found {error}") from error
    return index


def probe(index: Any, dimension: int) -> None:
    """Search an empty device index for known vectors and empty it again.

    Raises:
        DeviceUnavailableError: it misses some, or its scores are less exact than float32 arithmetic, so that its
            candidates could not be relied on.
    """
    drawn = np.random.default_rng(0).standard_normal((_PROBES, dimension)).astype(np.float32)
    vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    index.add(vectors)
    scores, positions = index.search(vectors, _PROBES)
    index.reset()
    if not np.array_equal(np.sort(positions, axis=1), np.tile(np.arange(_PROBES), (_PROBES, 1))):
        raise DeviceUnavailableError("device: a probe search must find every vector; found some missing")
    wide = vectors.astype(np.float64)
    error = float(np.abs(scores - np.take_along_axis(wide @ wide.T, positions, axis=1)).max())
    if error > dimension * 2.0**-24:
        rule = f"scores must be good to {dimension * 2.0**-24:.1e}"
        raise DeviceUnavailableError(f"device: {rule}; found them off by {error:.1e}")


class BestRows:
    """The k best of the results of several searches."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._scores = [np.empty((queries, 0), np.float32)]
        self._positions = [np.empty((queries, 0), np.int64)]

    def add(self, scores: Float32, positions: npt.NDArray[np.int64], first: int) -> None:
        """`positions` count from `first`; -1 means that there is none."""
        self._scores.append(scores)
        self._positions.append(np.where(positions < 0, positions, positions + first))
        if sum(part.shape[1] for part in self._scores) > _KEPT_RESULTS * self._k:
            kept = self.result()
            self._scores, self._positions = [kept[0]], [kept[1]]

    def result(self) -> SearchResult:
        if len(self._scores) == 2:
            return self._scores[1], self._positions[1]
        scores, positions = np.hstack(self._scores), np.hstack(self._positions)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self._k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)


def _search_matrix(queries: Float32, matrix: Float32, k: int, selected: Mask | None, chosen: int) -> SearchResult:
    """The min(k, chosen) best rows of a matrix, of the `chosen` ones that are `selected`."""
    if selected is None or chosen == len(matrix):
        return _scan(queries, matrix, min(k, len(matrix)))
    if len(queries) >= _PRODUCT_QUERIES:
        return _multiply_selected(queries, matrix, k, np.flatnonzero(selected))
    if chosen > _BITMAP_SHARE * len(matrix):
        bitmap = np.packbits(selected, bitorder="little")
        return _scan(queries, matrix, min(k, chosen), cast("Any", faiss).IDSelectorBitmap(bitmap))
    return _scan_positions(queries, matrix, k, np.flatnonzero(selected))


def _scan(queries: Float32, matrix: Float32, k: int, selector: Any = None) -> SearchResult:
    """The k best rows, without a copy of the matrix."""
    scores, positions = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    if not k:
        return scores, positions
    pointers = [_pointer(array) for array in (queries, matrix, scores, positions)]
    count, dimension = matrix.shape
    library: Any = faiss  # its stubs know the C++ functions only
    library.knn_inner_product(*pointers[:2], dimension, len(queries), count, k, *pointers[2:], selector)
    return scores, positions


def _scan_positions(queries: Float32, matrix: Float32, k: int, chosen: npt.NDArray[np.int64]) -> SearchResult:
    """The min(k, m) best of the rows at the positions `chosen` [m], one query after the other."""
    k = min(k, len(chosen))
    scores, positions = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    pointers = [_pointer(array) for array in (queries, matrix, chosen, scores, positions)]
    count, dimension = matrix.shape
    sizes, same_for_all = (dimension, len(queries), count, len(chosen), k), 0
    library: Any = faiss  # its stubs know the C++ functions only
    library.knn_inner_products_by_idx(*pointers[:3], *sizes, *pointers[3:], same_for_all)
    return scores, positions


def _multiply_selected(queries: Float32, matrix: Float32, k: int, chosen: npt.NDArray[np.int64]) -> SearchResult:
    """The same by products of matrices, for which rows are copied side by side, so many as the cache holds."""
    best, dimension = BestRows(len(queries), min(k, len(chosen))), matrix.shape[1]
    at_once = max(_MIN_COPIED_ROWS, _COPIED_BYTES // (matrix.itemsize * dimension))
    copied = np.empty((min(at_once, len(chosen)), dimension), np.float32)
    for first in range(0, len(chosen), at_once):
        some = chosen[first : first + at_once]
        rows = copied[: len(some)]
        matrix.take(some, axis=0, out=rows, mode="clip")  # the other modes copy once more
        scores, positions = _scan(queries, rows, min(k, len(some)))
        best.add(scores, some[positions], 0)
    return best.result()


def _pointer(array: npt.NDArray[Any]) -> Any:
    return cast("Any", faiss).swig_ptr(array)
