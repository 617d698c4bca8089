"""Grouped hits are those of brute force, also where a few groups hold nearly all of the nearest items."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfsc_service.gallery import grouped_search
from sfsc_service.gallery.grouped_search import grouped_hits
from sfsc_service.gallery.hit_selection import Grouping, HitSelection
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Filter, Hit, Item
from tests.service.store.making import DIMENSION, SPACE, unit_vectors
from tests.service.store.oracle import matches

VECTOR = unit_vectors(0, 1)[0]
BY_GROUP = Grouping("who.name", ("who", "name"), 1)
VALUES = ["a", "b", "1", 1, 1.0, True, False, 0, 0.5, "", -1e308]
"""Of groups: 1 and 1.0 are one of them."""
OTHERS: list[dict[str, Any]] = [{}, {"who": None}, {"who": {"name": None}}, {"who": {"name": ["a"]}}, {"who": "a"}]


@st.composite
def galleries(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Metadata of items, the best first; long runs of one group among them."""
    named = st.sampled_from(VALUES).map(lambda value: {"who": {"name": value}})
    runs = draw(st.lists(st.tuples(named | st.sampled_from(OTHERS), st.integers(1, 30)), max_size=8))
    return [{**metadata, "n": n % 2} for metadata, count in runs for n in range(count)]


def brute_force(
    hits: list[Hit], selection: HitSelection, grouping: Grouping, filter: Filter | None
) -> list[list[str]]:
    groups: dict[Any, list[str]] = {}
    for hit in hits:
        who = hit.metadata.get("who")
        value = who.get("name") if isinstance(who, dict) else None
        wanted = hit.score >= selection.min_score and hit.id not in selection.exclude
        if value is not None and not isinstance(value, list) and wanted and item_matches(hit, filter):
            groups.setdefault((value, isinstance(value, bool)), []).append(hit.id)
    chosen = islice(groups.values(), selection.offset, selection.offset + selection.k)
    return [ids[: grouping.size] for ids in chosen]


def item_matches(hit: Hit, filter: Filter | None) -> bool:
    return matches(filter, Item(hit.id, SPACE, "1.0", VECTOR, hit.metadata))


SELECTIONS = st.builds(
    HitSelection,
    k=st.integers(1, 6),
    offset=st.integers(0, 3),
    min_score=st.sampled_from([-1.0, 0.5, 0.9]),
    exclude=st.frozensets(st.integers(0, 40).map(str), max_size=10),
)


@pytest.fixture(scope="module", autouse=True)
def few_hits_at_once() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouped_search, "LEAST_FETCHED", 2)
        patch.setattr(grouped_search, "MOST_FETCHED", 8)
        yield


@settings(max_examples=80, deadline=None)
@given(gallery=galleries(), selection=SELECTIONS, size=st.integers(1, 4), filter=st.sampled_from([None, {"n": 1}]))
def test_the_best_groups_have_their_best_hits(
    gallery: list[dict[str, Any]], selection: HitSelection, size: int, filter: Filter | None
) -> None:
    hits = [
        Hit(str(n), SPACE, "1.0", json.dumps(metadata), None, 1.0 - n / 500) for n, metadata in enumerate(gallery)
    ]
    calls = 0

    def search(among: Filter, count: int) -> list[Hit]:
        nonlocal calls
        calls += 1
        return [hit for hit in hits if item_matches(hit, among)][:count]

    grouping = Grouping(BY_GROUP.name, BY_GROUP.path, size)
    found = grouped_hits(search, selection, grouping, filter)
    expected = brute_force(hits, selection, grouping, filter)
    assert [hit.id for hit in found] == [name for ids in expected for name in ids]
    assert calls <= 2 * selection.k + selection.offset


def test_a_real_store_groups_as_brute_force_does(tmp_path: Path) -> None:
    """Filters keep apart what JSON does, and one group holds nearly all of what is nearest."""
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    values = VALUES * 4
    items = [
        Item(f"i{n}", SPACE, "1.0", vector, {"who": {"name": values[n]}} if n < len(values) else OTHERS[n % 5])
        for n, vector in enumerate(unit_vectors(3, 60))
    ]
    near = [Item(f"n{n}", SPACE, "1.0", VECTOR, {"who": {"name": "b"}}) for n in range(40)]
    store.upsert([*near, *items])
    store.delete(["n0", "i0"])
    every = store.search(VECTOR[None], 100)[0]
    for selection in (
        HitSelection(20),
        HitSelection(3, offset=2),
        HitSelection(4, exclude=frozenset({"n1", "i5"})),
    ):
        for size in (1, 3, 50):
            grouping = Grouping(BY_GROUP.name, BY_GROUP.path, size)
            found = grouped_hits(
                lambda among, count: store.search(VECTOR[None], count, among)[0], selection, grouping, None
            )
            expected = brute_force(every, selection, grouping, None)
            assert [hit.id for hit in found] == [name for ids in expected for name in ids]
    store.close()
