"""The collections in one data folder: made, removed and found, whatever fails in between."""

import logging
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.store.embedded import stores as stores_module
from sfsc_service.store.embedded.backup import copy_folder
from sfsc_service.store.embedded.check import check_folder
from sfsc_service.store.embedded.opening import DATABASE
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.stores import COLLECTIONS, EmbeddedStores
from sfsc_service.store.errors import FolderMismatchError, StoreFailedError, StoreLockedError
from sfsc_service.store.open_stores import OpenStores
from tests.service.store.making import DIMENSION, SPACE, make_item


def opened(folder: Path, space: str = SPACE) -> OpenStores:
    return OpenStores(EmbeddedStores(folder, EmbeddedStore), space, DIMENSION, ())


def with_one_item(folder: Path) -> OpenStores:
    stores = opened(folder)
    stores.create("cars", 9)
    stores.by_name["cars"].upsert([make_item("x", image=True)])
    return stores


def test_a_collection_is_a_data_folder_of_its_own(tmp_path: Path) -> None:
    with_one_item(tmp_path).close()
    alone = EmbeddedStore(tmp_path / COLLECTIONS / "cars", SPACE, DIMENSION)
    assert alone.count() == 1
    with pytest.raises(StoreLockedError, match="collection cars: folder: one process"):
        opened(tmp_path)
    alone.close()
    EmbeddedStore(tmp_path, SPACE, DIMENSION).close()


def test_names_that_are_none_are_left_alone_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("lost+found", "default", "cars.bak", "-x"):
        (tmp_path / COLLECTIONS / name).mkdir(parents=True)
    (tmp_path / COLLECTIONS / "file").touch()
    stores = opened(tmp_path)
    assert list(stores.by_name) == ["default"]
    stores.close()
    assert len(list((tmp_path / COLLECTIONS).iterdir())) == 5
    assert "collections/cars.bak is left alone" in caplog.text


def fail(*_: Any) -> None:
    raise OSError(5, "Input/output error")


def test_a_removal_that_is_killed_is_finished_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stores = with_one_item(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)  # as a kill between the renaming and the deletion
        stores.remove("cars")
    assert "until the next start" in caplog.text
    assert stores.create("cars", 9)
    assert stores.by_name["cars"].count() == 0
    stores.close()
    again = opened(tmp_path)
    assert {name: store.count() for name, store in again.by_name.items()} == {"default": 0, "cars": 0}
    again.close()
    assert [path.name for path in (tmp_path / COLLECTIONS).iterdir()] == ["cars"]


def test_a_removal_that_the_disk_refuses_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = with_one_item(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(StoreFailedError, match="collection cars cannot be deleted"):
            stores.remove("cars")
    stores.close()
    again = opened(tmp_path)
    assert again.by_name["cars"].count() == 1
    again.close()


def test_a_collection_whose_making_was_killed_is_not_there(tmp_path: Path) -> None:
    with_one_item(tmp_path).close()
    (tmp_path / COLLECTIONS / "cars").rename(tmp_path / COLLECTIONS / ".new-0123")
    assert check_folder(tmp_path).findings == []
    assert copy_folder(tmp_path, tmp_path.with_name("copy")).items == 0
    stores = opened(tmp_path)
    assert list(stores.by_name) == ["default"]
    assert list((tmp_path / COLLECTIONS).iterdir()) == []
    stores.close()


@pytest.mark.parametrize("failing", ["sync", "open"])
def test_a_collection_that_cannot_be_made_is_not_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    stores = opened(tmp_path)
    with monkeypatch.context() as patch:
        if failing == "sync":
            patch.setattr(stores_module, "sync", fail)
        else:
            patch.setattr("sfsc_service.store.embedded.sqlite.schema.create_tables", fail)
        with pytest.raises(StoreFailedError):
            stores.create("cars", 9)
    assert list(stores.by_name) == ["default"]
    assert list((tmp_path / COLLECTIONS).iterdir()) == []
    assert stores.create("cars", 9)
    stores.close()


def test_folders_are_durable_before_a_new_collection_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(stores_module, "sync", synced.extend)
    stores = opened(tmp_path)
    stores.create("cars", 9)
    assert synced == [tmp_path, tmp_path / COLLECTIONS]
    stores.remove("cars")
    assert synced == [tmp_path, tmp_path / COLLECTIONS, tmp_path / COLLECTIONS]
    stores.close()


def test_a_collection_of_another_space_is_named_and_nothing_stays_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with_one_item(tmp_path).close()
    shutil.rmtree(tmp_path / COLLECTIONS / "cars")
    EmbeddedStore(tmp_path / COLLECTIONS / "cars", "space-z", DIMENSION).close()
    with pytest.raises(FolderMismatchError, match=r"collection cars: folder: .* found space-z"):
        opened(tmp_path)
    EmbeddedStore(tmp_path, SPACE, DIMENSION).close()
    assert (tmp_path / COLLECTIONS / "cars" / DATABASE).exists()


def test_what_a_collection_costs_is_as_documented(tmp_path: Path) -> None:
    stores = opened(tmp_path)
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for n in range(4):
        assert stores.create(f"c{n}", 9)
        stores.by_name[f"c{n}"].upsert([make_item("x")])
    assert threading.active_count() - threads <= 4 * 3
    assert len(os.listdir("/proc/self/fd")) - files <= 4 * 12
    stores.close()
    assert threading.active_count() <= threads
