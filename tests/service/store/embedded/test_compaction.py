"""Vectors are written anew while the store goes on."""

import threading
from pathlib import Path

import numpy as np
import pytest

from sfsc_service.store.embedded.check import check_folder
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.errors import StoreClosedError
from sfsc_service.store.protocol import Item
from tests.service.store.making import DIMENSION, SPACE


def item(number: int) -> Item:
    vector = np.random.default_rng(number).normal(size=DIMENSION).astype(np.float32)
    return Item(str(number), SPACE, "1.0", vector / np.linalg.norm(vector), {"n": number})


def test_a_store_is_compacted_while_it_is_written_to(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION, seal_rows=100)
    for first in range(0, 600, 60):
        store.upsert([item(number) for number in range(first, first + 60)])
    store.delete([str(number) for number in range(0, 600, 5)])
    stop, written = threading.Event(), list[int]()

    def write() -> None:
        number = 1_000
        while not stop.is_set():
            store.upsert([item(number)])
            written.append(number)
            store.delete([str(number - 3)] if number % 2 else [])
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(5):
        store.compact()
    stop.set()
    writer.join()
    found = store.compact()
    assert found.after <= found.before
    sizes = store.sizes()
    assert (sizes.dead_rows, sizes.vector_files) == (0, 1)
    again = store.compact()
    assert again.before == again.after == found.after
    store.upsert([item(5_000)])

    def check(store: EmbeddedStore) -> None:
        kept = [*range(600), *written, 5_000]
        gone = {str(n) for n in range(0, 600, 5)} | {str(n - 3) for n in written if n % 2}
        assert store.count() == len({str(n) for n in kept} - gone)
        for number in (1, 599, 5_000, *(n for n in written[-3:] if str(n) not in gone)):
            hit = store.search(item(number).vector[None], 1)[0][0]
            assert (hit.id, round(hit.score, 5)) == (str(number), 1.0)

    check(store)
    store.close()
    with pytest.raises(StoreClosedError):
        store.compact()
    assert check_folder(tmp_path).whole
    opened = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    check(opened)
    opened.close()
