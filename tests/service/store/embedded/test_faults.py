"""What a failing disk may do to the embedded store.

The contract, when any single call that changes a file fails, or several in a row: with an I/O error, a full disk,
or after half of what was to be written:
- Every call is answered, a failed one with a StoreError.
- What was acknowledged is there, at once and after the next start; what was refused is not; where the outcome is
  unknown, each item is as it was or as the call wanted it.
- Once the disk works again, the store takes changes again, at the latest after the next start.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Item
from tests.service.store.agreement import assert_agrees, image_of
from tests.service.store.embedded.failing_files import Fault, failing_files, sqlite_can_be_made_to_fail
from tests.service.store.making import DIMENSION, SPACE, make_item
from tests.service.store.oracle import Oracle

ROUNDS = 50
OPERATIONS = 8
SEAL_ROWS = 12

pytestmark = pytest.mark.skipif(not sqlite_can_be_made_to_fail(), reason="Python's SQLite is no shared library")


@dataclass
class Expected:
    """The items that must be there, and for ids of unknown outcome what else may be."""

    kept: dict[str, Item] = field(default_factory=dict)
    maybe: dict[str, set[int | None]] = field(default_factory=dict)

    def seeds(self, name: str) -> set[int | None]:
        kept = self.kept.get(name)
        return {kept.metadata["seed"] if kept else None, *self.maybe.get(name, set())}

    def change(self, changed: dict[str, Item | None]) -> None:
        for name, item in changed.items():
            self.maybe.pop(name, None)
            if item is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = item

    def perhaps(self, changed: dict[str, Item | None]) -> None:
        for name, item in changed.items():
            self.maybe[name] = self.seeds(name) | {item.metadata["seed"] if item else None}

    def settle(self, store: EmbeddedStore) -> None:
        """Take what is found of unknown outcomes for what is kept."""
        for name in list(self.maybe):
            (found,) = store.get([name])
            seed = found.metadata["seed"] if found else None
            assert seed in self.seeds(name), f"{name}: {seed} is neither the old nor the new version"
            self.change({name: version(name, seed) if seed is not None else None})


def version(name: str, seed: int) -> Item:
    return make_item(name, seed, image=seed % 3 == 0)


def open_store(folder: Path) -> EmbeddedStore:
    return EmbeddedStore(folder, SPACE, DIMENSION, seal_rows=SEAL_ROWS)


def draw(rng: np.random.Generator) -> dict[str, Item | None]:
    """An upsert or a deletion of some of ten items."""
    ids = [f"i{number}" for number in rng.choice(10, size=int(rng.integers(1, 6)), replace=False)]
    if rng.random() < 0.25:
        return dict.fromkeys(ids)
    return {name: version(name, int(rng.integers(1, 10**6))) for name in ids}


def carry_out(store: EmbeddedStore, changed: dict[str, Item | None], expected: Expected) -> None:
    try:
        items = [item for item in changed.values() if item]
        if items:
            store.upsert(items)
        else:
            store.delete(list(changed))
    except errors.OutcomeUnknownError:
        expected.perhaps(changed)
    except errors.StoreError:
        return
    else:
        expected.change(changed)


def assert_kept(store: EmbeddedStore, expected: Expected) -> None:
    expected.settle(store)
    oracle = Oracle()
    rows = [found for found in store.get(sorted(expected.kept)) if found]
    assert {found.id: found.metadata["seed"] for found in rows} == {
        name: item.metadata["seed"] for name, item in expected.kept.items()
    }
    with store._readers.acquire() as reader:
        by_change = [row.id for row in reader.rows_above(0, 1_000)]
    oracle.upsert([expected.kept[name] for name in by_change])
    assert_agrees(store, oracle)
    assert store.faults == []
    for name, item in expected.kept.items():
        assert image_of(store, name) == item.image


def run_round(folder: Path, seed: int) -> int:
    """One history with one fault; how many calls of it failed."""
    rng, expected = np.random.default_rng(seed), Expected()
    fault, lasting = list(Fault)[seed % 3], int(rng.choice([1, 1, 3, 30]))
    history = [draw(rng) for _ in range(OPERATIONS)]
    with failing_files(int(rng.integers(1, 180)), fault, lasting) as calls:
        store = None
        for number, changed in enumerate(history):
            try:
                store = store or open_store(folder)
            except errors.StoreFailedError:
                continue
            carry_out(store, changed, expected)
            if number == OPERATIONS // 2:
                store.close()
                store = None
    if store is not None and store.alive:
        assert_kept(store, expected)
        carry_out(store, {"i0": version("i0", seed)}, expected)
        assert expected.kept["i0"].metadata["seed"] == seed, "the disk works again, but the store does not"
    if store is not None:
        store.close()
    store = open_store(folder)
    assert_kept(store, expected)
    store.close()
    return len(calls.failed)


def test_a_failing_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    failed = sum(run_round(tmp_path / str(seed), seed) > 0 for seed in range(ROUNDS))
    assert failed > ROUNDS // 2
