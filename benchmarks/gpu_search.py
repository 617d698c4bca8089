"""The search side of gpu.py: the service's own index against the CPU's, and kinds of index that it does not offer.

The service's rows on a device are float32 and exact. Beside them stand, with recall, time and memory, kinds that
hold half as much or look at fewer rows: float16, IVF and, where faiss has it, CAGRA. Vectors come in clusters,
as embeddings do; queries lie near rows. On the CPU, faiss's own indexes of the same kinds are built by the same
code.
"""

import subprocess
from collections.abc import Callable, Iterator
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from gpu_timing import timed
from result_file import Figure
from sfsc_bundle.machine import usable_cpus
from sfsc_service.store.embedded.index.faiss_rows import AcceleratedRows, HostRows, make_index
from sfsc_service.store.errors import StoreError

__all__ = ["search"]

Floats = npt.NDArray[np.float32]
Device = Literal["cpu", "cuda"]
K = 10
QUERIES = 64
CHUNK = 1_000_000
BEYOND_DEVICE_K = 4_096
PROBES = (16, 64, 256)
LEAST_ROWS_PER_LIST = 40
"""Of the rows that lists are trained on; faiss warns of fewer."""


def search(dimension: int, device: Device, rows: int, repeats: int) -> list[Figure]:
    """All figures. Raises RuntimeError where the device is missing or answers wrongly."""
    vectors, queries = drawn(rows, dimension)
    try:
        wanted, figures = own_index(vectors, queries, device, repeats)
    except StoreError as error:
        raise RuntimeError(str(error)) from error
    return figures + list(other_kinds(vectors, queries, wanted, device, repeats))


