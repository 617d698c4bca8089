"""All pages together hold every pair once, however small they are and whatever else is changed meanwhile."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sfsc_service.gallery import near_duplicates
from sfsc_service.gallery.near_duplicates import DuplicatesPage, NearDuplicates
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.errors import InvalidCursorError
from sfsc_service.store.protocol import Float32, Item
from tests.service.store.making import DIMENSION, SPACE, unit_vectors
from tests.service.store.oracle import score

ITEMS = 60


def clustered() -> Float32:
    """Vectors around ten centres, some of them equal."""
    drawn = np.random.default_rng(1).integers(0, 10, ITEMS)
    spread = np.float32(0.15) * (np.arange(ITEMS) % 3)[:, None] * unit_vectors(2, ITEMS)
    vectors = unit_vectors(1, 10)[drawn] + spread.astype(np.float32)
    unit: Float32 = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


VECTORS = {f"i{n:02}": vector for n, vector in enumerate(clustered())}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = filled(tmp_path_factory.mktemp("pairs"))
    yield opened
    opened.close()


def filled(folder: Path) -> EmbeddedStore:
    opened = EmbeddedStore(folder, SPACE, DIMENSION)
    opened.upsert(
        [Item(name, SPACE, "1.0", vector, {"even": int(name[1:]) % 2 == 0}) for name, vector in VECTORS.items()]
    )
    return opened


def brute_force(min_score: float, ids: list[str]) -> list[tuple[str, str, float]]:
    pairs = [(a, b, score(VECTORS[a], VECTORS[b])) for a in ids for b in ids if a < b]
    return [pair for pair in pairs if pair[2] >= min_score]


def pages(
    store: EmbeddedStore, wanted: NearDuplicates, between: Callable[[], None] = lambda: None
) -> Iterator[DuplicatesPage]:
    cursor = None
    while True:
        page = wanted.find(store, cursor)
        assert len(page.pairs) <= wanted.limit
        yield page
        if page.cursor is None:
            return
        cursor = page.cursor
        between()


def found(all_pages: Iterator[DuplicatesPage]) -> list[tuple[str, str, float]]:
    return [(pair.first.id, pair.second.id, pair.second.score) for page in all_pages for pair in page.pairs]


@pytest.mark.parametrize("filter", [None, {"even": True}])
@pytest.mark.parametrize("at_once", [1, 7, 100])
@pytest.mark.parametrize(("limit", "time_s"), [(1, 1.0), (4, 1.0), (1000, 0.0), (1000, 60.0)])
def test_all_pages_hold_every_pair_once(
    store: EmbeddedStore,
    monkeypatch: pytest.MonkeyPatch,
    filter: dict[str, bool] | None,
    at_once: int,
    limit: int,
    time_s: float,
) -> None:
    monkeypatch.setattr(near_duplicates, "ITEMS_AT_ONCE", at_once)
    monkeypatch.setattr(near_duplicates, "TIME_S", time_s)
    monkeypatch.setattr(near_duplicates, "FIRST_NEIGHBOURS", 2)
    ids = [name for name in VECTORS if filter is None or int(name[1:]) % 2 == 0]
    for min_score in (0.8, 0.97, 1.0):
        got = list(pages(store, NearDuplicates(min_score, limit, filter)))
        assert sorted(found(iter(got))) == brute_force(min_score, ids)
        assert sum(page.compared for page in got) == len(ids)
        assert not any(page.truncated for page in got)
        assert all(page.exact for page in got)


def test_what_stays_is_found_once_while_other_items_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "ITEMS_AT_ONCE", 3)
    store, rng = filled(tmp_path), np.random.default_rng(0)
    changed = [name for name in VECTORS if int(name[1:]) % 4 == 0]
    stay = [name for name in VECTORS if name not in changed]

    def between() -> None:
        name = str(rng.choice(changed))
        store.delete([name])
        new = [f"{name}-{n}" for n in rng.integers(0, 3, 2)]
        store.upsert([Item(one, SPACE, "1.0", VECTORS[name], {}) for one in new])

    pairs = found(pages(store, NearDuplicates(0.9, 2), between))
    assert sorted(pair for pair in pairs if pair[0] in stay and pair[1] in stay) == brute_force(0.9, stay)
    store.close()


def test_more_neighbours_than_are_looked_at_are_said(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "FIRST_NEIGHBOURS", 2)
    monkeypatch.setattr(near_duplicates, "MOST_NEIGHBOURS", 8)
    page = NearDuplicates(-1.0, 1000).find(store, None)
    assert page.truncated
    assert page.cursor is None
    assert set(found(iter([page]))) < set(brute_force(-1.0, list(VECTORS)))


@pytest.mark.parametrize("cursor", ["", "%", "AAAA", "WzEsMiwzXQ==", "W10=", "InQi"])
def test_a_cursor_of_ones_own_is_refused(store: EmbeddedStore, cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        NearDuplicates(0.9, 10).find(store, cursor)
