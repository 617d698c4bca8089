"""The process that is killed: it writes without end and tells its parent what it is about to do and what was done.

Messages, each sent whole: ("intent", thread, operation) before a call, ("done", thread) after it has returned. An
operation is ("upsert", [(id, seed), ...]) or ("delete", [id, ...]). Threads have items of their own, so that the
parent knows the order of all changes of an item.
"""

import threading
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Item
from tests.service.store.making import DIMENSION, SPACE, make_item

THREADS = 3
ITEMS_PER_THREAD = 50
SEAL_ROWS = 150

Operation = tuple[str, list[tuple[str, int]]]


def version(identifier: str, seed: int) -> Item:
    """The item that the child means by an id and a seed; every third one has an image."""
    return make_item(identifier, seed, image=seed % 3 == 0)


def open_store(folder: Path) -> EmbeddedStore:
    return EmbeddedStore(folder, SPACE, DIMENSION, seal_rows=SEAL_ROWS)


def draw_operation(rng: np.random.Generator, thread: int) -> Operation:
    """Single and bulk upserts of new and old items, and deletions of items that are there or not."""
    kind = rng.choice(["upsert", "upsert", "bulk", "delete"])
    count = int(rng.integers(10, ITEMS_PER_THREAD)) if kind == "bulk" else int(rng.integers(1, 4))
    numbers = rng.choice(ITEMS_PER_THREAD, size=count, replace=False).tolist()
    drawn = [(f"t{thread}-{number:02d}", int(rng.integers(1, 1_000_000))) for number in numbers]
    return ("delete" if kind == "delete" else "upsert", drawn)


def carry_out(store: EmbeddedStore, operation: Operation) -> None:
    kind, drawn = operation
    if kind == "delete":
        store.delete([identifier for identifier, _ in drawn])
    else:
        store.upsert([version(identifier, seed) for identifier, seed in drawn])


def write_without_end(folder: Path, seed: int, pipe: Connection) -> None:
    store, lock = open_store(folder), threading.Lock()

    def tell(*message: object) -> None:
        with lock:
            pipe.send(message)

    def write(thread: int) -> None:
        rng = np.random.default_rng([seed, thread])
        while True:
            operation = draw_operation(rng, thread)
            tell("intent", thread, operation)
            carry_out(store, operation)
            tell("done", thread)

    threads = [threading.Thread(target=partial(write, thread)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
