"""Damaged rows of the database: noticed when they are read, at a start, or by a check beside the service."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded import store as store_module
from sfsc_service.store.embedded.damage import Damage
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.agreement import assert_agrees, walk
from tests.service.store.making import DIMENSION, SPACE, make_items, unit_vectors
from tests.service.store.oracle import Oracle

TIMEOUT_S = 30.0
COUNT = 30
MANY = {"place.camera": 1}


def filled(folder: Path) -> Oracle:
    oracle, store = Oracle(), EmbeddedStore(folder, SPACE, DIMENSION)
    store.upsert(make_items(COUNT))
    oracle.upsert(make_items(COUNT))
    store.close()
    return oracle


def damage(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / "database.sqlite")) as connection, connection:
        connection.execute(sql)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


DAMAGES = {
    "metadata that are no JSON": "UPDATE items SET metadata = '{\"seed\":7,' WHERE sequence = 8",
    "other metadata": "UPDATE items SET metadata = replace(metadata, '7', '8') WHERE sequence = 8",
    "text that is no UTF-8": "UPDATE items SET metadata = CAST(x'7b22ff227d' AS TEXT) WHERE sequence = 8",
    "width": "UPDATE items SET width = '0.75' WHERE sequence = 8",
    "space": "UPDATE items SET space = 'space-x' WHERE sequence = 8",
    "reason": "UPDATE items SET reason = 'load' WHERE sequence = 8",
    "created": "UPDATE items SET created = created + 1 WHERE sequence = 8",
    "image": "UPDATE items SET image = 'ab', media_type = 'image/png' WHERE sequence = 8",
    "checksum": "UPDATE items SET checksum = checksum + 1 WHERE sequence = 8",
}


@pytest.mark.parametrize("when", ["before the start", "while open", "found beside the service"])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_row_is_named_and_that_item_only_is_not_served(
    tmp_path: Path, name: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle, lost = filled(tmp_path), "item-00007"
    if when == "found beside the service":
        monkeypatch.setattr(store_module, "_SMALL", 0)
        monkeypatch.setattr("sfsc_service.store.embedded.sqlite.reader.Contents.complete", True)
    if when != "while open":
        damage(tmp_path, DAMAGES[name])
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    if when == "while open":
        damage(tmp_path, DAMAGES[name])
    if when == "found beside the service":
        until(lambda: bool(store.faults))
    others = sorted(set(oracle.kept) - {lost})
    assert {hit.id for hit in store.search(unit_vectors(1, 1), COUNT, MANY)[0]} == set(oracle.ids(MANY)) - {lost}
    assert {hit.id for hit in store.search(unit_vectors(1, 1), COUNT)[0]} == set(others)
    assert [found.id for found in walk(store)] == others
    assert [found.id for found in walk(store, filter=MANY)] == [name for name in oracle.ids(MANY) if name != lost]
    for read in (store.get, lambda ids: store.image(ids[0])):
        with pytest.raises(errors.StoreFailedError, match=f"'{lost}' is damaged"):
            read([lost])
    assert store.faults == [f"damaged items: '{lost}'; they are not served; upsert them again or delete them"]
    store.upsert([oracle.kept[lost].item])
    oracle.upsert([oracle.kept[lost].item])
    assert store.faults == []
    assert_agrees(store, oracle)
    store.close()


def test_a_row_that_is_missing_is_noticed_and_not_taken_for_deleted(tmp_path: Path) -> None:
    """The table says nothing of it, the sum of the checksums does; the indexes know that there was one."""
    filled(tmp_path)
    path = tmp_path / "database.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'items'").fetchone()[0]
    data = bytearray(path.read_bytes())
    start = (root - 1) * page_bytes
    cells = int.from_bytes(data[start + 3 : start + 5], "big")
    data[start + 3 : start + 5] = (cells - 1).to_bytes(2, "big")
    path.write_bytes(data)
    with pytest.raises(errors.StoreFailedError, match="is damaged; put a copy in its place"):
        EmbeddedStore(tmp_path, SPACE, DIMENSION)


def test_a_damaged_index_of_the_database_is_built_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    oracle = filled(tmp_path)
    path = tmp_path / "database.sqlite"
    data = path.read_bytes()
    # The index entry and the row both have the id right after the name of the collection.
    places = [i for i in range(len(data)) if data.startswith(b"defaultitem-00007", i)]
    with closing(sqlite3.connect(path)) as connection:
        index = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name LIKE 'sqlite_autoindex_items%'")
        first = (index.fetchone()[0] - 1) * connection.execute("PRAGMA page_size").fetchone()[0]
    (place,) = [i for i in places if first <= i < first + 4_096]
    path.write_bytes(data[: place + 16] + b"x" + data[place + 17 :])
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    assert "indexes of the database are damaged and are built anew" in caplog.text
    assert_agrees(store, oracle)
    store.close()


def test_a_sum_of_checksums_that_is_wrong_by_itself_is_corrected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = filled(tmp_path)
    damage(tmp_path, "UPDATE meta SET value = value + 1 WHERE name = 'checksum_sum'")
    for _ in range(2):
        store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
        assert_agrees(store, oracle)
        store.close()
    assert caplog.text.count("it was corrected") == 1


def test_sentences_name_the_first_ten() -> None:
    found = Damage()
    assert found.sentences == []
    found.add({number: f"i{number:02d}" for number in range(13)}, "vectors")
    assert found.sentences == [
        "damaged items: 'i00', 'i01', 'i02', 'i03', 'i04', 'i05', 'i06', 'i07', 'i08', 'i09' and 3 more; "
        "they are not served; upsert them again or delete them"
    ]
    found.forget(range(12))
    found.add_database(["row 3 missing from index x"])
    assert found.sentences == [
        "the database is damaged: row 3 missing from index x",
        "damaged items: 'i12'; they are not served; upsert them again or delete them",
    ]
