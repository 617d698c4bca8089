"""Many threads at once: what a search says was true at one moment, and nothing is lost."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.errors import StoreClosedError
from sfsc_service.store.protocol import SCORE_TOLERANCE, Float32, Hit, Item, Store
from tests.service.store.agreement import assert_agrees
from tests.service.store.conftest import Implementation
from tests.service.store.making import SPACE, WIDTHS, make_item, make_items, unit_vectors
from tests.service.store.oracle import Oracle, score

WRITERS, SEARCHERS, OWN = 3, 3, 12


def version(writer: int, number: int, turn: int) -> Item:
    """A version whose metadata says everything about it, so that a mixture of two versions shows."""
    seed = (writer * 1_000 + number) * 100 + turn
    item = make_item(f"w{writer}-{number:02d}", seed)
    return replace(item, metadata={"seed": seed, "even": turn % 2 == 0}, width=WIDTHS[turn % 3], space=SPACE)


def assert_whole(hits: list[Hit], query: Float32, filter: object) -> None:
    for hit in hits:
        seed = hit.metadata["seed"]
        turn, owner = seed % 100, seed // 100
        expected = version(owner // 1_000, owner % 1_000, turn)
        assert (hit.id, hit.width, hit.metadata) == (expected.id, expected.width, expected.metadata)
        assert hit.score == pytest.approx(score(expected.vector, query), abs=SCORE_TOLERANCE)
        if filter:
            assert hit.metadata["even"]
    assert len({hit.id for hit in hits}) == len(hits)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def run_together(workers: Sequence[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(workers)) as pool:
        for call in [pool.submit(worker) for worker in workers]:
            call.result()


def test_searches_among_writers_see_whole_versions_and_every_lasting_item(
    store: Store, implementation: Implementation
) -> None:
    lasting = {item.id for item in make_items(5)}
    stays = [replace(item, metadata={"seed": -1, "even": True}) for item in make_items(5)]
    store.upsert(stays)
    oracle, lock, left = Oracle(), threading.Lock(), [WRITERS]
    oracle.upsert(stays)

    def write_all(writer: int) -> None:
        try:
            write(writer)
        finally:
            with lock:
                left[0] -= 1

    def write(writer: int) -> None:
        rng = np.random.default_rng(writer)
        for turn in range(implementation.turns):
            numbers = rng.choice(OWN, size=int(rng.integers(1, OWN)), replace=False).tolist()
            items = [version(writer, number, turn) for number in numbers]
            gone = [f"w{writer}-{number:02d}" for number in rng.choice(OWN, size=2).tolist()]
            outcome = store.upsert(items)
            deleted = store.delete(gone)
            with lock:
                assert outcome == oracle.upsert(items)
                assert deleted == oracle.delete(gone)

    def search(searcher: int) -> None:
        turn = 0
        while left[0]:
            turn += 1
            query = unit_vectors(searcher * 10_000 + turn, 1)
            document = {"even": True} if turn % 2 else None
            (hits,) = store.search(query, 1_000, document)
            assert lasting <= {hit.id for hit in hits}
            assert_whole([hit for hit in hits if hit.id not in lasting], query[0], document)
            with lock:
                returned = {name: kept.item.metadata["seed"] for name, kept in oracle.kept.items()}
            for later, hit in zip(store.get([hit.id for hit in hits[:3]]), hits, strict=False):
                oldest = hit.metadata["seed"] if implementation.monotonic else returned.get(hit.id, -1)
                assert later is None or later.metadata["seed"] >= oldest, "older than what was seen before"

    run_together([partial(write_all, w) for w in range(WRITERS)] + [partial(search, s) for s in range(SEARCHERS)])
    ids = sorted(oracle.kept)
    assert [found.id for found in store.get(ids) if found] == ids
    assert store.count() == len(ids)
    assert store.composition() == oracle.composition()
    for identifier, found in zip(ids, store.get(ids), strict=True):
        assert found is not None
        assert found.metadata == oracle.kept[identifier].item.metadata


def test_writers_of_the_same_items_leave_one_of_their_versions(embedded: EmbeddedStore) -> None:
    store = embedded

    def write(writer: int) -> None:
        for turn in range(15):
            store.upsert([replace(make_item(f"i{i}", writer * 100 + turn), image=None) for i in range(5)])

    run_together([partial(write, w) for w in range(4)])
    items = [found for found in store.get([f"i{i}" for i in range(5)]) if found]
    # A call is one change: the last one to be committed put all five there.
    assert len({found.metadata["seed"] for found in items}) == 1
    assert items[0].metadata["seed"] % 100 == 14
    oracle = Oracle()
    oracle.upsert([make_item(found.id, found.metadata["seed"]) for found in items])
    assert_agrees(store, oracle)


def test_closing_among_calls_answers_each_of_them(store: Store) -> None:
    acknowledged: list[str] = []
    started = threading.Barrier(5)

    def work(writer: int) -> None:
        started.wait()
        try:
            for turn in range(10_000):
                store.upsert([make_item(f"{writer}-{turn}", turn)])
                acknowledged.append(f"{writer}-{turn}")
                store.search(unit_vectors(turn, 1), 3)
        except StoreClosedError:
            return
        raise AssertionError("the store was not closed")

    def close() -> None:
        started.wait()
        while len(acknowledged) < 20:
            threading.Event().wait(0.01)
        store.close()

    run_together([close, *[partial(work, w) for w in range(4)]])
    assert len(acknowledged) >= 20
