"""Which library's index keeps the vectors, and on which device; nothing else here knows.

`make_index` gives rows of float32 [D] that are appended and never altered, each known by its position from 0.
Scores are inner products in float32, good to `dimension` roundings; their last digits depend on device and batch.
A wanted device that does not answer a probe search is an error, never a silent run on the CPU.
"""

import threading
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from sfsc_service.store.errors import DeviceUnavailableError
from sfsc_service.store.protocol import Float32

__all__ = ["DEVICES", "AcceleratedRows", "HostRows", "make_index", "probe"]

DEVICES = ("cpu", "cuda")
# The classic GPU indexes take no larger k.
_MAX_DEVICE_K = 2048
_PROBES = 64

Bitmap = npt.NDArray[np.uint8]
Found = tuple[Float32, npt.NDArray[np.int64]]


class HostRows:
    """Rows in main memory. Reading and searching may run side by side; `add` needs to be alone."""

    def __init__(self, dimension: int, threads: int) -> None:
        self._index = faiss.IndexFlatIP(dimension)
        self._threads = threads

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: Float32) -> None:
        self._index.add(np.ascontiguousarray(vectors, np.float32))

    def vectors(self) -> Float32:
        """All rows [n, D], not a copy: invalid as soon as `add` is called."""
        count, dimension = len(self), self._index.d
        if not count:
            return np.empty((0, dimension), np.float32)
        view: Float32 = faiss.rev_swig_ptr(self._index.get_xb(), count * dimension).reshape(count, dimension)
        return view

    def search(self, queries: Float32, k: int, among: Bitmap | None) -> Found:
        """Scores [n, k] descending and positions [n, k]; k ≤ rows. `among`: one bit a row, lowest bit first."""
        # A setting of the calling thread, and searches come from any.
        faiss.omp_set_num_threads(self._threads)
        scores, positions = self._index.search(queries, k, params=_parameters(among))
        return scores, positions


class AcceleratedRows(HostRows):
    """A second copy on a device for what it can do; the host does the rest.

    `device_index`: an empty index with the interface of faiss.Index, which need not honour selectors.
    """

    def __init__(self, dimension: int, threads: int, device_index: Any) -> None:
        super().__init__(dimension, threads)
        self._device_index = device_index
        # One faiss.StandardGpuResources must not serve two threads at once.
        self._turn = threading.Lock()

    def add(self, vectors: Float32) -> None:
        super().add(vectors)
        self._device_index.add(np.ascontiguousarray(vectors, np.float32))

    def search(self, queries: Float32, k: int, among: Bitmap | None) -> Found:
        if among is not None or k > _MAX_DEVICE_K:
            return super().search(queries, k, among)
        with self._turn:
            scores, positions = self._device_index.search(queries, k)
        return scores, positions


def make_index(dimension: int, device: str, threads: int) -> HostRows:
    """Empty rows on `device`, "cpu" or "cuda"; `threads` for one search on the host.

    Raises:
        DeviceUnavailableError: `device` is not one of DEVICES, or is not there, or does not answer rightly.
    """
    if device == "cpu":
        return HostRows(dimension, threads)
    if device == "cuda":
        return AcceleratedRows(dimension, threads, _cuda_index(dimension))
    raise DeviceUnavailableError(f"device: must be one of {', '.join(DEVICES)}; found {device!r}")


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
        DeviceUnavailableError: it misses some, or its scores are coarser than float32 arithmetic makes them, so
            that candidates could not be trusted.
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


def _parameters(among: Bitmap | None) -> Any:
    # A new object for every call: faiss writes into it.
    if among is None:
        return None
    library: Any = faiss  # its stubs know the C++ constructors only
    return library.SearchParameters(sel=library.IDSelectorBitmap(among))
