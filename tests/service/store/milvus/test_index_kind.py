"""What searches promise with each index in Milvus, over milvus-lite and, in `make test-milvus`, a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from sfsc_service.store import errors
from sfsc_service.store.milvus.index_kind import MilvusSearch
from sfsc_service.store.protocol import SCORE_TOLERANCE, Filter, Float32, Hit, Item, Store
from tests.service.store.conftest import IMPLEMENTATIONS
from tests.service.store.making import SPACE, unit_vectors
from tests.service.store.milvus_galleries import Galleries, lite_server, need_pymilvus, real_server

# So many numbers that a narrow search misses something.
ITEMS, WIDE, K = 3_000, 64, 5
VECTORS = unit_vectors(1, ITEMS, WIDE)
QUERIES = unit_vectors(2, 40, WIDE)
EVEN: Filter = {"even": True}


class Indexed(NamedTuple):
    """A gallery of VECTORS whose index is in use, and how its store was told to search."""

    galleries: Galleries
    place: Path
    search: MilvusSearch
    store: Store


# autouse: the server comes first in the tests' ids, by which `make test-milvus` chooses.
@pytest.fixture(
    scope="module", autouse=True, params=[name for name in IMPLEMENTATIONS if name.startswith("milvus")]
)
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    need_pymilvus()
    start = lite_server if request.param == "milvus-lite" else real_server
    with start(tmp_path_factory.mktemp("milvus")) as found:
        yield found


@pytest.fixture(scope="module", params=["ivf", "hnsw"])
def indexed(
    address: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Indexed]:
    galleries, place = Galleries(address), tmp_path_factory.mktemp("gallery")
    store = galleries.open(place, dimension=WIDE, search=request.param)
    store.upsert([Item(f"{n}", SPACE, "1.0", vector, {"even": n % 2 == 0}) for n, vector in enumerate(VECTORS)])
    store.close()
    galleries.build_index(place)
    store = galleries.open(place, dimension=WIDE, search=request.param)
    yield Indexed(galleries, place, request.param, store)
    store.close()
    galleries.drop()


def best(queries: Float32, k: int, filter: Filter | None = None) -> list[set[str]]:
    """The ids of the best items, by comparing all."""
    scores = queries @ VECTORS.T
    if filter is not None:
        scores[:, 1::2] = -np.inf
    return [{f"{n}" for n in row} for row in np.argsort(-scores, axis=1)[:, :k].tolist()]


def ids(answers: list[list[Hit]]) -> list[set[str]]:
    return [{hit.id for hit in hits} for hits in answers]


def recall(answers: list[list[Hit]], queries: Float32, k: int, filter: Filter | None = None) -> float:
    wanted = best(queries, k, filter)
    return sum(len(one & other) for one, other in zip(ids(answers), wanted, strict=True)) / (k * len(wanted))


def test_an_approximate_search_says_so_and_its_hits_are_as_those_of_an_exact_one(indexed: Indexed) -> None:
    answers, exact = indexed.store.search_approximately(QUERIES, K, with_vectors=True)
    assert not exact
    assert recall(answers, QUERIES, K) > 0.8
    for query, hits in zip(QUERIES, answers, strict=True):
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        for hit in hits:
            assert hit.vector is not None
            assert hit.vector.tobytes() == VECTORS[int(hit.id)].tobytes()
            assert abs(hit.score - float(query @ hit.vector)) <= SCORE_TOLERANCE
    status = indexed.store.approximate
    assert status is not None
    assert (status.kind, status.rows) == (indexed.search, ITEMS)


def test_the_index_is_what_leaves_hits_out(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.store.milvus.index_kind._PROBED_LISTS", 1)
    monkeypatch.setattr("sfsc_service.store.milvus.index_kind._LEAST_EF", 1)
    # Milvus remembers where the search for a query ended, and begins there when it comes again.
    queries = unit_vectors(4, 40, WIDE)
    assert recall(indexed.store.search_approximately(queries, 1)[0], queries, 1) < 1


def test_what_has_to_be_exact_is_exact_or_refused(indexed: Indexed) -> None:
    for among in (None, EVEN):
        if indexed.search == "ivf":
            assert ids(indexed.store.search(QUERIES, K, among)) == best(QUERIES, K, among)
        else:
            with pytest.raises(errors.ExactSearchUnavailableError, match="HNSW cannot be searched exactly"):
                indexed.store.search(QUERIES, K, among)


def test_a_filter_makes_a_search_exact_where_one_can_be(indexed: Indexed) -> None:
    answers, exact = indexed.store.search_approximately(QUERIES, K, EVEN)
    assert exact == (indexed.search == "ivf")
    assert all(hit.metadata["even"] for hits in answers for hit in hits)
    assert recall(answers, QUERIES, K, EVEN) >= (1 if exact else 0.8)


def test_what_is_written_later_is_found_at_once(indexed: Indexed) -> None:
    store, late = indexed.store, unit_vectors(3, 1, WIDE)
    store.upsert([Item("late", SPACE, "1.0", late[0], {})])
    try:
        assert store.search_approximately(late, 1)[0][0][0].id == "late"
    finally:
        assert store.delete(["late"]) == [True]
    assert store.search_approximately(late, 1)[0][0][0].id != "late"


def test_a_store_opens_a_gallery_only_where_its_index_serves_the_searches_wanted(indexed: Indexed) -> None:
    accepted: dict[MilvusSearch, set[MilvusSearch]] = {"ivf": {"exact", "ivf"}, "hnsw": {"hnsw"}}
    searches: tuple[MilvusSearch, ...] = ("exact", "ivf", "hnsw")
    for search in searches:
        if search in accepted[indexed.search]:
            opened = indexed.galleries.open(indexed.place, dimension=WIDE, search=search)
            assert opened.search_approximately(QUERIES[:1], 1)[1] == (search == "exact")
            opened.close()
        else:
            with pytest.raises(errors.FolderMismatchError, match=f"search = {search} needs"):
                indexed.galleries.open(indexed.place, dimension=WIDE, search=search)


def test_an_index_that_is_missing_is_made(address: str, tmp_path: Path) -> None:
    galleries = Galleries(address)
    galleries.open(tmp_path, dimension=WIDE, search="ivf").close()
    galleries.drop_index(tmp_path)
    store = galleries.open(tmp_path, dimension=WIDE, search="ivf")
    store.upsert([Item("a", SPACE, "1.0", VECTORS[0], {})])
    assert store.search(VECTORS[:1], 1)[0][0].id == "a"
    store.close()
    galleries.drop()
