"""The embedded store keeps its collections apart, and all of them by the contract."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from sfsc_service.store.collections import DEFAULT, Stores, check_collection_name
from sfsc_service.store.errors import (
    FolderMismatchError,
    InvalidCollectionError,
    LimitExceededError,
    StoreClosedError,
)
from sfsc_service.store.open_stores import OpenStores
from tests.service.store.agreement import assert_items_agree
from tests.service.store.conftest import embedded_stores
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE, make_item
from tests.service.store.oracle import Oracle
from tests.service.store.test_contract_stateful import Machine

NAMES = (DEFAULT, "one", "Two_2-x")
NEW_SPACE = "space-new"

Placer = Callable[[Path], Stores]


@pytest.fixture(scope="session")
def stores_at() -> Placer:
    return embedded_stores


def opened(stores: Stores) -> OpenStores:
    return OpenStores(stores, SPACE, DIMENSION, (OLD_SPACE,))


class SeveralCollections(Machine):
    """The calls of the contract, now on one collection and now on another, with an oracle for each."""

    stores_at: Placer

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.oracles = {name: Oracle() for name in NAMES}
        self._open_all()
        self.turn_to(DEFAULT)

    @rule(name=st.sampled_from(NAMES))
    def turn_to(self, name: str) -> None:
        self.name = name
        self.store, self.oracle = self.stores.by_name[name], self.oracles[name]

    @rule()
    def reopen(self) -> None:
        self.stores.close()
        self._open_all()
        self.turn_to(self.name)

    @rule(name=st.sampled_from(NAMES[1:]))
    def remove_and_make_anew(self, name: str) -> None:
        self.stores.remove(name)
        assert self.stores.create(name, len(NAMES))
        self.oracles[name] = Oracle()
        self.turn_to(name)

    @rule()
    def compare_all(self) -> None:
        for name, oracle in self.oracles.items():
            assert_items_agree(self.stores.by_name[name], oracle)

    @invariant()
    def all_counts_agree(self) -> None:
        if hasattr(self, "stores"):
            assert self.stores.compositions() == {name: one.composition() for name, one in self.oracles.items()}

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            self.stores.close()
            self.folder.cleanup()

    def _open_all(self) -> None:
        self.stores = opened(self.stores_at(Path(self.folder.name)))
        for name in NAMES[1:]:
            self.stores.create(name, len(NAMES))


def test_no_call_in_one_collection_is_seen_in_another(stores_at: Placer) -> None:
    machine = type("Several", (SeveralCollections,), {"stores_at": staticmethod(stores_at)})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=8, stateful_step_count=25, deadline=None, print_blob=True)
    )


@pytest.mark.parametrize("name", ["", "-a", "_a", "a b", "a/b", "..", "a.b", "ä", "a\n", "x" * 65, "٣"])
def test_a_name_is_bounded_and_no_path(name: str) -> None:
    with pytest.raises(InvalidCollectionError, match="letters, digits"):
        check_collection_name(name)


def test_a_collection_is_made_once_up_to_the_limit_and_found_again(stores_at: Placer, tmp_path: Path) -> None:
    stores = opened(stores_at(tmp_path))
    assert [stores.create(name, 2) for name in (DEFAULT, "b", "b")] == [False, True, False]
    with pytest.raises(LimitExceededError, match="at most 2 collections"):
        stores.create("c", 2)
    with pytest.raises(InvalidCollectionError):
        stores.create("../c", 9)
    stores.by_name["b"].upsert([make_item("x")])
    stores.close()
    with pytest.raises(StoreClosedError):
        stores.create("d", 9)
    again = opened(stores_at(tmp_path))
    assert {name: store.count() for name, store in again.by_name.items()} == {DEFAULT: 0, "b": 1}
    removed = again.by_name["b"]
    again.remove("b")
    with pytest.raises(StoreClosedError):
        removed.count()
    again.close()
    last = opened(stores_at(tmp_path))
    assert list(last.by_name) == [DEFAULT]
    last.close()


def test_all_stores_take_a_new_space_or_none_does(stores_at: Placer, tmp_path: Path) -> None:
    stores = opened(stores_at(tmp_path))
    stores.create("b", 2)
    stores.by_name["b"].upsert([make_item("old", space=OLD_SPACE)])
    with pytest.raises(FolderMismatchError):
        stores.adopt(NEW_SPACE, DIMENSION, {SPACE})  # the default collection alone could
    assert {store.spaces for store in stores.by_name.values()} == {frozenset({SPACE, OLD_SPACE})}
    stores.adopt(NEW_SPACE, DIMENSION, {SPACE, OLD_SPACE})
    stores.create("c", 3)
    assert {store.spaces for store in stores.by_name.values()} == {frozenset({NEW_SPACE, SPACE, OLD_SPACE})}
    stores.close()


def test_faults_and_sizes_are_those_of_all(
    stores_at: Placer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = opened(stores_at(tmp_path))
    stores.create("b", 2)
    stores.default.upsert([make_item("x", 1)])
    stores.by_name["b"].upsert([make_item("x", 2), make_item("y", 3)])
    assert stores.sizes().live_rows == 3
    assert (stores.alive, stores.faults, stores.fault()) == (True, [], None)
    vectors = [store.get(["x"])[0].vector for store in stores.by_name.values()]
    assert not np.array_equal(*vectors)
    kind = type(stores.default)
    monkeypatch.setattr(kind, "faults", property(lambda store: ["broken"] if store is not stores.default else []))
    assert stores.faults == ["collection b: broken"]
    monkeypatch.setattr(kind, "alive", property(lambda store: store is stores.default))
    assert not stores.alive
    stores.close()
