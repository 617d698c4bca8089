"""Filters mean in every store what they mean in a plain evaluation, whichever call they are given to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfsc_service.store.protocol import Filter, Item, Store
from tests.service.store.agreement import walk
from tests.service.store.conftest import Opener
from tests.service.store.filters.cases import (
    CASES,
    FIELDS,
    FIELDS_METADATA,
    METADATA,
    MISSING,
    filters,
    item_of,
    there,
)
from tests.service.store.making import make_items, unit_vectors
from tests.service.store.oracle import matches


def assert_selects(store: Store, items: Sequence[Item], document: Filter) -> None:
    expected = sorted(item.id for item in items if matches(document, item))
    assert [item.id for item in walk(store, 50, document)] == expected, document
    assert store.count(document) == len(expected), document
    (hits,) = store.search(unit_vectors(7, 1), len(items), document)
    assert sorted(hit.id for hit in hits) == expected, document


def test_the_table_of_values(store: Store) -> None:
    """Each case has a field of its own, so that one gallery has them all."""
    items = [item_of({} if stored is MISSING else {f"a{n}": stored}, n) for n, (stored, _, _) in enumerate(CASES)]
    store.upsert(items)
    for n, (_, condition, holds) in enumerate(CASES):
        document = {f"a{n}": condition, "$id": f"i{n}"}
        assert store.count(document) == holds, document
        assert_selects(store, items, {f"a{n}": condition})


def test_fields(store: Store) -> None:
    store.upsert([item_of(FIELDS_METADATA)])
    for field, is_there in FIELDS:
        assert store.count({field: {"$exists": True}}) == is_there, field


def test_reserved_fields_are_the_item_s_own(store: Store) -> None:
    items = [item_of({"id": "x", "width": "9", "$width": "9"}, n) for n in range(12)]
    store.upsert(items)
    documents: tuple[Filter, ...] = (
        {"$id": "i1"},
        {"$id": {"$gte": "i1"}},
        {"$id": {"$in": ["i3", "i11", "nowhere"]}},
        {"$width": 1},
        {"$width": {"$gt": "0.25"}},
        {"$not": {"$or": [{"$id": {"$lt": "i5"}}, {"$width": "0.5"}]}},
    )
    for document in documents:
        assert_selects(store, items, document)
    created = sorted(item.created for item in walk(store))
    assert store.count({"$created": {"$gte": created[0].isoformat()}}) == len(items)
    assert store.count({"$created": {"$gt": created[-1].isoformat()}}) == 0


def test_ids_and_values_of_any_text_are_found_again(store: Store) -> None:
    texts = ['"', "\\", "'", '\\"', "%", "_", "🙂", "{a}", '" or id != "', "ä"]
    items = [
        Item(text, item.space, item.width, item.vector, {"a": text})
        for text, item in zip(texts, make_items(len(texts)), strict=True)
    ]
    store.upsert(items)
    for text in texts:
        assert_selects(store, items, {"$id": text})
        assert_selects(store, items, {"a": text})
    assert [found and found.id for found in store.get(texts)] == texts
    assert store.delete(texts[:3]) == [True] * 3
    assert_selects(store, items[3:], {"a": {"$exists": True}})


def test_any_filter(opener: Opener, tmp_path: Path) -> None:
    store = opener(tmp_path / "store")

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(METADATA, min_size=1, max_size=6), st.data())
    def check(metadata: list[dict[str, Any]], data: st.DataObject) -> None:
        items = [item_of(one, n) for n, one in enumerate(metadata)]
        store.upsert(items)
        store.delete([f"i{n}" for n in range(len(items), 6)])
        pairs = [pair for one in metadata for pair in there(one)]
        for document in data.draw(st.lists(filters(pairs), min_size=1, max_size=5)):
            assert_selects(store, items, document)

    check()
    store.close()
