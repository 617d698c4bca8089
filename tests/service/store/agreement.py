"""Does a store say the same as the oracle, whichever way it is asked?"""

import numpy as np

from sfsc_service.store.protocol import Filter, Float32, Store, StoredItem
from tests.service.store.making import unit_vectors
from tests.service.store.oracle import Oracle

FILTERS: tuple[Filter | None, ...] = (
    None,
    {"match": {"width": "0.25"}},
    {"match": {"group": "g1"}},
    {"and": [{"match": {"place.camera": 1}}, {"match": {"width": "1.0"}}]},
    {"match": {"group": "nowhere"}},
)


def walk(store: Store, limit: int = 7, filter: Filter | None = None) -> list[StoredItem]:
    """All pages, one after the other."""
    records: list[StoredItem] = []
    cursor = None
    while True:
        page = store.page(cursor, limit, filter)
        assert len(page.records) <= limit
        records += page.records
        cursor = page.cursor
        if cursor is None:
            return records


def assert_agrees(store: Store, oracle: Oracle, queries: Float32 | None = None) -> None:
    assert store.count() == len(oracle.kept)
    assert store.composition() == oracle.composition()
    for document in FILTERS:
        assert [record.id for record in walk(store, filter=document)] == oracle.ids(document)
        assert_search_agrees(store, oracle, unit_vectors(99, 2) if queries is None else queries, document)
    assert_records_agree(store, oracle)


def assert_search_agrees(store: Store, oracle: Oracle, queries: Float32, filter: Filter | None = None) -> None:
    for k in (1, 3, len(oracle.kept) + 1):
        answers = store.search(queries, k, filter)
        expected = [oracle.search(query, k, filter) for query in queries]
        assert [[(hit.id, hit.score) for hit in hits] for hits in answers] == expected
        for hit in (hit for hits in answers for hit in hits):
            item = oracle.kept[hit.id].item
            assert (hit.width, hit.space, hit.metadata) == (item.width, item.space, item.metadata)


def assert_records_agree(store: Store, oracle: Oracle) -> None:
    ids = sorted(oracle.kept)
    for identifier, record in zip(ids, store.get(ids), strict=True):
        item = oracle.kept[identifier].item
        assert record is not None
        assert (record.id, record.space, record.width, record.metadata) == (
            identifier,
            item.space,
            item.width,
            item.metadata,
        )
        assert np.array_equal(record.vector.view(np.uint32), item.vector.view(np.uint32))
        assert store.image(identifier) == item.image
        assert (record.image_digest is None) == (item.image is None)
