"""This project's embedded store as one of the stores that benchmarks/gallery_peers.py compares."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from gallery_stores.data import Float32, Gallery, K, field_of, value_of
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import MAX_ITEMS, Item
from store import columns_bytes

__all__ = ["SfscGallery"]

SPACE, WIDTH = "benchmark", "1.0"
THREADS = int(os.environ.get("GALLERY_THREADS", "2"))


class SfscGallery:
    """Every search is exact, as it is by default."""

    def __init__(self, folder: Path) -> None:
        self._store = _open(folder, int((folder / "dimension").read_text()))

    @staticmethod
    def fill(folder: Path, gallery: Gallery) -> None:
        folder.mkdir()
        dimension = gallery.vectors.shape[1]
        (folder / "dimension").write_text(str(dimension))
        store = _open(folder, dimension)
        for first in range(0, len(gallery), MAX_ITEMS):
            vectors = np.array(gallery.vectors[first : first + MAX_ITEMS])
            numbers = range(first, first + len(vectors))
            store.upsert(
                [
                    Item(f"item-{n:08d}", SPACE, WIDTH, vector, gallery.metadata(n))
                    for n, vector in zip(numbers, vectors, strict=True)
                ]
            )
        store.close()

    def wait(self) -> None:
        """Until fields are loaded for filters, and the database is checked."""
        while not self._store._filters.loaded or any(
            thread.name == "sfsc-store-check" for thread in threading.enumerate()
        ):
            time.sleep(0.05)

    def search(self, query: Float32, share: str | None) -> list[int]:
        wanted = None if share is None else {field_of(share): value_of(share, 0)}
        (hits,) = self._store.search(query[None], K, wanted)
        return [int(hit.id[len("item-") :]) for hit in hits]

    def notes(self) -> dict[str, Any]:
        return {"columns": columns_bytes(self._store)}

    def close(self) -> None:
        self._store.close()


def _open(folder: Path, dimension: int) -> EmbeddedStore:
    return EmbeddedStore(folder / "store", SPACE, dimension, threads=THREADS)