def drawn(rows: int, dimension: int) -> tuple[Floats, Floats]:
    """Unit vectors [rows, D], each near one of rows / 1,000 centres, and queries [64, D], each near a row."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((max(1, rows // 1000), dimension), dtype=np.float32)
    vectors = np.empty((rows, dimension), np.float32)
    for first in range(0, rows, CHUNK):
        part = vectors[first : first + CHUNK]
        part[:] = centres[random.integers(0, len(centres), len(part))]
        part += random.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    queries = vectors[random.integers(0, rows, QUERIES)]
    queries = queries + random.standard_normal(queries.shape, dtype=np.float32) * np.float32(0.5 / dimension**0.5)
    return vectors, queries / np.linalg.norm(queries, axis=1, keepdims=True)


def own_index(
    vectors: Floats, queries: Floats, device: Device, repeats: int
) -> tuple[npt.NDArray[np.int64], list[Figure]]:
    """The K nearest rows of each query, found on the CPU, and the figures of the service's rows on the device."""
    dimension, count = vectors.shape[1], len(vectors)
    threads = usable_cpus()
    host = make_index(dimension, "cpu", threads, [vectors])
    before = used_mib(device)
    fast = make_index(dimension, device, threads, [vectors])
    figures = [Figure(f"{count} rows, float32: memory", used_mib(device) - before or size_mib(vectors), "MiB")]
    if isinstance(fast, AcceleratedRows):
        assert fast.on_device, "index: the rows do not fit on the device"
    nearest = host.search(queries, K, None)[1]
    for some, k in ((1, K), (QUERIES, K), (QUERIES, 1024)):
        same(host, fast, queries[:some], k, None)
        took = timed(lambda some=some, k=k: fast.search(queries[:some], k, None), repeats)
        figures.append(Figure(f"search {count} rows, {some} queries, k = {k}", 1000 * took, "ms"))
    few = np.zeros(count, np.bool_)
    few[:: max(1, count // 100)] = True
    for what, k, mask in (
        ("half of the rows", K, np.arange(count) % 2 == 0),
        ("about 100 rows", K, few),
        (f"k = {BEYOND_DEVICE_K}", min(BEYOND_DEVICE_K, count), None),
    ):
        same(host, fast, queries[:1], k, mask)
        took = timed(lambda k=k, mask=mask: fast.search(queries[:1], k, mask), max(1, repeats // 10))
        figures.append(Figure(f"search {count} rows, one query, {what}: by the host", 1000 * took, "ms"))
    return nearest, figures


def same(host: HostRows, fast: HostRows, queries: Floats, k: int, mask: npt.NDArray[np.bool_] | None) -> None:
    """Compare scores, and that hits are of the mask. Raises AssertionError."""
    wanted, found = host.search(queries, k, mask), fast.search(queries, k, mask)
    difference = float(np.abs(wanted[0] - found[0])[wanted[1] >= 0].max())
    assert difference <= 1e-3, f"index: scores of the device and the CPU differ by {difference:.2e} at k = {k}"
    positions = found[1][found[1] >= 0]
    assert mask is None or mask[positions].all(), "index: a filtered search must stay among the rows of its filter"
    assert found[1].shape == wanted[1].shape


def other_kinds(
    vectors: Floats, queries: Floats, nearest: npt.NDArray[np.int64], device: Device, repeats: int
) -> Iterator[Figure]:
    """Recall, time and memory of each; one that this faiss does not have is left out with a line."""
    count, dimension = vectors.shape
    lists = max(1, min(4 * round(count**0.5), len(vectors) // LEAST_ROWS_PER_LIST))
    kinds: dict[str, Callable[[], Any]] = {
        "float16": lambda: half_flat(dimension, device),
        f"IVF{lists}, float16": lambda: moved(f"IVF{lists},SQfp16", dimension, device),
        "CAGRA": lambda: cagra(dimension, device),
    }
    for name, make in kinds.items():
        before = used_mib(device)
        try:
            index = filled(make(), vectors, name)
        except (AttributeError, RuntimeError) as error:
            print(f"search: {name} is left out: {str(error).strip().partition(chr(10))[0]}")
            continue
        memory = used_mib(device) - before
        if device == "cpu":
            memory = index.sa_code_size() * count / 2**20
        yield Figure(f"{count} rows, {name}: memory", memory, "MiB")
        for probes in sorted({min(probes, lists) for probes in PROBES}) if name.startswith("IVF") else (None,):
            if probes is not None:
                index.nprobe = probes
            what = f"{count} rows, {name}" + ("" if probes is None else f", {probes} probes")
            found = index.search(queries, K)[1]
            hits = sum(len(np.intersect1d(*pair)) for pair in zip(found, nearest, strict=True))
            yield Figure(f"{what}: recall at {K}", hits / nearest.size, "share")
            for some in (1, QUERIES):
                took = timed(lambda some=some, index=index: index.search(queries[:some], K), repeats)
                yield Figure(f"{what}: {some} queries", 1000 * took, "ms")
        del index


def half_flat(dimension: int, device: Device) -> Any:
    """Exact search in float16 rows."""
    library: Any = faiss  # its stubs know no GPU
    if device == "cpu":
        return library.index_factory(dimension, "SQfp16", library.METRIC_INNER_PRODUCT)
    config = library.GpuIndexFlatConfig()
    config.useFloat16 = True
    return library.GpuIndexFlatIP(library.StandardGpuResources(), dimension, config)


def moved(description: str, dimension: int, device: Device) -> Any:
    """An index by faiss's description of it, on the device."""
    library: Any = faiss
    index = library.index_factory(dimension, description, library.METRIC_INNER_PRODUCT)
    return index if device == "cpu" else library.index_cpu_to_gpu(library.StandardGpuResources(), 0, index)


def cagra(dimension: int, device: Device) -> Any:
    """NVIDIA's graph of neighbours, which is built from all rows at once."""
    library: Any = faiss
    if device == "cpu":
        raise RuntimeError("faiss has it for GPUs only")
    resources, config = library.StandardGpuResources(), library.GpuIndexCagraConfig()
    return library.GpuIndexCagra(resources, dimension, library.METRIC_INNER_PRODUCT, config)


def filled(index: Any, vectors: Floats, name: str) -> Any:
    """The index with all rows."""
    if name == "CAGRA":
        index.train(vectors)  # which also adds them
        return index
    index.train(vectors[:: max(1, len(vectors) // CHUNK)])
    for first in range(0, len(vectors), CHUNK):
        index.add(vectors[first : first + CHUNK])
    return index


def used_mib(device: Device) -> float:
    """Memory of the device in use, by nvidia-smi; 0 on the CPU."""
    if device == "cpu":
        return 0.0
    words = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0])


def size_mib(vectors: Floats) -> float:
    """Of an array."""
    return vectors.nbytes / 2**20
