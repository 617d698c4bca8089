"""Whether a store answers as the oracle does, in every way of asking."""

import numpy as np
import pytest

from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import SCORE_TOLERANCE, EncodedImage, Filter, Float32, Hit, Store, StoredItem
from tests.service.store.making import unit_vectors
from tests.service.store.oracle import Oracle

FILTERS: tuple[Filter | None, ...] = (
    None,
    {"$width": "0.25"},
    {"group": "g1"},
    {"place.camera": {"$gte": 1}, "$width": 1},
    {"group": {"$ne": "g1"}, "$id": {"$gt": "b"}},
    {"group": "nowhere"},
)


def walk(store: Store, limit: int = 7, filter: Filter | None = None) -> list[StoredItem]:
    """All pages, one after the other."""
    items: list[StoredItem] = []
    cursor = None
    while True:
        page = store.page(cursor, limit, filter)
        assert len(page.items) <= limit
        items += page.items
        cursor = page.cursor
        if cursor is None:
            return items


def image_of(store: Store, identifier: str) -> EncodedImage | None:
    """An item's image as it was put in."""
    image = store.image(identifier)
    return image and EncodedImage(image.data, image.media_type)


def assert_agrees(store: Store, oracle: Oracle, queries: Float32 | None = None) -> None:
    assert store.count() == len(oracle.kept)
    assert store.composition() == oracle.composition()
    for document in FILTERS:
        assert [item.id for item in walk(store, filter=document)] == oracle.ids(document)
        assert_search_agrees(store, oracle, unit_vectors(99, 2) if queries is None else queries, document)
    assert_items_agree(store, oracle)


def assert_search_agrees(store: Store, oracle: Oracle, queries: Float32, filter: Filter | None = None) -> None:
    for k in (1, 3, len(oracle.kept) + 1):
        answers = store.search(queries, k, filter, with_vectors=True)
        for query, hits in zip(queries, answers, strict=True):
            assert_hits_agree(store, hits, oracle.search(query, k, filter))
        for hit in (hit for hits in answers for hit in hits):
            item = oracle.kept[hit.id].item
            assert (hit.width, hit.space, hit.metadata) == (item.width, item.space, item.metadata)
            assert hit.vector is not None
            assert hit.vector.tobytes() == item.vector.tobytes()


def assert_hits_agree(store: Store, hits: list[Hit], expected: list[tuple[str, float]]) -> None:
    """Every store is exact but for rounding; the embedded one is exact, and ties are in the order of changes."""
    if isinstance(store, EmbeddedStore):
        assert [(hit.id, hit.score) for hit in hits] == expected
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([score for _, score in expected], abs=SCORE_TOLERANCE)


def assert_items_agree(store: Store, oracle: Oracle) -> None:
    ids = sorted(oracle.kept)
    for identifier, found in zip(ids, store.get(ids), strict=True):
        item = oracle.kept[identifier].item
        assert found is not None
        assert (found.id, found.space, found.width, found.metadata) == (
            identifier,
            item.space,
            item.width,
            item.metadata,
        )
        assert np.array_equal(found.vector.view(np.uint32), item.vector.view(np.uint32))
        assert image_of(store, identifier) == item.image
        assert (found.image_digest is None) == (item.image is None)
