"""USearch as one of the stores that benchmarks/gallery_peers.py compares.

The index holds float32 and is opened as a view of its file, which is how it starts at once; the first hit comes
from its graph. Exact searches are made in the better of its two ways: `exact=True` of the index, and the function
`search` over the mapped matrix. It keeps no metadata and filters nothing: numpy chooses the rows for a filter.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from usearch.index import Index, search

from gallery_stores.data import Float32, Gallery, K, read

__all__ = ["UsearchGallery"]

THREADS = int(os.environ.get("GALLERY_THREADS", "2"))
ADDED = 50_000
TRIED = 3


class UsearchGallery:
    def __init__(self, folder: Path) -> None:
        self._index: Any = Index.restore(folder / "index.usearch", view=True)
        self._folder = folder
        self._gallery: Gallery | None = None
        self._way = "graph"

    @staticmethod
    def fill(folder: Path, gallery: Gallery) -> None:
        folder.mkdir()
        index: Any = Index(ndim=gallery.vectors.shape[1], metric="ip", dtype="f32")
        for first in range(0, len(gallery), ADDED):
            vectors = np.array(gallery.vectors[first : first + ADDED])
            index.add(np.arange(first, first + len(vectors)), vectors, threads=THREADS)
        index.save(folder / "index.usearch")
        np.save(folder / "vectors.npy", gallery.vectors)
        np.save(folder / "fields.npy", gallery.fields)

    def wait(self) -> None:
        """Find out which exact search takes less time."""
        self._gallery = read(self._folder)
        times = {}
        for way in ("index", "matrix"):
            self._way = way
            took = []
            for _ in range(TRIED):
                began = time.perf_counter()
                self.search(self._gallery.vectors[0], None)
                took.append(time.perf_counter() - began)
            times[way] = min(took)
        self._way = min(times, key=lambda way: times[way])

    def search(self, query: Float32, share: str | None) -> list[int]:
        if self._way == "graph":
            return [int(key) for key in self._index.search(query, K, threads=THREADS).keys]
        assert self._gallery is not None
        if share is not None:
            rows = np.flatnonzero(self._gallery.kept(share))
            return [int(rows[key]) for key in _exact(self._gallery.vectors[rows], query)]
        if self._way == "index":
            return [int(key) for key in self._index.search(query, K, threads=THREADS, exact=True).keys]
        return [int(key) for key in _exact(self._gallery.vectors, query)]

    def notes(self) -> dict[str, Any]:
        return {"exact search by": self._way}

    def close(self) -> None:
        self._index.reset()


def _exact(vectors: Float32, query: Float32) -> Any:
    return search(vectors, query, min(K, len(vectors)), "ip", exact=True, threads=THREADS).keys
