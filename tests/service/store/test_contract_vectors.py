"""The contract of protocol.py on vectors that are replaced while all else of an item stays."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from sfsc_service.store import errors
from sfsc_service.store.protocol import (
    Item,
    Store,
    StoredItem,
    VectorChange,
)
from tests.service.store.conftest import Implementation
from tests.service.store.making import OLD_SPACE, SPACE, make_item, make_items, shifted, unit_vectors


def read(store: Store, *ids: str) -> list[StoredItem]:
    return [item for item in store.get(ids) if item is not None]


def test_another_vector_leaves_everything_else_of_an_item_as_it_was(store: Store) -> None:
    store.upsert([replace(make_item("a", 1, image=True, space=OLD_SPACE), reason="load"), make_item("b", 2)])
    (before,) = read(store, "a")
    vector = unit_vectors(50, 1)[0]
    assert store.replace_vectors([VectorChange(before, SPACE, "1.0", vector)]) == [True]
    (after,) = read(store, "a")
    assert (after.space, after.width, after.vector.tobytes()) == (SPACE, "1.0", vector.tobytes())
    kept = ("metadata", "image_digest", "reason", "created")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert store.search(vector[None], 1)[0][0].id == "a"
    assert (store.image("a") is None) == (before.image_digest is None)


OVERTAKEN: dict[str, Callable[[Store, Item], object]] = {
    "deleted": lambda store, item: store.delete([item.id]),
    "other metadata": lambda store, item: store.upsert([replace(item, metadata={"new": 1})]),
    "other vector": lambda store, item: store.upsert([replace(item, vector=unit_vectors(9, 1)[0])]),
    "other width": lambda store, item: store.upsert([replace(item, width="0.75")]),
    "other reason": lambda store, item: store.upsert([replace(item, reason="requested")]),
}


@pytest.mark.parametrize("how", OVERTAKEN)
def test_a_vector_is_never_replaced_in_an_item_that_has_changed_since_it_was_read(store: Store, how: str) -> None:
    items = [replace(make_item(name, 1), reason="budget") for name in ("changed", "same")]
    store.upsert(items)
    found = read(store, "changed", "same")
    OVERTAKEN[how](store, items[0])
    newer = read(store, "changed")
    vector = unit_vectors(50, 1)[0]
    changes = [VectorChange(item, SPACE, "1.0", vector) for item in (*found, found[1])]
    assert store.replace_vectors(changes) == [False, True, False]
    for now, before in zip(read(store, "changed"), newer, strict=True):
        assert (now.width, now.metadata, now.vector.tobytes()) == (
            before.width,
            before.metadata,
            before.vector.tobytes(),
        )


def test_a_bad_vector_refuses_the_whole_call(store: Store) -> None:
    store.upsert(make_items(2))
    found = read(store, "item-00000", "item-00001")
    good, bad = unit_vectors(3, 1)[0], shifted(float("nan"))
    with pytest.raises(errors.InvalidVectorError):
        store.replace_vectors(
            [VectorChange(found[0], SPACE, "1.0", good), VectorChange(found[1], SPACE, "1.0", bad)]
        )
    with pytest.raises(errors.SpaceMismatchError):
        store.replace_vectors([VectorChange(found[0], "space-z", "1.0", good)])
    assert [item.width for item in read(store, "item-00000")] == [found[0].width]
    assert store.replace_vectors([]) == []


def test_a_vector_of_an_older_version_is_never_seen_beside_writers(
    store: Store, implementation: Implementation
) -> None:
    """One thread turns every vector that it reads around, another writes versions; each is its own or turned."""
    turned, ended = threading.Event(), threading.Event()

    def turn() -> None:
        while not ended.is_set():
            found = [item for item in read(store, "a") if item.width != "1.0"]
            changes = [VectorChange(item, SPACE, "1.0", -item.vector) for item in found]
            if any(store.replace_vectors(changes)):
                turned.set()

    with ThreadPoolExecutor(1) as pool:
        turning = pool.submit(turn)
        try:
            for turns, vector in enumerate(unit_vectors(7, 1_000)):
                if turned.is_set() and turns >= 4 * implementation.examples:
                    break
                store.upsert([replace(make_item("a"), width="0.5", vector=vector)])
                (now,) = read(store, "a")
                assert now.vector.tobytes() == (vector if now.width == "0.5" else -vector).tobytes()
        finally:
            ended.set()
        turning.result(60)
    assert turned.is_set()
