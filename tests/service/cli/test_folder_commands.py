"""The commands on a data folder, beside the store that has it open and without one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.cli.backup import Backup
from sfsc_service.cli.check import Check
from sfsc_service.cli.compact import Compact
from sfsc_service.cli.restore import Restore
from sfsc_service.store import errors
from sfsc_service.store.embedded import backup as backup_module
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.stores import EmbeddedStores
from sfsc_service.store.open_stores import OpenStores
from tests.service.store.making import DIMENSION, SPACE, make_item


@pytest.fixture
def backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A backup of two items, one with an image, that was made while the store was open."""
    data, target = tmp_path / "served", tmp_path / "backup"
    store = EmbeddedStore(data, SPACE, DIMENSION)
    store.upsert([make_item("a", 1, image=True), make_item("b", 2)])
    Backup(data=str(data), target=str(target), json=True).run()
    assert json.loads(capsys.readouterr().out) == {"items": 2, "images": 1, "collections": 1, "to": str(target)}
    with pytest.raises(errors.StoreLockedError, match="is in use by process"):
        Check(data=str(data)).run()
    store.close()
    return target


def test_a_backup_is_whole_and_is_restored_into_a_new_folder_only(
    backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    Restore(backup=backup, data=data).run()
    assert capsys.readouterr().out == f"2 items and 1 image are in {data}\n"
    with pytest.raises(errors.OpenRefusedError, match="must be a new or an empty folder"):
        Restore(backup=backup, data=data).run()
    Compact(data=str(data)).run()
    assert re.fullmatch(r"database and vectors have \d+ bytes, before \d+\n", capsys.readouterr().out)
    Check(data=str(data)).run()
    assert capsys.readouterr().out == "items: 2, images: 1, files of vectors: 1\neverything is whole\n"


def test_damage_fails_a_check_until_it_is_repaired_and_no_damaged_backup_is_restored(
    backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (image,) = (backup / "images").glob("??/??/*")
    image.write_bytes(b"damaged")
    with pytest.raises(errors.StoreFailedError, match=r"was not restored; .* --repair` the rest of it can be"):
        Restore(backup=backup, data=tmp_path / "data").run()
    with pytest.raises(SystemExit, match="1"):
        Check(data=str(backup)).run()
    assert "--repair would remove 0 of 2 items and take the image from 1;" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        Check(data=str(backup), json=True).run()
    document = json.loads(capsys.readouterr().out)
    assert [(found["kind"], found["subject"]) for found in document["findings"]] == [("image", "a")]
    assert (document["whole"], document["repaired"]) == (False, [])
    Check(data=str(backup), repair=True).run()
    said = capsys.readouterr().out
    assert "1 items whose image was missing or damaged have none now" in said
    assert said.endswith("everything is whole now\n")


def test_a_folder_without_a_gallery_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    data, target = str(tmp_path), str(tmp_path / "copy")
    for command in (Check(data=data), Compact(data=data), Backup(data=data, target=target)):
        with pytest.raises(errors.DatabaseLostError, match="must hold a gallery"):
            command.run()
    assert list(tmp_path.iterdir()) == []


def test_collections_are_copied_checked_repaired_and_made_smaller_with_the_folder_that_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, target, data = tmp_path / "served", tmp_path / "backup", tmp_path / "data"
    stores = OpenStores(EmbeddedStores(served, EmbeddedStore), SPACE, DIMENSION, ())
    for name in ("bikes", "cars", "gone"):
        stores.create(name, 9)
        stores.by_name[name].upsert([make_item(name, 1, image=True)])
    copy = backup_module._Copy.gallery

    def remove_meanwhile(copying: Any, source: Path, *further: Any) -> Any:
        if source.name == "gone":
            stores.remove("gone")
        return copy(copying, source, *further)

    with monkeypatch.context() as patch:
        patch.setattr(backup_module._Copy, "gallery", remove_meanwhile)
        Backup(data=str(served), target=str(target)).run()
    assert capsys.readouterr().out.startswith(f"2 items and 2 images of 3 collections are in {target}\n")
    assert not (target / "collections" / "gone").exists()
    with pytest.raises(errors.StoreLockedError):
        Check(data=str(served / "collections" / "bikes")).run()
    stores.close()
    Restore(backup=target, data=data).run()
    Compact(data=str(data)).run()
    stores = OpenStores(EmbeddedStores(data, EmbeddedStore), SPACE, DIMENSION, ())
    assert stores.compositions() == {"default": {}, "bikes": {"0.5": 1}, "cars": {"0.5": 1}}
    assert stores.by_name["cars"].image("cars") is not None
    with pytest.raises(errors.StoreLockedError):
        Check(data=str(data)).run()
    stores.close()
    for place in (target, data):
        (image,) = (place / "collections" / "cars" / "images").glob("??/??/*")
        image.write_bytes(b"damaged")
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        Check(data=str(data), json=True).run()
    document = json.loads(capsys.readouterr().out)
    assert (document["whole"], document["findings"]) == (False, [])
    assert {name: one["whole"] for name, one in document["collections"].items()} == {"bikes": True, "cars": False}
    with pytest.raises(errors.StoreFailedError, match=r"was not restored"):
        Restore(backup=target, data=tmp_path / "again").run()
    Check(data=str(data), repair=True).run()
    assert "collection cars:\nitems: 1," in capsys.readouterr().out
    Check(data=str(data)).run()


def test_a_backup_that_fails_in_a_collection_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    stores = OpenStores(EmbeddedStores(data, EmbeddedStore), SPACE, DIMENSION, ())
    stores.create("cars", 2)
    stores.by_name["cars"].upsert([make_item("a", 1, image=True)])
    (image,) = (data / "collections" / "cars" / "images").glob("??/??/*")
    image.unlink()
    with pytest.raises(errors.StoreFailedError, match="collections/cars lacks 1 images"):
        Backup(data=str(data), target=str(tmp_path / "backup")).run()
    stores.close()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
