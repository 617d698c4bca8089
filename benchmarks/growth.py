"""The embedded store from ten thousand to ten million items: latency, memory, start and files.

    python benchmarks/growth.py [--sizes 10000 100000 1000000 10000000] [--kinds exact int8 ivf] [--most-ivf SIZE]
    python benchmarks/growth.py --quick    # for development; writes nothing

Clustered unit vectors of 128 components and two fields of metadata, inserted by the store's own calls of 10,000.
Every measurement is made in a process of its own with all cores, page cache warm. Start: from opening the store
until the first right hit. Memory: what no file backs, the most from the start until the tier is ready and searches
are done, over a process that has opened an empty store, with the heap set as a service's is; columns for filters
are told apart. A tier scans 128 bytes an item, an exact search 512. Writes: changes of one item while all vectors
are written anew.

The result has a plot, docs/gallery-growth.png.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from growth_plot import plot
from growth_probe import CALL, TIERS, K, items_of
from result_file import Figure, write_result
from sfsc_service.store.embedded.store import EmbeddedStore
from store import DIMENSION, SEED, SPACE

PLOT = Path(__file__).parents[1] / "docs" / "gallery-growth.png"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
STARTS = 3
LOOK_EVERY_S = 0.01
SCANNED = {"exact": 4 * DIMENSION, **dict.fromkeys(TIERS, DIMENSION)}
"""Bytes of an item's vector that a search reads."""
START_GOALS = {1_000_000: "<= 1", 10_000_000: "<= 10"}
BYTES_AN_ITEM = 2_400
"""On disk: an item takes about 800, and while segments are merged its vector is there three times."""

Found = dict[str, dict[str, Any]]


def main() -> None:
    """Fill and measure every size, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--kinds", nargs="+", choices=("exact", *TIERS), default=("exact", *TIERS))
    parser.add_argument("--most-ivf", type=int, default=10**7, help="largest size for which ivf is trained")
    parser.add_argument("--folder", type=Path, help="keep the galleries here, and use those that are here")
    parser.add_argument("--quick", action="store_true", help="for development; writes nothing")
    options = parser.parse_args()
    sizes = [10_000, 20_000] if options.quick else sorted(options.sizes)
    if wrong := [size for size in sizes if size < CALL or size % CALL]:
        sys.exit(f"--sizes must be multiples of {CALL}; found {wrong}")
    runs: dict[int, Found] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        for size in sizes:
            kinds = [kind for kind in options.kinds if kind != "ivf" or size <= options.most_ivf]
            runs[size] = measure(folder / f"{size}", size, kinds)
            if options.folder is None:
                shutil.rmtree(folder / f"{size}")
    reading = bytes_a_second()
    figures = [figure for size, found in runs.items() for figure in figured(size, found)]
    figures.append(Figure("reading memory, BLAS matrix × vector", reading / 1e9, "GB/s"))
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit}", figure.goal or "", figure.met)
    if options.quick:
        with tempfile.TemporaryDirectory() as name:
            plot(runs, SCANNED, reading, Path(name) / "plot.png")
        return
    plot(runs, SCANNED, reading, PLOT)
    data = {
        "dimension": DIMENSION,
        "k": K,
        "sizes": {str(size): found for size, found in runs.items()},
        "load average at the end": os.getloadavg()[0],
    }
    print("written to", write_result("growth", figures, data, seed=SEED))


def measure(folder: Path, size: int, kinds: Sequence[str]) -> Found:
    """Fill a gallery unless it is there; by what was measured, what every phase said, and the memory.

    Writes come last, as they change the gallery.
    """
    found: Found = {"fill": fill(folder, size)}
    for kind in kinds:
        found[kind] = probe(folder, size, kind)
    found["starts"] = {"runs": [probe(folder, size, "start")["start"] for _ in range(STARTS)]}
    found["writes"] = probe(folder, size, "writes")
    return found


def fill(folder: Path, size: int) -> dict[str, Any]:
    """Items a second, and the files."""
    record = folder.with_suffix(".json")
    if not record.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if (free := shutil.disk_usage(folder.parent).free) < BYTES_AN_ITEM * size:
            sys.exit(f"{size} items need {BYTES_AN_ITEM * size} bytes of disk; found {free}")
        store, spent = EmbeddedStore(folder, SPACE, DIMENSION), 0.0
        for first in range(0, size, CALL):
            items = items_of(first, CALL)
            began = time.perf_counter()
            store.upsert(items)
            spent += time.perf_counter() - began
        began = time.perf_counter()
        store.close()
        spent += time.perf_counter() - began
        record.write_text(json.dumps({"items_per_s": size / spent, **files_of(folder)}))
    found: dict[str, Any] = json.loads(record.read_text())
    print(f"{size} items:", found, flush=True)
    return found


def files_of(folder: Path) -> dict[str, int]:
    """Bytes of the vectors and of the database, and how many files of vectors there are."""
    segments = [path for path in (folder / "segments").iterdir() if path.is_file()]
    return {
        "vector_bytes": sum(path.stat().st_size for path in segments),
        "vector_files": len(segments),
        "database_bytes": sum(path.stat().st_size for path in folder.glob("database.sqlite*")),
    }


def probe(folder: Path, size: int, what: str) -> dict[str, Any]:
    """Run the child process; by phase what it said, and `peak`: most anonymous memory over what it had before."""
    words = [sys.executable, Path(__file__).with_name("growth_probe.py"), folder, size, what]
    found: dict[str, Any] = {}
    with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True) as process:
        watch = Watch(process.pid)
        for phase in phases(process):
            name = phase.pop("phase")
            if name == "before":
                watch.most = 0
            found[name] = phase
        most = watch.stop()
    if "end" not in found:
        sys.exit(f"the measurement of {what} at {size} items failed")
    found["peak"] = most - found["before"]["anonymous"]
    print(f"{size} items, {what}:", json.dumps(found), flush=True)
    return found


def phases(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield json.loads(line)


class Watch:
    """Looks at the anonymous memory of a process until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.most = 0
        self._status = Path(f"/proc/{pid}/status")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> int:
        """The most bytes there were."""
        self._stopped.set()
        self._thread.join()
        return self.most

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            try:
                text = self._status.read_text()
            except OSError:
                return
            for line in text.splitlines():
                if line.startswith("RssAnon"):
                    self.most = max(self.most, 1024 * int(line.split()[1]))


