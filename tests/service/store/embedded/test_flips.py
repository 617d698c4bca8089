"""What one flipped bit may do to a folder that was not closed in order, wherever it is.

The contract:
- The store is not opened, and says why; or it is opened, and every item is as it was, or is named as damaged and
  not served. No item is silently missing, and nothing that is served is wrong.
- A store that is not opened leaves the folder as it is: without the flip it opens, with everything.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.protocol import Item, StoredItem
from tests.service.store.agreement import assert_agrees, walk
from tests.service.store.making import DIMENSION, SPACE, make_item, make_items, unit_vectors
from tests.service.store.oracle import Oracle, score

ROUNDS = 50


def make_folder(folder: Path) -> Oracle:
    """A copy of a folder in use: rows in the database and in its log, vectors in segments and in theirs."""
    oracle, used = Oracle(), folder.with_name("in-use")
    store = EmbeddedStore(used, SPACE, DIMENSION, seal_rows=40)
    for turn in range(6):
        items = [make_item(f"i{turn}-{i}", 100 * turn + i, image=i % 5 == 0) for i in range(12)]
        store.upsert(items)
        oracle.upsert(items)
        if turn == 3:
            store.close()
            store = EmbeddedStore(used, SPACE, DIMENSION, seal_rows=40)
    store.delete(["i0-3", "i5-3"])
    oracle.delete(["i0-3", "i5-3"])
    store.upsert(make_items(3, 900, "i1"))
    oracle.upsert(make_items(3, 900, "i1"))
    shutil.copytree(used, folder)
    store.close()
    shutil.rmtree(used)
    return oracle


def flip_any(folder: Path, rng: np.random.Generator) -> str:
    """Flip a bit of any file, each kind of file being as likely as any other; says which."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    by_kind: dict[str, list[Path]] = {}
    for path in files:
        by_kind.setdefault(path.relative_to(folder).parts[0] + path.suffix, []).append(path)
    kind = sorted(by_kind)[int(rng.integers(len(by_kind)))]
    path = by_kind[kind][int(rng.integers(len(by_kind[kind])))]
    data = bytearray(path.read_bytes())
    offset, bit = int(rng.integers(len(data))), int(rng.integers(8))
    data[offset] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {offset} of {path.relative_to(folder)}"


def same(found: StoredItem, item: Item) -> bool:
    return (found.space, found.width, found.metadata, found.vector.tobytes()) == (
        item.space,
        item.width,
        item.metadata,
        item.vector.tobytes(),
    )


def assert_noticed_or_harmless(store: EmbeddedStore, oracle: Oracle) -> None:
    named = damaged_ids(store)
    listed = {found.id: found for found in walk(store, 20)}
    assert all(same(found, oracle.kept[found.id].item) for found in listed.values())
    assert set(listed) >= set(oracle.kept) - named, "missing from the list, and not named"
    query = unit_vectors(5, 1)
    for document in (None, {"group": "g1"}):
        hits = {hit.id: hit for hit in store.search(query, 500, document)[0]}
        assert set(hits) >= set(oracle.ids(document)) - named, "missing from a search, and not named"
        for hit in hits.values():
            item = oracle.kept[hit.id].item
            assert (hit.metadata, hit.width) == (item.metadata, item.width)
            assert hit.score == score(item.vector, query[0])
    for name, kept in oracle.kept.items():
        # A damaged image is noticed when it is read; that of a damaged item is not read.
        assert served_right(store, name, kept.item) or name in damaged_ids(store) or kept.item.image
    if len(named) < len(oracle.kept):
        assert store.faults or not named


def damaged_ids(store: EmbeddedStore) -> set[str]:
    return set(store._damage._ids.values())


def served_right(store: EmbeddedStore, name: str, item: Item) -> bool:
    """Whether an item and its image are as they were; False where one of them is refused as damaged."""
    try:
        (found,) = store.get([name])
        image = store.image(name)
    except errors.StoreFailedError as error:
        return "damaged" not in str(error)
    assert found is not None
    assert same(found, item)
    assert (image and image.data) == (item.image and item.image.data)
    return True


def run_round(whole: Path, oracle: Oracle, folder: Path, seed: int) -> str:
    """What became of one flip: refused, named, or harmless."""
    shutil.copytree(whole, folder)
    where = flip_any(folder, np.random.default_rng(seed))
    try:
        store = EmbeddedStore(folder, SPACE, DIMENSION)
    except errors.StoreError:
        for path in whole.rglob("*"):
            if path.is_file():
                assert (folder / path.relative_to(whole)).exists(), f"{where}: {path.name} is gone"
        shutil.rmtree(folder)
        return "refused"
    try:
        assert_noticed_or_harmless(store, oracle)
        named = bool(store.faults)
        store.upsert([oracle.kept[name].item for name in damaged_ids(store) & set(oracle.kept)])
    except Exception as error:
        error.add_note(where)
        raise
    finally:
        store.close()
    shutil.rmtree(folder)
    return "named" if named else "harmless"


def test_a_flipped_bit_is_noticed_and_named_or_harmless(tmp_path: Path) -> None:
    oracle = make_folder(tmp_path / "whole")
    outcomes = [
        run_round(tmp_path / "whole", oracle, tmp_path / f"flipped-{seed}", seed) for seed in range(ROUNDS)
    ]
    assert {"refused", "named", "harmless"} == set(outcomes)


def test_the_folder_is_whole_without_a_flip(tmp_path: Path) -> None:
    oracle = make_folder(tmp_path / "whole")
    store = EmbeddedStore(tmp_path / "whole", SPACE, DIMENSION)
    assert store.faults == []
    for kept in oracle.kept.values():
        assert (store.image(kept.item.id) is None) == (kept.item.image is None)
    assert_agrees(store, oracle)
    store.close()


@pytest.mark.parametrize("seal_rows", [40, 65_536])
def test_every_change_of_a_log_that_was_cut_short_is_missed(tmp_path: Path, seal_rows: int) -> None:
    """SQLite takes a damaged write-ahead log for one that ends there, without an error."""
    make_folder(tmp_path / "whole")
    log = tmp_path / "whole" / "database.sqlite-wal"
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    with pytest.raises(
        errors.DatabaseLostError, match=r"up to number \d+, which were acknowledged; found it to end"
    ):
        EmbeddedStore(tmp_path / "whole", SPACE, DIMENSION, seal_rows=seal_rows)
    assert log.read_bytes() == data, "what is left of it is evidence"
    (tmp_path / "whole" / "acknowledged").unlink()
    store = EmbeddedStore(tmp_path / "whole", SPACE, DIMENSION, seal_rows=seal_rows)
    assert 0 < store.count() < 74
    store.close()
