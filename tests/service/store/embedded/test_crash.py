"""What a crash may do to the embedded store.

The contract, for a process that is killed at any moment, even while it recovers from being killed before:
- Every change that was acknowledged is there: items with their vector bit for bit, metadata, width and image;
  deleted items are gone.
- Of a change that was not acknowledged, either all is there or nothing: no call is half done, no item is a mixture
  of two versions.
- The index agrees with the database: a search, filtered or not, gives what brute force over the database gives.
- Every image that an item refers to exists and has the right content; an image that is not used is deleted.
- Opening the folder again is all that is needed.

What was acknowledged is kept outside, by the parent: the child tells over a pipe.
"""

import hashlib
import multiprocessing
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.agreement import assert_agrees, walk
from tests.service.store.embedded.crash_child import Operation, open_store, version, write_without_end
from tests.service.store.making import unit_vectors
from tests.service.store.oracle import Oracle

ROUNDS = 50


@dataclass
class Model:
    """The seeds of the versions that must be there, and what each of the child's threads was at when it died."""

    kept: dict[str, int] = field(default_factory=dict)
    under_way: dict[int, Operation] = field(default_factory=dict)
    acknowledged: int = 0

    def hear(self, message: Any) -> None:
        if message[0] == "intent":
            _, thread, operation = message
            assert thread not in self.under_way
            self.under_way[thread] = operation
        else:
            apply(self.under_way.pop(message[1]), self.kept)
            self.acknowledged += 1


def apply(operation: Operation, kept: dict[str, int]) -> None:
    kind, drawn = operation
    for identifier, seed in drawn:
        if kind == "upsert":
            kept[identifier] = seed
        else:
            kept.pop(identifier, None)


def run_until_killed(folder: Path, seed: int, model: Model, rng: np.random.Generator) -> None:
    """Start the child, kill it after some messages and a moment, and hear what it had still to say."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([write_without_end.__module__])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=write_without_end, args=(folder, seed, sender))
    child.start()
    sender.close()
    # Every fourth child dies before or while it opens the folder.
    messages = 0 if rng.random() < 0.25 else int(rng.integers(1, 40))
    for _ in range(messages):
        model.hear(receiver.recv())
    time.sleep(float(rng.uniform(0, 0.1 if not messages else 0.02)))
    child.kill()
    hear_the_rest(receiver, model)
    child.join()
    child.close()


def hear_the_rest(receiver: Connection, model: Model) -> None:
    with receiver:
        while True:
            try:
                model.hear(receiver.recv())
            except EOFError:
                return


def assert_recovered(store: EmbeddedStore, folder: Path, model: Model, round_number: int) -> None:
    """Compare with the model; what was under way is taken into it as it is found, wholly done or not at all."""
    found = {found.id: found.metadata["seed"] for found in walk(store, 40)}
    for operation in model.under_way.values():
        done = dict(model.kept)
        apply(operation, done)
        concerned = {identifier for identifier, _ in operation[1]}
        now = {identifier: found.get(identifier) for identifier in concerned}
        before = {identifier: model.kept.get(identifier) for identifier in concerned}
        after = {identifier: done.get(identifier) for identifier in concerned}
        assert now in (before, after), f"half done: {operation}"
        model.kept = done if now == after else model.kept
    model.under_way.clear()
    assert found == model.kept
    assert_contents(store, folder, model.kept, round_number)


def assert_contents(store: EmbeddedStore, folder: Path, kept: dict[str, int], round_number: int) -> None:
    oracle = Oracle()
    oracle.upsert([version(identifier, kept[identifier]) for identifier in by_change(folder)])
    assert_agrees(store, oracle, unit_vectors(round_number, 2))
    named = {found.image_digest for found in walk(store, 100) if found.image_digest}
    files = [path for path in (folder / "images").rglob("*") if path.is_file()]
    assert {path.name for path in files} == named
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in files)


def by_change(folder: Path) -> list[str]:
    """All ids in the order of their last change, which is that of equal scores."""
    with closing(sqlite3.connect(folder / "database.sqlite")) as connection:
        return [identifier for (identifier,) in connection.execute("SELECT id FROM items ORDER BY sequence")]


def run_rounds(folder: Path, seed: int, rounds: int) -> tuple[int, int]:
    """Kill `rounds` processes; how many calls were acknowledged, and how many killed ones had happened anyway."""
    rng, model, done_anyway = np.random.default_rng(seed), Model(), 0
    store_folder = folder / "store"
    for round_number in range(rounds):
        run_until_killed(store_folder, seed + round_number, model, rng)
        looked_at = store_folder
        if rng.random() < 0.5:
            # Looking changes the folder, since it is then closed in order: let the next child find it as it is.
            looked_at = folder / f"copy-{round_number}"
            if store_folder.exists():
                shutil.copytree(store_folder, looked_at)
        before, pending = dict(model.kept), len(model.under_way)
        store = open_store(looked_at)
        assert_recovered(store, looked_at, model, round_number)
        store.close()
        done_anyway += bool(pending) and before != model.kept
        if looked_at != store_folder:
            shutil.rmtree(looked_at)
    return model.acknowledged, done_anyway


@pytest.mark.parametrize("seed", [20_260_101])
def test_killed_again_and_again_nothing_acknowledged_is_lost_and_nothing_is_half_there(
    tmp_path: Path, seed: int
) -> None:
    acknowledged, done_anyway = run_rounds(tmp_path, seed, ROUNDS)
    assert acknowledged > 3 * ROUNDS
    assert done_anyway, "no kill fell between a commit and its acknowledgement"
