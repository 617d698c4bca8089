"""The child process of growth.py: it opens a gallery and says what it measures, a JSON document a line."""

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np

from sfsc_service.engine.malloc import limit_arenas, return_large_blocks
from sfsc_service.engine.memory_budget import filter_memory
from sfsc_service.store.embedded.index.quantised_rows import Quantisation
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import MAX_ITEMS, Item
from store import DIMENSION, SPACE, anonymous_bytes, columns_bytes, drawn

__all__ = ["CALL", "FILTER", "TIERS", "K", "items_of"]

CALL = MAX_ITEMS
K = 10
QUERIES = 64
FEWEST, MOST, SECONDS = 5, 30, 4.0
CAMERAS, COLOURS = 20, 200
FILTER = {"camera": 0}
"""Keeps 5 % of the items."""
TIERS: tuple[Quantisation, ...] = get_args(Quantisation)
APPROXIMATE_ROWS = 1_000
"""So that small galleries have a tier, too."""


def metadata_of(number: int) -> dict[str, Any]:
    return {"camera": number % CAMERAS, "colour": f"colour {number * 7 % COLOURS}"}


def items_of(first: int, count: int) -> list[Item]:
    """The items `first` .. `first + count` - 1, where `first` is a multiple of CALL."""
    return [
        Item(f"item-{first + n:08d}", SPACE, "1.0", vector, metadata_of(first + n))
        for n, vector in enumerate(drawn(CALL, first)[:count])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("items", type=int)
    parser.add_argument("what", choices=("start", "exact", *TIERS, "writes"))
    options = parser.parse_args()
    limit_arenas()  # as `sfsc serve` does
    return_large_blocks()
    before = opened_before(options.folder.parent / "none")
    say("before", anonymous=before)
    tier = options.what if options.what in TIERS else None
    store, began = started(options.folder, options.items, tier)
    if options.what != "start":
        wait(store, began)
    if options.what == "writes":
        writes(store)
    elif options.what == "exact":
        exact(store, options.items)
    elif tier is not None:
        approximate(store)
    say("end", anonymous=anonymous_bytes())
    store.close()


def opened_before(folder: Path) -> int:
    """Memory of the process once it has opened and searched an empty store."""
    store = EmbeddedStore(folder, SPACE, DIMENSION)
    store.search(drawn(1, 0), 1)
    store.close()
    return anonymous_bytes()


def started(folder: Path, items: int, tier: Quantisation | None) -> tuple[EmbeddedStore, float]:
    """Open, and find an item; when that began."""
    number = items // 2 // CALL * CALL
    query = drawn(CALL, number)[:1]
    began, cpu = time.perf_counter(), time.process_time()
    store = EmbeddedStore(
        folder,
        SPACE,
        DIMENSION,
        threads=os.cpu_count() or 1,
        quantisation=tier,
        approximate_rows=APPROXIMATE_ROWS,
        filter_memory_bytes=filter_memory(),
    )
    (hits,) = store.search(query, 1)
    say("start", s=time.perf_counter() - began, cpu_s=time.process_time() - cpu, anonymous=anonymous_bytes())
    assert hits[0].id == f"item-{number:08d}"
    return store, began


def wait(store: EmbeddedStore, began: float) -> None:
    """Wait for what a start does in the background."""
    while not store._filters.loaded:
        time.sleep(0.02)
    say("columns", s=time.perf_counter() - began, bytes=columns_bytes(store))
    if store.approximate is not None:
        while not store.approximate.rows:
            time.sleep(0.02)
        say("tier", s=time.perf_counter() - began, recall_measured=store.approximate.recall)
    wait_checked()
    say("ready", s=time.perf_counter() - began, anonymous=anonymous_bytes())


def wait_checked() -> None:
    """Wait until a store that was opened in this process has checked its database."""
    while any(thread.name == "sfsc-store-check" for thread in threading.enumerate()):
        time.sleep(0.02)


def exact(store: EmbeddedStore, items: int) -> None:
    queries = drawn(QUERIES, 2)
    say("search", ms=timed(lambda n: store.search(queries[n % QUERIES][None], K)))
    say("filter", ms=timed(lambda n: store.search(queries[n % QUERIES][None], K, FILTER)))
    say("get", ms=timed(lambda n: store.get([f"item-{n * 7919 % items:08d}"])))
    with store._readers.acquire() as reader:
        began = time.perf_counter()
        reader.contents()
        say("rows", s=time.perf_counter() - began)


def approximate(store: EmbeddedStore) -> None:
    queries = drawn(QUERIES, 2)
    say("search", ms=timed(lambda n: store.search_approximately(queries[n % QUERIES][None], K)))
    expected = [{hit.id for hit in hits} for hits in store.search(queries, K)]
    found = [{hit.id for hit in hits} for hits in store.search_approximately(queries, K)[0]]
    shares = [len(best & some) / len(best) for best, some in zip(expected, found, strict=True)]
    say("recall", share=float(np.mean(shares)))


def writes(store: EmbeddedStore) -> None:
    """Changes of one item, one after the other, while all vectors are written into a new segment."""
    compacting = threading.Thread(target=store.compact)
    took: list[float] = []
    vectors = drawn(CALL, 3)
    began = time.perf_counter()
    compacting.start()
    while compacting.is_alive() or len(took) < FEWEST:
        item = Item(f"change-{len(took)}", SPACE, "1.0", vectors[len(took) % CALL], metadata_of(0))
        once = time.perf_counter()
        store.upsert([item])
        took.append(1e3 * (time.perf_counter() - once))
    compacting.join()
    say("writes", s=time.perf_counter() - began, count=len(took), median_ms=median(took), longest_ms=max(took))


def timed(call: Callable[[int], object]) -> float:
    """Median milliseconds of a call after the first one; it is given a number."""
    took: list[float] = []
    began = time.perf_counter()
    while len(took) <= FEWEST or (time.perf_counter() - began < SECONDS and len(took) < MOST):
        once = time.perf_counter()
        call(len(took))
        took.append(1e3 * (time.perf_counter() - once))
    return median(took[1:])


def say(name: str, **found: object) -> None:
    print(json.dumps({"phase": name, **found}), flush=True)


if __name__ == "__main__":
    main()
