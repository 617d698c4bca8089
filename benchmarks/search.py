"""Searches in a large gallery: one by one and many at a time, beside faiss and BLAS over the same vectors.

    python benchmarks/search.py [--items 1000000] [--folder FOLDER]

Clustered vectors of the demo bundle's dimension. What is compared is measured in turn in one run. "BLAS product":
numpy's product of the vectors with as many queries as there are clients, without looking for the best of it.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, get_args

import faiss
import numpy as np
import orjson

from live_service import launched, wait_idle
from load import post
from result_file import Figure, write_result
from sfsc_bundle.folder import open_bundle
from sfsc_service.store.embedded.index.quantised_rows import Quantisation
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Float32, Item

BUNDLE = Path("models/demo")
SEED = 1
CALL = 5_000
CENTRES = 256
CLIENTS = (16, 64)
K = 10
QUERIES = 256
ROUNDS = 9
SECONDS = 10


def drawn(count: int, dimension: int, seed: int) -> Float32:
    """Clustered unit vectors [count, dimension]."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(SEED).standard_normal((CENTRES, dimension), np.float32)
    vectors = centres[rng.integers(CENTRES, size=count)] + rng.standard_normal((count, dimension), np.float32)
    unit: Float32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def fill(folder: Path, vectors: Float32, space: str) -> None:
    store = EmbeddedStore(folder, space, vectors.shape[1])
    for first in range(0, len(vectors), CALL):
        part = vectors[first : first + CALL]
        store.upsert(
            [Item(f"item-{first + n}", space, "1.0", one, {"n": first + n}) for n, one in enumerate(part)]
        )
    store.close()


def in_turn(calls: Sequence[Callable[[], Any]], rounds: int = ROUNDS) -> list[float]:
    """Median milliseconds of each call."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, took in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            took.append(1e3 * (time.perf_counter() - began))
    return [median(took[1:]) for took in times]


def in_process(
    folder: Path, vectors: Float32, queries: Float32, space: str
) -> tuple[list[Figure], dict[str, Any]]:
    """The store beside faiss and BLAS, every side with all cores."""
    threads = os.cpu_count() or 1
    store = EmbeddedStore(folder, space, vectors.shape[1], threads=threads)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)

    def raw() -> None:
        faiss.omp_set_num_threads(threads)
        flat.search(queries[:1], K)

    ours, theirs = in_turn([lambda: store.search(queries[:1], K), raw])
    figures = [Figure("one query ÷ raw faiss", ours / theirs, "", "<= 1.1")]
    data: dict[str, Any] = {"one query": {"store_ms": ours, "faiss_ms": theirs}}
    for count in CLIENTS:
        many, product = queries[:count], np.empty((len(vectors), count), np.float32)
        ours, theirs = in_turn(
            [
                lambda many=many: store.search(many, K),
                lambda many=many, product=product: np.matmul(vectors, many.T, out=product),
            ]
        )
        figures.append(Figure(f"{count} queries in a call ÷ BLAS product", ours / theirs, ""))
        data[f"{count} queries"] = {"store_ms": ours, "blas_ms": theirs}
    store.close()
    return figures, data


def approximate(
    folder: Path, kind: Quantisation, queries: Float32, space: str
) -> tuple[list[Figure], dict[str, Any]]:
    """A tier beside exact searches of the same store: recall, rate, and how long it is in the making."""
    began = time.perf_counter()
    threads = os.cpu_count() or 1
    store = EmbeddedStore(folder, space, queries.shape[1], threads=threads, quantisation=kind)
    while store.approximate is None or not store.approximate.rows:
        time.sleep(0.1)
    made_s, status = time.perf_counter() - began, store.approximate
    expected = [{hit.id for hit in hits} for hits in store.search(queries, K)]
    found = [{hit.id for hit in hits} for hits in store.search_approximately(queries, K)[0]]
    recall = sum(len(best & some) for best, some in zip(expected, found, strict=True)) / (K * len(queries))
    one, many = queries[:1], queries[: max(CLIENTS)]
    exact, quick, exact_many, quick_many = in_turn(
        [
            lambda: store.search(one, K),
            lambda: store.search_approximately(one, K),
            lambda: store.search(many, K),
            lambda: store.search_approximately(many, K),
        ]
    )
    store.close()
    goals = (">= 0.98", ">= 10") if kind == "ivf" else (None, None)
    figures = [
        Figure(f"{kind}, recall@{K}", recall, "", goals[0]),
        Figure(f"{kind}, rate ÷ exact, one query", exact / quick, "", goals[1]),
        Figure(f"{kind}, rate ÷ exact, {len(many)} queries in a call", exact_many / quick_many, ""),
        Figure(f"{kind}, ready after", made_s, "s"),
    ]
    times = {"exact_ms": exact, "ms": quick, "exact_many_ms": exact_many, "many_ms": quick_many}
    return figures, {kind: {**times, "measured_recall": status.recall}}


def over_http(folder: Path, queries: Float32, space: str, products_ms: dict[int, float]) -> list[Figure]:
    """Answers a second to clients that send the next search as soon as they have an answer.

    The service has checked its store and loaded the fields for filters by then.
    """
    with tempfile.TemporaryDirectory() as work:
        bodies = []
        for number, query in enumerate(queries):
            path = Path(work) / f"{number}.json"
            path.write_bytes(orjson.dumps({"vector": query.tolist(), "width": "1.0", "space": space, "k": K}))
            bodies.append(path)
        figures = []
        settings = {"SFSC_DATA": str(folder), "SFSC_LOG_LEVEL": "warning", "SFSC_QUEUE_MS": "20000"}
        with launched(BUNDLE, Path(work), **settings) as (client, process):
            wait_idle(process)
            url = f"{client.base_url}/search"
            for clients in (1, *CLIENTS):
                rate = post(url, bodies, SECONDS, kind="application/json", clients=clients).per_second
                figures.append(Figure(f"HTTP, {clients} clients", rate, "searches/s"))
                if clients in products_ms:
                    goal = 1e3 * clients / products_ms[clients]
                    figures.append(Figure(f"HTTP, {clients} clients ÷ BLAS product", rate / goal, "", ">= 0.7"))
        return figures


def main() -> None:
    """Fill, search, print and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="keep the gallery here, and use one that is here")
    options = parser.parse_args()
    manifest = open_bundle(BUNDLE).manifest
    vectors = drawn(options.items, manifest.dimension, SEED + 1)
    queries = drawn(max(CLIENTS), manifest.dimension, SEED + 2)
    with tempfile.TemporaryDirectory() as work:
        folder = options.folder or Path(work) / "store"
        if not folder.exists():
            fill(folder, vectors, manifest.space)
        figures, data = in_process(folder, vectors, queries, manifest.space)
        products = {count: data[f"{count} queries"]["blas_ms"] for count in CLIENTS}
        del vectors
        for kind in get_args(Quantisation):
            more, times = approximate(folder, kind, drawn(QUERIES, manifest.dimension, SEED + 3), manifest.space)
            figures += more
            data |= times
        figures += over_http(folder, queries, manifest.space, products)
    data |= {"items": options.items, "load average at the end": os.getloadavg()[0]}
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit}", figure.goal or "", figure.met)
    write_result("search", figures, data, seed=SEED)


if __name__ == "__main__":
    main()
