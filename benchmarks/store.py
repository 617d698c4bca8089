"""The embedded store by itself: start and memory by size, bulk insertion, and how long changes wait for a merge.

    python benchmarks/store.py [--items 100000 1000000]

Each start is made in a process of its own, page cache warm: from opening the folder until the first right hit.
"""

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from result_file import Figure, write_result
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Float32, Item

SPACE, DIMENSION, SEED = "benchmark", 128, 1
CALL = 1_000
STARTS = 3
WRITES = 3_000
SEAL_ROWS = 150
METADATA = {"camera": 3, "identity": "v7", "place": {"street": "north"}}


def drawn(count: int, seed: int) -> Float32:
    """Clustered unit vectors [count, DIMENSION]."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(SEED).standard_normal((256, DIMENSION), np.float32)
    vectors = centres[rng.integers(256, size=count)] + rng.standard_normal((count, DIMENSION), np.float32)
    unit: Float32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def items_of(vectors: Float32, first: int) -> list[Item]:
    return [Item(f"item-{first + i:08d}", SPACE, "1.0", vector, METADATA) for i, vector in enumerate(vectors)]


def fill(folder: Path, count: int) -> tuple[float, float]:
    """Insert `count` items in calls of CALL; items a second, and the longest call in milliseconds."""
    store = EmbeddedStore(folder, SPACE, DIMENSION)
    spent = longest = 0.0
    for first in range(0, count, CALL):
        items = items_of(drawn(CALL, first), first)
        began = time.perf_counter()
        store.upsert(items)
        took = time.perf_counter() - began
        spent, longest = spent + took, max(longest, took)
    store.close()
    return count / spent, 1e3 * longest


def sqlite_rate(folder: Path, count: int) -> float:
    """Rows a second that sqlite3's executemany inserts, the same rows in transactions of CALL."""
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE items (id TEXT PRIMARY KEY, width TEXT, metadata TEXT, vector BLOB)")
    text, spent = json.dumps(METADATA), 0.0
    for first in range(0, count, CALL):
        vectors = drawn(CALL, first)
        began = time.perf_counter()
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO items VALUES (?, ?, ?, ?)",
            ((f"item-{first + i:08d}", "1.0", text, vector.data) for i, vector in enumerate(vectors)),
        )
        connection.execute("COMMIT")
        spent += time.perf_counter() - began
    connection.close()
    return count / spent


def single_writes(folder: Path) -> tuple[float, float, int]:
    """Changes of one item beside the merges that they cause: median and longest in milliseconds, and merges."""
    store, vectors = EmbeddedStore(folder, SPACE, DIMENSION, seal_rows=SEAL_ROWS), drawn(WRITES, 5)
    merges, done = set[str](), threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            merges.update(path.name for path in (folder / "segments").glob("*.segment"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    took = []
    for item in items_of(vectors, 0):
        began = time.perf_counter()
        store.upsert([item])
        took.append(time.perf_counter() - began)
    done.set()
    watcher.join()
    store.close()
    return 1e3 * float(np.median(took)), 1e3 * max(took), len(merges)


def start(folder: Path, count: int) -> None:
    """The part of a process of its own: print seconds until the first hit, and memory before and at the peak."""
    warm = EmbeddedStore(folder / "none", SPACE, DIMENSION)
    warm.search(drawn(1, 0), 1)
    warm.close()
    before = anonymous_bytes()
    number = count // 2 // CALL * CALL
    query = drawn(CALL, number)[:1]
    began, cpu = time.perf_counter(), time.process_time()
    store = EmbeddedStore(folder / "store", SPACE, DIMENSION)
    (hits,) = store.search(query, 1)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert hits[0].id == f"item-{number:08d}"
    print(json.dumps({"s": took, "cpu_s": cpu, "bytes": anonymous_bytes() - before, "peak_rss": peak_bytes()}))
    store.close()


def columns_bytes(store: EmbeddedStore) -> int:
    """What the columns for filters hold, without the room behind their arrays, which takes no memory yet.

    With the numbers of their rows and which of these are live, which nothing else uses.
    """
    table = store._filters._table
    columns = table._columns.values()
    rows = table._sequences.view().nbytes + table._live.view().nbytes
    arrays = sum(c.contents.codes.nbytes + c.contents.numbers.nbytes for c in columns)
    return rows + arrays + sum(column._dictionary_bytes for column in columns)


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return 1024 * int(line.split()[1])


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def started(folder: Path, count: int) -> list[dict[str, float]]:
    command = [sys.executable, __file__, "--start", str(folder), "--items", str(count)]
    outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(STARTS)]
    return [json.loads(output) for output in outputs]


def main() -> None:
    """Fill, start, write; print and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        start(options.start, options.items[0])
        return
    figures, data = list[Figure](), dict[str, object]()
    for count in options.items:
        with tempfile.TemporaryDirectory() as folder:
            rate, longest = fill(Path(folder) / "store", count)
            bare = sqlite_rate(Path(folder), count)
            runs = started(Path(folder), count)
        scanned, median = 4 * DIMENSION * count, sorted(run["s"] for run in runs)[STARTS // 2]
        memory = max(run["bytes"] for run in runs) / scanned
        figures += [
            Figure(f"{count} items, start until the first hit", median, "s", "<= 1"),
            Figure(f"{count} items, CPU time of that", sorted(run["cpu_s"] for run in runs)[STARTS // 2], "s"),
            Figure(f"{count} items, anonymous memory ÷ vectors", memory, "", "<= 1.25"),
            Figure(f"{count} items, bulk insertion ÷ sqlite3 executemany", rate / bare, "", ">= 0.4"),
            Figure(f"{count} items, longest call of {CALL} items", longest, "ms"),
        ]
        data[str(count)] = {"items_per_s": rate, "sqlite_rows_per_s": bare, "starts": runs}
    with tempfile.TemporaryDirectory() as folder:
        median, longest, merges = single_writes(Path(folder))
    figures += [
        Figure("change of one item, median", median, "ms"),
        Figure("change of one item beside merges, longest", longest, "ms", "<= 50"),
    ]
    data["segments written beside single changes"] = merges
    data["load average at the end"] = os.getloadavg()[0]
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit}", figure.goal or "", figure.met)
    write_result("store", figures, data, seed=SEED)


if __name__ == "__main__":
    main()
