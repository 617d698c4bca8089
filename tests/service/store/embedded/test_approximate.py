"""Approximate search, in every tier: what it may not miss, and what it does beside changes."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from sfsc_service.store.embedded.index import approximate as approximate_module
from sfsc_service.store.embedded.index.quantised_rows import Quantisation
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Float32, Hit, Item
from tests.service.store.making import DIMENSION, SPACE, unit_vectors
from tests.service.store.oracle import score

ROWS = 600
DEADLINE_S = 60.0


@pytest.fixture(params=get_args(Quantisation))
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmbeddedStore]:
    monkeypatch.setattr(approximate_module, "_MAX_MISSING", 40)
    opened = EmbeddedStore(
        tmp_path, SPACE, DIMENSION, quantisation=request.param, approximate_rows=ROWS // 2, seal_rows=200
    )
    yield opened
    opened.close()


def clustered(seed: int, count: int) -> Float32:
    vectors = unit_vectors(1, 8)[np.arange(count) % 8] + np.float32(0.3) * unit_vectors(seed, count)
    unit: Float32 = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def put(store: EmbeddedStore, vectors: dict[str, Float32]) -> None:
    store.upsert(
        [Item(name, SPACE, "1.0", vector, {"even": name[-1] in "02468"}) for name, vector in vectors.items()]
    )


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def covered(store: EmbeddedStore) -> int:
    assert store.approximate is not None
    return store.approximate.rows


def filled(store: EmbeddedStore) -> dict[str, Float32]:
    """A store with ROWS items whose approximate search is ready."""
    items = {f"i{n}": vector for n, vector in enumerate(clustered(2, ROWS))}
    put(store, items)
    until(lambda: covered(store) > ROWS - 40)
    return items


def assert_right(hits: list[Hit], items: dict[str, Float32], query: Float32, k: int) -> float:
    """Hits are current items with their exact scores, best first; returns the share of the best that is there."""
    assert len(hits) == min(k, len(items)) == len({hit.id for hit in hits})
    assert [hit.score for hit in hits] == [score(items[hit.id], query) for hit in hits]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    best = sorted(items, key=lambda name: -score(items[name], query))[:k]
    return len({hit.id for hit in hits} & set(best)) / len(best)


def test_hits_are_current_items_with_exact_scores_whatever_has_changed(store: EmbeddedStore) -> None:
    items = filled(store)
    fresh = clustered(3, 90)
    for turn in range(9):
        part = fresh[10 * turn : 10 * turn + 10]
        put(store, new := {f"i{50 * turn + n}": vector for n, vector in enumerate(part)})
        items |= new
        gone = [f"i{50 * turn + 20 + n}" for n in range(10)]
        store.delete(gone)
        for name in gone:
            del items[name]
        queries = np.vstack([part[:2], clustered(10 + turn, 3)])
        for k in (1, 10):
            found, exact = store.search_approximately(queries, k, with_vectors=True)
            assert not exact
            assert all(np.array_equal(hit.vector, items[hit.id]) for hits in found for hit in hits)
            shares = [assert_right(hits, items, query, k) for hits, query in zip(found, queries, strict=True)]
            assert np.mean(shares) >= 0.9
        for query, hits in zip(part[:2], store.search_approximately(part[:2], 1)[0], strict=True):
            assert hits[0].score == score(query, query)  # what was written a moment ago is found


def test_recall_of_the_gallery_s_own_vectors_is_measured(store: EmbeddedStore) -> None:
    filled(store)
    assert store.approximate is not None
    assert store.approximate.recall is not None
    assert 0.98 <= store.approximate.recall <= 1.0


def test_exact_searches_and_filters_miss_nothing(store: EmbeddedStore) -> None:
    items = filled(store)
    queries = clustered(4, 6)
    for query, hits in zip(queries, store.search(queries, 20), strict=True):
        assert assert_right(hits, items, query, 20) == 1.0
    even = {name: vector for name, vector in items.items() if name[-1] in "02468"}
    for query, hits in zip(queries, store.search(queries, 20, {"even": True}), strict=True):
        assert assert_right(hits, even, query, 20) == 1.0


def test_versions_of_one_item_that_are_gone_push_no_hit_out(store: EmbeddedStore) -> None:
    items = filled(store)
    (query,) = clustered(5, 1)
    for turn in range(3):  # each has to be quantised before it is replaced, which it may never be afterwards
        put(store, {f"copy{n}": query for n in range(60)})
        until(lambda enough=ROWS + 60 * turn: covered(store) > enough)
    store.delete([f"copy{n}" for n in range(60)])
    ((hits,), _) = store.search_approximately(query[None], 10)
    assert assert_right(hits, items, query, 10) >= 0.8


def test_more_hits_than_quantised_rows_can_give_are_searched_exactly(store: EmbeddedStore) -> None:
    items = filled(store)
    (query,) = clustered(6, 1)
    ((hits,), exact) = store.search_approximately(query[None], 5_000)
    assert exact
    assert assert_right(hits, items, query, 5_000) == 1.0
    ((hits,), _) = store.search_approximately(query[None], ROWS)
    assert assert_right(hits, items, query, ROWS) == 1.0


def test_a_gallery_that_has_become_small_is_searched_exactly(store: EmbeddedStore) -> None:
    items = filled(store)
    store.delete(list(items)[: ROWS - 100])
    until(lambda: covered(store) == 0)
    found, exact = store.search_approximately(clustered(7, 2), 3)
    assert exact
    assert [len(hits) for hits in found] == [3, 3]


def test_a_gallery_that_has_grown_is_quantised_anew(store: EmbeddedStore) -> None:
    filled(store)
    assert store._approximate is not None
    first = store._approximate._built
    put(store, {f"more{n}": vector for n, vector in enumerate(clustered(8, 3 * ROWS))})
    until(lambda: store._approximate is not None and store._approximate._built is not first)
    until(lambda: covered(store) > 4 * ROWS - 41)


def test_without_quantisation_every_search_is_exact(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    put(store, {"a": VECTOR})
    assert store.approximate is None
    ((hits,), exact) = store.search_approximately(VECTOR[None], 3)
    assert exact
    assert [hit.id for hit in hits] == ["a"]
    store.close()


VECTOR = unit_vectors(1, 1)[0]
