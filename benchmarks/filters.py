"""Searches with filters that keep half of the items, and ever fewer: beside no filter, raw faiss and SQL.

    python benchmarks/filters.py [--items 1000000] [--repeats 20]

The store is asked in process, one query at a time. `raw` is faiss over the same vectors with the bitmap ready, its
answers are what the store's are compared with.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np

from result_file import Figure, write_result
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.filters.language import parse
from sfsc_service.store.filters.sql import to_sql
from sfsc_service.store.protocol import Float32, Item
from store import DIMENSION, SEED, SPACE, columns_bytes, drawn

CALL = 10_000
K = 10
QUERIES = 20
SHARES = {50.0: 2, 5.0: 20, 0.5: 200, 0.05: 2_000}
"""Per cent that a filter keeps, and one of how many values of its field that is."""
FIELDS = {share: f"one_of_{values}" for share, values in SHARES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        vectors, values = fill(Path(folder), options.items)
        figures, data = measure(Path(folder), vectors, values, options.repeats)
    print(f"written to {write_result('filters', figures, data, seed=SEED)}")


def metadata_of(values: dict[float, np.ndarray[Any, Any]], n: int) -> dict[str, Any]:
    """Numbers in two of the fields, text in the others; and some that no filter asks for."""
    numbers = {FIELDS[share]: int(values[share][n]) for share in (50.0, 0.5)}
    texts = {FIELDS[share]: f"value {values[share][n]}" for share in (5.0, 0.05)}
    return {**numbers, **texts, "place": {"street": "north"}, "taken": n / 7, "tags": ["car", f"t{n % 50}"]}


def filter_of(share: float) -> dict[str, Any]:
    return {FIELDS[share]: 0 if share in (50.0, 0.5) else "value 0"}


def fill(folder: Path, items: int) -> tuple[Float32, dict[float, np.ndarray[Any, Any]]]:
    """A store with so many items; their vectors, and the values of their fields."""
    rng = np.random.default_rng(SEED)
    values = {share: rng.integers(count, size=items) for share, count in SHARES.items()}
    vectors = drawn(items, SEED)
    store = EmbeddedStore(folder, SPACE, DIMENSION)
    for first in range(0, items, CALL):
        numbers = range(first, min(first + CALL, items))
        store.upsert([Item(f"item-{n:08d}", SPACE, "1.0", vectors[n], metadata_of(values, n)) for n in numbers])
    store.close()
    return vectors, values


def measure(
    folder: Path, vectors: Float32, values: dict[float, np.ndarray[Any, Any]], repeats: int
) -> tuple[list[Figure], dict[str, Any]]:
    queries = drawn(QUERIES, 2)
    began = time.perf_counter()
    store = EmbeddedStore(folder, SPACE, DIMENSION)
    store.search(queries[:1], K)
    opened = time.perf_counter() - began
    while not store._filters.loaded:
        time.sleep(0.05)
    loaded = time.perf_counter() - began
    columns_mb = columns_bytes(store) / 1e6
    figures = [
        Figure(f"start at {len(vectors):,} items until the first hit", opened, "s", "<= 1"),
        Figure("start until filters are judged in memory", loaded, "s"),
        Figure("memory of the columns", columns_mb, "MB"),
    ]
    unfiltered, data = [], dict[str, Any]()
    for share in SHARES:
        mask = values[share] == 0
        times = interleaved(store, vectors, queries, filter_of(share), mask, repeats)
        unfiltered += times["unfiltered"]
        plain, filtered, raw = (median(times[name]) for name in ("unfiltered", "filtered", "raw"))
        right = same_hits(store, vectors, queries, filter_of(share), mask)
        name = f"a filter that keeps {share:g} %"
        figures += [
            Figure(f"{name}: median", filtered, "ms"),
            Figure(f"{name}: ÷ without a filter", filtered / plain, "×", "<= 1.5"),
            Figure(f"{name}: ÷ raw faiss with the bitmap ready", filtered / raw, "×", "<= 3"),
            Figure(f"{name}: judging it in SQL alone", sql_ms(store, filter_of(share)), "ms"),
            Figure(f"{name}: answers that are right", right, "", ">= 1"),
        ]
        data[name] = {"kept": int(mask.sum()), "milliseconds": times}
    figures.append(Figure("without a filter: median", median(unfiltered), "ms"))
    store.close()
    return figures, {"items": len(vectors), "dimension": DIMENSION, "k": K, "filters": data}


def interleaved(
    store: EmbeddedStore,
    vectors: Float32,
    queries: Float32,
    wanted: dict[str, Any],
    mask: np.ndarray[Any, Any],
    repeats: int,
) -> dict[str, list[float]]:
    """Milliseconds of each kind of search, in turn, so that a busy moment of the machine meets all of them."""
    bitmap = np.packbits(mask, bitorder="little")
    calls: dict[str, Callable[[Float32], object]] = {
        "unfiltered": lambda query: store.search(query, K),
        "filtered": lambda query: store.search(query, K, wanted),
        "raw": lambda query: raw(vectors, query, bitmap),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        query = queries[turn % QUERIES][None]
        for name, call in calls.items():
            began = time.perf_counter()
            call(query)
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: took[1:] for name, took in times.items()}


def raw(vectors: Float32, query: Float32, bitmap: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Positions of the best K rows of the bitmap."""
    library: Any = faiss
    library.omp_set_num_threads(1)
    scores, positions = np.empty((1, K), np.float32), np.empty((1, K), np.int64)
    pointers = [library.swig_ptr(array) for array in (query, vectors, scores, positions)]
    selector = library.IDSelectorBitmap(bitmap)
    library.knn_inner_product(*pointers[:2], DIMENSION, 1, len(vectors), K, *pointers[2:], selector)
    return positions[0]


def same_hits(
    store: EmbeddedStore, vectors: Float32, queries: Float32, wanted: dict[str, Any], mask: np.ndarray[Any, Any]
) -> float:
    """The share of queries whose hits are those of brute force in float64, scores rounded to float32."""
    rows = np.flatnonzero(mask)
    kept, right = vectors[rows].astype(np.float64), 0
    for query in queries[:5]:
        scores = (kept @ query.astype(np.float64)).astype(np.float32)
        best = np.argsort(-scores, kind="stable")[:K]
        hits = store.search(query[None], K, wanted)[0]
        ids = {f"item-{n:08d}" for n in rows[best]}
        right += {hit.id for hit in hits} == ids or np.allclose(
            [hit.score for hit in hits], scores[best], atol=1e-7
        )
    return right / 5


def sql_ms(store: EmbeddedStore, wanted: dict[str, Any]) -> float:
    condition = to_sql(parse(wanted))
    with store._readers.acquire() as reader:
        began = time.perf_counter()
        reader.select(condition, [])
        return 1e3 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