def bytes_a_second() -> float:
    """How fast this machine reads memory for a product of a matrix and a vector."""
    matrix, vector = np.ones((1_000_000, DIMENSION), np.float32), np.ones(DIMENSION, np.float32)
    took = []
    for _ in range(7):
        began = time.perf_counter()
        matrix @ vector
        took.append(time.perf_counter() - began)
    return matrix.nbytes / median(took)


def figured(size: int, found: Found) -> Iterator[Figure]:
    """The figures of one size."""
    name, fill = f"{size:,} items", found["fill"]
    starts = [run["s"] for run in found["starts"]["runs"]]
    yield Figure(f"{name}, insertion", fill["items_per_s"], "items/s")
    yield Figure(f"{name}, start until the first right hit", median(starts), "s", START_GOALS.get(size))
    for kind, scanned in SCANNED.items():
        if kind not in found:
            continue
        run, scans = found[kind], scanned * size
        yield Figure(f"{name}, {kind}: one search", run["search"]["ms"], "ms")
        if kind != "exact":
            yield Figure(f"{name}, {kind}: recall@{K}", run["recall"]["share"], "")
            yield Figure(f"{name}, {kind}: ready after", run["tier"]["s"], "s")
            yield Figure(f"{name}, {kind}: start until the first right hit", run["start"]["s"], "s")
        goal = "<= 1.25" if kind != "ivf" and size >= min(START_GOALS) else None
        peak = (run["peak"] - run["columns"]["bytes"]) / scans
        yield Figure(f"{name}, {kind}: peak of anonymous memory ÷ what it scans", peak, "×", goal)
    if "exact" in found:
        run = found["exact"]
        yield Figure(f"{name}, exact, a filter that keeps 5 %", run["filter"]["ms"], "ms")
        yield Figure(f"{name}, one item by its id", run["get"]["ms"], "ms")
        yield Figure(f"{name}, of the start: reading the database's rows", run["rows"]["s"], "s")
        yield Figure(f"{name}, columns for filters", run["columns"]["bytes"] / 1e6, "MB")
        yield Figure(f"{name}, columns are loaded after", run["columns"]["s"], "s")
    yield Figure(f"{name}, files: vectors", fill["vector_bytes"] / size, "bytes/item")
    yield Figure(f"{name}, files: database", fill["database_bytes"] / size, "bytes/item")
    longest = found["writes"]["writes"]["longest_ms"]
    yield Figure(f"{name}, longest change while all vectors are written anew", longest, "ms", "<= 50")


if __name__ == "__main__":
    main()
