"""The embedded store beside LanceDB, Qdrant Edge and USearch: the same vectors and fields, exact and filtered.

    python benchmarks/gallery_peers.py [--items 1000000] [--folder FOLDER]
    python benchmarks/gallery_peers.py --quick    # for development; writes nothing

The peers come from PyPI into environments of their own in runs/peers. Each store has a process of its own, with
two threads for a search, and is set up as its documentation recommends for exact searches; the modules of
benchmarks/gallery_stores say how. All are open at the same time and asked in turn, one query at a time, while the
others idle; a hit comes with its id and its metadata where a store keeps them. Start: opening until the first
right hit, page cache warm. Memory: what no file backs, the most after any search, over what the process had
before it opened the store. Ours is ranked without its columns for filters, as a store that keeps no metadata has
nothing like them; with them it is printed besides.

A store that keeps no metadata is not ranked in filters; its time is that of numpy choosing the rows.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np

from gallery_stores.data import SHARES, Gallery, K, read, write
from result_file import Figure, write_result
from store import DIMENSION, SEED, drawn

ROOT = Path(__file__).parents[1]
PROGRAM = "gallery_stores.process"
ENVIRONMENTS = Path("runs/peers")
OURS = "sfsc"
PACKAGES = {
    "lancedb": ["lancedb==0.40.0"],
    "qdrant-edge": ["qdrant-edge-py==0.9.0"],
    "usearch": ["usearch==2.26.6"],
}
STORES = (OURS, *PACKAGES)
WITHOUT_FILTERS = ("usearch",)
THREADS = 2
SMALL_ITEMS = 1_000
STARTS = 3
CHECKED = 5
TIE = 1e-5
ROWS_AT_ONCE = 65_536
BYTES_AN_ITEM = 6_000
"""On disk, the data and all stores together, with what is written on the way."""


def main() -> None:
    """Fill all stores, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="keep the stores here, and use those that are here")
    parser.add_argument("--quick", action="store_true", help="for development; writes nothing")
    options = parser.parse_args()
    items, repeats = (4_000, 2) if options.quick else (options.items, options.repeats)
    pythons = {store: environment(store) for store in STORES}
    with tempfile.TemporaryDirectory() as name:
        work = options.folder or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        filled = fill_all(work, items, pythons)
        starts = start_all(work, pythons)
        found = search_all(work, pythons, repeats)
        figures = figured(starts, found, right_answers(read(work / "data"), found))
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit}", figure.goal or "", figure.met)
    if options.quick:
        return
    data = {
        "items": items,
        "dimension": DIMENSION,
        "k": K,
        "packages": PACKAGES,
        "filled": filled,
        "starts": starts,
        "milliseconds": {store: {key: one["ms"] for key, one in by.items()} for store, by in found.items()},
        "notes": {store: next(iter(by.values()))["notes"] for store, by in found.items()},
        "load average at the end": os.getloadavg()[0],
    }
    print("written to", write_result("gallery_peers", figures, data, seed=SEED))


