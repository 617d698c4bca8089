"""The index snapshot is a cache: whatever happened to it, the store answers from the database."""

import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sfsc_service.store.embedded.index.snapshot import read_snapshot, write_snapshot
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.agreement import assert_agrees
from tests.service.store.making import DIMENSION, SPACE, make_item, make_items, unit_vectors
from tests.service.store.oracle import Oracle


def filled(folder: Path) -> Oracle:
    """A closed store with 60 items after insertions, replacements and deletions, and a snapshot of it."""
    oracle, store = Oracle(), EmbeddedStore(folder, SPACE, DIMENSION)
    for items in (make_items(80), make_items(10, 500)):
        store.upsert(items)
        oracle.upsert(items)
    gone = [f"item-{i:05d}" for i in range(40, 60)]
    store.delete(gone)
    oracle.delete(gone)
    store.close()
    return oracle


def flip(offset: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)

    return damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def forged(path: Path) -> None:
    """Another dimension, with a checksum that is right."""
    data = path.read_bytes()[:-32].replace(b'"dimension": 16', b'"dimension": 32')
    path.write_bytes(data + hashlib.sha256(data).digest())


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "other content": lambda path: path.write_bytes(b"x" * 5_000),
    "cut": cut,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "bit in the magic": flip(0),
    "bit in the header's length": flip(8),
    "bit in the header": flip(20),
    "bit in a sequence number": flip(80),
    "bit in a vector": flip(-500),
    "bit in the checksum": flip(-1),
    "other dimension": forged,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_snapshot_is_rebuilt_from_the_database(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    oracle, path = filled(tmp_path), tmp_path / "index.snapshot"
    whole = path.read_bytes()
    DAMAGES[name](path)
    assert read_snapshot(path, DIMENSION) is None
    assert name == "missing" or "is not used" in caplog.text
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    assert_agrees(store, oracle)
    store.close()
    assert path.read_bytes() == whole


def test_a_whole_snapshot_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    oracle = filled(tmp_path)
    snapshot = read_snapshot(tmp_path / "index.snapshot", DIMENSION)
    assert snapshot is not None
    assert len(snapshot.sequences) == len(oracle.kept) == 60
    assert (snapshot.sequences[1:] > snapshot.sequences[:-1]).all()
    with caplog.at_level(logging.WARNING):
        store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    assert_agrees(store, oracle)
    store.close()
    assert caplog.text == ""


def test_a_file_that_ends_before_its_header_is_told_as_no_snapshot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "index.snapshot"
    write_snapshot(path, VectorIndex(DIMENSION, "cpu", 1), 1)
    path.write_bytes(path.read_bytes()[:40])
    assert read_snapshot(path, DIMENSION) is None
    assert "does not begin like a snapshot" in caplog.text


@pytest.mark.parametrize("count", [0, 1])
def test_a_snapshot_of_hardly_anything_is_used_too(tmp_path: Path, count: int) -> None:
    path, index = tmp_path / "index.snapshot", VectorIndex(DIMENSION, "cpu", 1)
    index.apply(np.empty(0, np.int64), np.arange(5, 5 + count), unit_vectors(1, count))
    write_snapshot(path, index, 7)
    snapshot = read_snapshot(path, DIMENSION)
    assert snapshot is not None
    assert (snapshot.sequence, snapshot.sequences.tolist()) == (7, list(range(5, 5 + count)))
    assert np.array_equal(snapshot.vectors, unit_vectors(1, count))


def test_changes_after_the_snapshot_are_read_from_the_database(tmp_path: Path) -> None:
    oracle, path = filled(tmp_path), tmp_path / "index.snapshot"
    old = path.read_bytes()
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    for items in (make_items(25, 900), [make_item("fresh", 1)]):
        store.upsert(items)
        oracle.upsert(items)
    gone = ["item-00030", "item-00003", "item-00070"]
    assert store.delete(gone) == oracle.delete(gone)
    store.close()
    path.write_bytes(old)
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    assert_agrees(store, oracle)
    store.close()


def test_a_snapshot_of_a_later_or_another_database_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = filled(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    store = EmbeddedStore(tmp_path / "a", SPACE, DIMENSION)
    store.upsert(make_items(30, 2_000))
    store.close()
    shutil.copy(tmp_path / "a" / "index.snapshot", tmp_path / "backup")
    store = EmbeddedStore(tmp_path / "backup", SPACE, DIMENSION)
    assert_agrees(store, oracle)
    store.close()
    assert "does not belong to this database" in caplog.text


def test_snapshots_are_written_while_the_store_is_open(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION, snapshot_changes=30)
    store.upsert(make_items(29))
    assert not (tmp_path / "index.snapshot").exists()
    store.upsert(make_items(1, 1, "more"))
    store.upsert(make_items(1, 2, "after"))  # its group is worked on after the snapshot
    snapshot = read_snapshot(tmp_path / "index.snapshot", DIMENSION)
    assert snapshot is not None
    assert len(snapshot.sequences) == 30
    store.close()


def test_a_snapshot_of_a_large_gallery_waits_until_as_much_has_changed(tmp_path: Path) -> None:
    """30 items; every replacement counts twice, as what it removes and what it adds."""
    path, store = tmp_path / "index.snapshot", EmbeddedStore(tmp_path, SPACE, DIMENSION, snapshot_changes=10)
    store.upsert(make_items(30))
    store.upsert([make_item("after")])  # its group is worked on after the snapshot
    first = path.read_bytes()
    store.upsert(make_items(14, 100))
    store.delete(["nowhere"])
    assert path.read_bytes() == first, "29 changes of 31 items"
    store.upsert(make_items(1, 200))
    store.delete(["nowhere"])
    assert path.read_bytes() != first
    store.close()


def test_a_snapshot_that_cannot_be_written_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, index = tmp_path / "index.snapshot", VectorIndex(DIMENSION, "cpu", 1)
    write_snapshot(path, index, 7)
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_snapshot(path, index, 8)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
