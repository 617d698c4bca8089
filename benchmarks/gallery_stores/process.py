"""One store of benchmarks/gallery_peers.py in a process of its own, so memory and threads are its own.

    python -m gallery_stores.process STORE fill DATA FOLDER           seconds that it takes
    python -m gallery_stores.process STORE start DATA FOLDER SMALL    seconds from opening to the first right hit
    python -m gallery_stores.process STORE serve DATA FOLDER SMALL    answers searches, a JSON document a line

SMALL is a store of few items: it is opened and searched first, so that imports, threads and caches of the
libraries are there before anything is measured.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from gallery_stores.data import VectorStore, read


def main() -> None:
    """Do what the command line says; answers are lines of JSON."""
    name, mode, *folders = sys.argv[1:]
    kind = store_of(name)
    data, folder = Path(folders[0]), Path(folders[1])
    if mode == "fill":
        began = time.perf_counter()
        kind.fill(folder, read(data))
        say({"s": time.perf_counter() - began, "bytes": size_of(folder)})
        return
    warm(kind, Path(folders[2]))
    before = anonymous_bytes()
    (start if mode == "start" else serve)(kind, data, folder, before)


def store_of(name: str) -> type[VectorStore]:
    """The store of a name. Each import needs its own environment."""
    match name:
        case "sfsc":
            from gallery_stores.sfsc_store import SfscGallery as Found
        case "lancedb":
            from gallery_stores.lancedb_store import LanceGallery as Found
        case "qdrant-edge":
            from gallery_stores.qdrant_edge_store import QdrantEdgeGallery as Found
        case "usearch":
            from gallery_stores.usearch_store import UsearchGallery as Found
        case _:
            raise ValueError(f"a store must be sfsc, lancedb, qdrant-edge or usearch; found {name}")
    found: type[VectorStore] = Found
    return found


def warm(kind: type[VectorStore], small: Path) -> None:
    """Open a small store, search in it, close it."""
    store = kind(small)
    store.wait()
    query = np.zeros(read(small.parent / "small").vectors.shape[1], np.float32)
    query[0] = 1
    store.search(query, None)
    store.search(query, "50")
    store.close()


def start(kind: type[VectorStore], data: Path, folder: Path, before: int) -> None:
    """Open, and search for an item until it is found."""
    gallery = read(data)
    number = len(gallery) // 2
    query = np.array(gallery.vectors[number])
    began = time.perf_counter()
    store = kind(folder)
    found = store.search(query, None)
    took = time.perf_counter() - began
    assert found[0] == number, found
    say({"s": took, "anonymous": anonymous_bytes() - before})
    store.close()


def serve(kind: type[VectorStore], data: Path, folder: Path, before: int) -> None:
    """Answer `{"query": [...], "share": null}` with the hits, milliseconds and the memory that no file backs."""
    store = kind(folder)
    store.wait()
    say({"ready": True, "items": len(read(data))})
    for line in sys.stdin:
        asked = json.loads(line)
        query = np.array(asked["query"], np.float32)
        began = time.perf_counter()
        hits = store.search(query, asked["share"])
        took = time.perf_counter() - began
        say({"ms": 1e3 * took, "hits": hits, "anonymous": anonymous_bytes() - before, "notes": store.notes()})
    store.close()


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return 1024 * int(line.split()[1])


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
