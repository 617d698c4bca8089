"""Scores and order of the embedded store: brute force, digit for digit, whatever else is in the gallery."""

from dataclasses import replace

from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.making import make_item, make_items, unit_vectors

VECTOR = unit_vectors(1, 1)[0]


def test_equal_scores_stand_in_the_order_of_their_last_change(embedded: EmbeddedStore) -> None:
    same = [replace(make_item(name), vector=VECTOR) for name in "dcab"]
    embedded.upsert(same)
    embedded.upsert([same[0]])
    for k in (1, 2, 3, 4):
        (hits,) = embedded.search(VECTOR[None], k)
        assert [hit.id for hit in hits] == ["c", "a", "b", "d"][:k]


def test_the_last_change_decides_even_after_the_newest_item_went(embedded: EmbeddedStore) -> None:
    same = [replace(make_item(name), vector=VECTOR) for name in "abc"]
    embedded.upsert(same[:2])
    embedded.delete(["b"])
    embedded.upsert(same[2:])
    embedded.upsert(same[:1])
    assert [hit.id for hit in embedded.search(VECTOR[None], 3)[0]] == ["c", "a"]


def test_a_score_does_not_depend_on_the_rest_of_the_call_or_the_gallery(embedded: EmbeddedStore) -> None:
    items = make_items(3_000)
    embedded.upsert(items)
    queries = unit_vectors(5, 40)
    together = embedded.search(queries, 10)
    alone = [embedded.search(query[None], 10)[0] for query in queries]
    assert together == alone
    embedded.delete([item.id for item in items[::2]])
    kept = {item.id for item in items[1::2]}
    after = embedded.search(queries, 10)
    for hits, query in zip(after, queries, strict=True):
        assert hits == embedded.search(query[None], 3_000)[0][:10]
        assert {hit.id for hit in hits} <= kept
