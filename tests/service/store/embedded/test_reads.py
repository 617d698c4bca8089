"""Searches while commits come between index and database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded.index.vector_index import VersionNotIndexedError
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.making import make_item, unit_vectors

TIMEOUT_S = 20.0


@pytest.fixture
def filled(embedded: EmbeddedStore) -> EmbeddedStore:
    embedded.upsert([make_item("a", 1)])
    return embedded


def search(store: EmbeddedStore) -> list[str]:
    (hits,) = store.search(unit_vectors(0, 1), 5, {"seed": 1})
    return [hit.id for hit in hits]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def fail_first(store: EmbeddedStore, failures: int, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let the index say so often that a commit came between; returns whether the lock was held, by attempt."""
    reads, held = store._reads, list[bool]()
    real = reads._index.search

    def search(*arguments: Any) -> Any:
        held.append(reads._commit_lock.locked())
        if len(held) <= failures:
            raise VersionNotIndexedError
        return real(*arguments)

    monkeypatch.setattr(reads._index, "search", search)
    return held


def test_a_search_does_not_wait_for_commits(filled: EmbeddedStore, pool: ThreadPoolExecutor) -> None:
    with filled._committer.commit_lock:
        assert pool.submit(search, filled).result(TIMEOUT_S) == ["a"]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_search_between_commits_is_repeated_and_the_last_time_keeps_them_away(
    filled: EmbeddedStore, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = fail_first(filled, failures, monkeypatch)
    assert search(filled) == ["a"]
    assert held == [False, False, True][: failures + 1]


def test_index_and_database_that_never_agree_are_an_error(
    filled: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = fail_first(filled, 3, monkeypatch)
    with pytest.raises(errors.StoreFailedError, match="out of sync"):
        search(filled)
    assert held == [False, False, True]
