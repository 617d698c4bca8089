"""Vectors in a FAISS index, on the CPU or a GPU; no other module imports FAISS.

`make_index` gives rows of float32 [D] that are appended and never altered, each identified by its position from 0.
Scores are inner products in float32, off by at most `dimension` roundings; their last digits depend on device and
batch. A device that is asked for and fails a probe search is an error, never a silent run on the CPU.
"""

import threading
from typing import Any, assert_never

import faiss
import numpy as np
import numpy.typing as npt

from sfsc_bundle.runner import Device
from sfsc_service.store.errors import DeviceUnavailableError
from sfsc_service.store.protocol import Float32

__all__ = ["AcceleratedRows", "HostRows", "make_index", "probe"]

# The classic GPU indexes take no larger k.
_MAX_DEVICE_K = 2048
_PROBES = 64

Bitmap = npt.NDArray[np.uint8]
SearchResult = tuple[Float32, npt.NDArray[np.int64]]


class HostRows:
    """Rows in main memory. Reads and searches may run in parallel; `add` must run alone."""

    def __init__(self, dimension: int, threads: int) -> None:
        self._index = faiss.IndexFlatIP(dimension)
        self._threads = threads

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: Float32) -> None:
        self._index.add(np.ascontiguousarray(vectors, np.float32))

    def vectors(self) -> Float32:
        """All rows [n, D], without a copy: invalid after the next `add`."""
        count, dimension = len(self), self._index.d
        if not count:
            return np.empty((0, dimension), np.float32)
        view: Float32 = faiss.rev_swig_ptr(self._index.get_xb(), count * dimension).reshape(count, dimension)
        return view

    def search(self, queries: Float32, k: int, selected: Bitmap | None) -> SearchResult:
        """Scores [n, k] descending and positions [n, k]; k ≤ rows. `selected`: one bit a row, lowest bit first."""
        # faiss keeps this setting per thread, and any thread may search.
        faiss.omp_set_num_threads(self._threads)
        scores, positions = self._index.search(queries, k, params=_parameters(selected))
        return scores, positions


class AcceleratedRows(HostRows):
    """Rows with a second copy on a device, for searches that the device can do; the host does the others.

    `device_index`: an empty index with the interface of faiss.Index, which need not honour selectors.
    """

    def __init__(self, dimension: int, threads: int, device_index: Any) -> None:
        super().__init__(dimension, threads)
        self._device_index = device_index
        # Two threads must not use one faiss.StandardGpuResources at the same time.
        self._device_lock = threading.Lock()

    def add(self, vectors: Float32) -> None:
        super().add(vectors)
        self._device_index.add(np.ascontiguousarray(vectors, np.float32))

    def search(self, queries: Float32, k: int, selected: Bitmap | None) -> SearchResult:
        if selected is not None or k > _MAX_DEVICE_K:
            return super().search(queries, k, selected)
        with self._device_lock:
            scores, positions = self._device_index.search(queries, k)
        return scores, positions


def make_index(dimension: int, device: Device, threads: int) -> HostRows:
    """Empty rows on `device`, "cpu" or "cuda"; `threads` for one search on the host.

    Raises:
        DeviceUnavailableError: the device is missing or fails its probe.
    """
    match device:
        case "cpu":
            return HostRows(dimension, threads)
        case "cuda":
            return AcceleratedRows(dimension, threads, _cuda_index(dimension))
        case _:
            assert_never(device)


def _cuda_index(dimension: int) -> Any:
    if not hasattr(faiss, "StandardGpuResources"):
        rule = "cuda needs a faiss with GPU support (the extra sfsc[gpu])"
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


def _parameters(selected: Bitmap | None) -> Any:
    # A new object for each call: faiss writes into it.
    if selected is None:
        return None
    library: Any = faiss  # its stubs know the C++ constructors only
    return library.SearchParameters(sel=library.IDSelectorBitmap(selected))