def environment(store: str) -> Path:
    """The Python that runs a store; a peer's environment is made once."""
    if store == OURS:
        return Path(sys.executable)
    folder = ENVIRONMENTS / f"gallery-{store}"
    if not (folder / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        numpy = f"numpy=={np.__version__}"
        subprocess.run([folder / "bin/pip", "install", "--quiet", numpy, *PACKAGES[store]], check=True)
        (folder / ".ready").touch()
    return (folder / "bin/python").absolute()


def command(python: Path, store: str, mode: str, work: Path) -> list[str]:
    folders = [work / "data", work / store, work / f"{store}-small"]
    return [str(word) for word in (python, "-m", PROGRAM, store, mode, *folders)]


def surroundings() -> dict[str, str]:
    """Two threads for everything that asks the environment; this tree's packages, for our own store."""
    paths = os.pathsep.join(str(ROOT / name) for name in ("benchmarks", "bundle", "service"))
    return os.environ | {
        "GALLERY_THREADS": str(THREADS),
        "PYTHONPATH": paths,
        "LANCE_CPU_THREADS": str(THREADS),
        "RAYON_NUM_THREADS": str(THREADS),
    }


def fill_all(work: Path, items: int, pythons: Mapping[str, Path]) -> dict[str, Any]:
    """The data and the stores, unless they are there; seconds and bytes of each store."""
    if not (work / "data").exists():
        if (free := shutil.disk_usage(work).free) < BYTES_AN_ITEM * items:
            sys.exit(f"{items} items need {BYTES_AN_ITEM * items} bytes of disk; found {free} in {work}")
        write(work / "data", drawn(items, SEED), SEED)
        write(work / "small", drawn(SMALL_ITEMS, SEED + 1), SEED + 1)
    if (there := len(read(work / "data"))) != items:
        sys.exit(f"{work} must be a folder of {items} items; found {there}")
    found = {}
    for store, python in pythons.items():
        if not (work / f"{store}-small.json").exists():
            shutil.rmtree(work / store, ignore_errors=True)
            shutil.rmtree(work / f"{store}-small", ignore_errors=True)
            words = [python, "-m", PROGRAM, store, "fill"]
            filled = run([*words, work / "data", work / store])
            run([*words, work / "small", work / f"{store}-small"])
            (work / f"{store}-small.json").write_text(json.dumps(filled))
        found[store] = json.loads((work / f"{store}-small.json").read_text())
        print(f"{store}: filled", found[store], flush=True)
    return found


def run(words: Sequence[object]) -> dict[str, Any]:
    """The last line that a process prints."""
    given = {"env": surroundings(), "check": True, "text": True, "stdout": subprocess.PIPE}
    output = subprocess.run([str(word) for word in words], **given).stdout
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def start_all(work: Path, pythons: Mapping[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """Every store several times, in turn; the first round warms the page cache and does not count."""
    found: dict[str, list[dict[str, Any]]] = {store: [] for store in pythons}
    for _ in range(1 + STARTS):
        for store, python in pythons.items():
            found[store].append(run(command(python, store, "start", work)))
    return {store: runs[1:] for store, runs in found.items()}


def search_all(work: Path, pythons: Mapping[str, Path], repeats: int) -> dict[str, dict[str, Any]]:
    """By store and share (`all` without a filter): milliseconds, the hits of each query, most memory, notes."""
    queries = drawn(repeats + 1, SEED + 2)
    found: dict[str, dict[str, Any]] = {store: {} for store in pythons}
    with ExitStack() as stack:
        processes = {}
        for store, python in pythons.items():
            words = command(python, store, "serve", work)
            process = stack.enter_context(
                subprocess.Popen(
                    words, env=surroundings(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            answer(process)  # it is open
            processes[store] = process
        for turn, query in enumerate(queries):
            for share in (None, *SHARES):
                for store, process in processes.items():
                    assert process.stdin is not None
                    process.stdin.write(json.dumps({"query": query.tolist(), "share": share}) + "\n")
                    process.stdin.flush()
                    one = answer(process)
                    kept = found[store].setdefault(share or "all", {"ms": [], "hits": [], "anonymous": 0})
                    kept["hits"].append(one["hits"])
                    kept["anonymous"] = max(kept["anonymous"], one["anonymous"])
                    kept["notes"] = one["notes"]
                    if turn:
                        kept["ms"].append(one["ms"])
    return found


def answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The next line of JSON; a library may print other lines."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    sys.exit(f"the process ended: {process.args}")


def right_answers(gallery: Gallery, found: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By store and share, the share of some queries whose hits are those of brute force, near ties apart."""
    turns = len(next(iter(found.values()))["all"]["hits"])
    queries = drawn(turns, SEED + 2)[:CHECKED].astype(np.float64)
    right: dict[str, dict[str, float]] = {store: {} for store in found}
    for share in ("all", *SHARES):
        rows = np.arange(len(gallery)) if share == "all" else np.flatnonzero(gallery.kept(share))
        scores = np.concatenate(
            [gallery.vectors[rows[n : n + 65_536]] @ queries.T for n in range(0, len(rows), 65_536)]
        )
        for store, by_share in found.items():
            good = [
                same_hits(hits, rows, scores[:, number])
                for number, hits in enumerate(by_share[share]["hits"][: len(queries)])
            ]
            right[store][share] = sum(good) / len(good)
    return right


def same_hits(hits: Sequence[int], rows: "np.ndarray[Any, Any]", scores: "np.ndarray[Any, Any]") -> bool:
    """Whether the hits are among `rows` and have the best scores."""
    expected = np.sort(scores)[::-1][:K]
    places = np.minimum(np.searchsorted(rows, hits), len(rows) - 1)
    return (
        len(hits) == len(expected)
        and bool((rows[places] == hits).all())
        and bool(np.allclose(np.sort(scores[places])[::-1], expected, atol=TIE))
    )


def figured(
    starts: Mapping[str, Sequence[Mapping[str, float]]],
    found: Mapping[str, Mapping[str, Any]],
    right: Mapping[str, Mapping[str, float]],
) -> list[Figure]:
    """What every store reached, ours over the best other one, and how often ours is first and last."""
    filtering = [store for store in found if store not in WITHOUT_FILTERS]
    tables: dict[str, tuple[str, dict[str, float]]] = {
        "exact search": ("ms", {store: median(by["all"]["ms"]) for store, by in found.items()})
    }
    for share in SHARES:
        values = {store: median(by[share]["ms"]) for store, by in found.items()}
        tables[f"a filter that keeps {share} %"] = ("ms", values)
    tables["start until the first hit"] = (
        "s",
        {store: median(run["s"] for run in starts[store]) for store in found},
    )
    memory = {store: max(one["anonymous"] for one in by.values()) / 1e6 for store, by in found.items()}
    columns = max(one["notes"]["columns"] for one in found[OURS].values()) / 1e6
    tables["anonymous memory"] = ("MB", memory | {OURS: memory[OURS] - columns})
    figures, last = list[Figure](), list[str]()
    ranked = {}
    for name, (unit, values) in tables.items():
        ranked[name] = {store: values[store] for store in (filtering if "filter" in name else values)}
        others = [value for store, value in ranked[name].items() if store != OURS]
        figures += [Figure(f"{name}: {store}", value, unit) for store, value in values.items()]
        figures.append(Figure(f"{name}: ours ÷ the best other one", ranked[name][OURS] / min(others), "×"))
        if ranked[name][OURS] >= max(others):
            last.append(name)
    filters = {
        store: geometric_mean(values[store] for name, values in ranked.items() if "filter" in name)
        for store in filtering
    }
    figures += [Figure(f"filters, geometric mean: {store}", value, "ms") for store, value in filters.items()]
    judged = [values for name, values in ranked.items() if "filter" not in name] + [filters]
    first = sum(min(values, key=lambda store: values[store]) == OURS for values in judged)
    figures += [
        Figure("anonymous memory of ours with its columns for filters", memory[OURS], "MB"),
        Figure("figures in which ours is the slowest or largest", len(last), "", "<= 0"),
        Figure("of exact, filters, start and memory, ours is first in", first, "", ">= 2"),
    ]
    for store, by_share in right.items():
        goal = ">= 1" if store == OURS else None
        figures.append(
            Figure(f"answers that are right, the least of all: {store}", min(by_share.values()), "", goal)
        )
    return figures


if __name__ == "__main__":
    main()
