"""The contract under any order of calls: every implementation against the oracle."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sfsc_service.store.protocol import EncodedImage, Float32, Item, Store, VectorChange
from tests.service.store.agreement import FILTERS, assert_items_agree, assert_search_agrees, walk
from tests.service.store.conftest import Implementation, Opener
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE, WIDTHS
from tests.service.store.oracle import Oracle


def axes() -> Float32:
    """Few vectors, some of them opposite or close to each other, so that equal and almost equal scores abound."""
    eye = np.eye(DIMENSION, dtype=np.float32)
    nudged = eye[0].copy()
    nudged[1] = 1e-4
    return np.stack([eye[0], eye[1], -eye[0], nudged, np.full(DIMENSION, 0.25, np.float32)])


IDS = st.sampled_from("abcdefgh")
VECTORS = st.integers(0, 4).map(lambda i: axes()[i])
ITEMS = st.builds(
    Item,
    id=IDS,
    space=st.sampled_from([SPACE, OLD_SPACE]),
    width=st.sampled_from(WIDTHS),
    vector=VECTORS,
    metadata=st.fixed_dictionaries(
        {"group": st.sampled_from(["g1", "g2"]), "place": st.fixed_dictionaries({"camera": st.integers(0, 1)})}
    ),
    image=st.none() | st.sampled_from([EncodedImage(b"one", "image/png"), EncodedImage(b"two", "image/jpeg")]),
)


class Machine(RuleBasedStateMachine):
    opener: Opener

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store: Store = self.opener(Path(self.folder.name))
        self.oracle = Oracle()

    @rule(items=st.lists(ITEMS, max_size=6))
    def upsert(self, items: list[Item]) -> None:
        assert self.store.upsert(items) == self.oracle.upsert(items)

    @rule(id=IDS, patch=st.dictionaries(st.sampled_from(["group", "note"]), st.sampled_from([None, "g1", "g2"])))
    def patch(self, id: str, patch: dict[str, Any]) -> None:
        patched = self.store.patch_metadata(id, patch)
        assert (patched and patched.metadata) == self.oracle.patch_metadata(id, patch)

    @rule(ids=st.sets(IDS, max_size=4), space=st.sampled_from([SPACE, OLD_SPACE]), vector=VECTORS)
    def replace_vectors(self, ids: set[str], space: str, vector: Float32) -> None:
        found = [item for item in self.store.get(sorted(ids)) if item is not None]
        changes = [VectorChange(item, space, "1.0", vector) for item in found]
        assert self.store.replace_vectors(changes) == self.oracle.replace_vectors(changes)
        unchanged = [one for one in changes if (one.space, one.width) == (one.item.space, one.item.width)]
        stale = [one for one in changes if one not in unchanged]
        assert self.store.replace_vectors(stale) == [False] * len(stale)

    @rule(ids=st.lists(IDS, max_size=4))
    def delete(self, ids: list[str]) -> None:
        assert self.store.delete(ids) == self.oracle.delete(ids)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.opener(Path(self.folder.name))

    @rule(query=VECTORS, filter=st.sampled_from(FILTERS))
    def search(self, query: Float32, filter: Any) -> None:
        assert_search_agrees(self.store, self.oracle, query[None], filter)

    @rule(limit=st.integers(1, 4), filter=st.sampled_from([one for one in FILTERS if one]))
    def delete_matching(self, limit: int, filter: Any) -> None:
        matching = self.oracle.ids(filter)
        assert self.store.count(filter) == len(matching)
        removed = self.store.delete_matching(filter, limit)
        assert len(removed) == min(limit, len(matching))
        assert set(removed) <= set(matching)
        self.oracle.delete(removed)

    @rule(limit=st.integers(1, 4), filter=st.sampled_from(FILTERS))
    def page(self, limit: int, filter: Any) -> None:
        assert [found.id for found in walk(self.store, limit, filter)] == self.oracle.ids(filter)

    @rule()
    def compare(self) -> None:
        assert_items_agree(self.store, self.oracle)

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "store"):
            assert self.store.count() == len(self.oracle.kept)
            assert self.store.composition() == self.oracle.composition()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


def test_any_order_of_calls(opener: Opener, implementation: Implementation) -> None:
    machine = type("Machine", (Machine,), {"opener": staticmethod(opener)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=implementation.examples, stateful_step_count=30, deadline=None, print_blob=True
        ),
    )
