"""The commands on a data folder, beside the store that has it open and without one."""

import json
import re
from pathlib import Path

import pytest

from sfsc_service.cli.backup import Backup
from sfsc_service.cli.check import Check
from sfsc_service.cli.compact import Compact
from sfsc_service.cli.restore import Restore
from sfsc_service.store import errors
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.making import DIMENSION, SPACE, make_item


@pytest.fixture
def backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A backup of two items, one with an image, that was made while the store was open."""
    data, target = tmp_path / "served", tmp_path / "backup"
    store = EmbeddedStore(data, SPACE, DIMENSION)
    store.upsert([make_item("a", 1, image=True), make_item("b", 2)])
    Backup(data=data, target=target, json=True).run()
    assert json.loads(capsys.readouterr().out) == {"items": 2, "images": 1, "to": str(target)}
    with pytest.raises(errors.StoreLockedError, match="is in use by process"):
        Check(data=data).run()
    store.close()
    return target


def test_a_backup_is_whole_and_is_restored_into_a_new_folder_only(
    backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    Restore(backup=backup, data=data).run()
    assert capsys.readouterr().out == f"2 items and 1 images are in {data}\n"
    with pytest.raises(errors.OpenRefusedError, match="must be a new or an empty folder"):
        Restore(backup=backup, data=data).run()
    Compact(data=data).run()
    assert re.fullmatch(r"database and vectors have \d+ bytes, before \d+\n", capsys.readouterr().out)
    Check(data=data).run()
    assert capsys.readouterr().out == "2 items, 1 images, 1 files of vectors\neverything is whole\n"


def test_damage_fails_a_check_until_it_is_repaired_and_no_damaged_backup_is_restored(
    backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (image,) = (backup / "images").glob("??/??/*")
    image.write_bytes(b"damaged")
    with pytest.raises(errors.StoreFailedError, match="is damaged and was not restored"):
        Restore(backup=backup, data=tmp_path / "data").run()
    with pytest.raises(SystemExit, match="1"):
        Check(data=backup, json=True).run()
    document = json.loads(capsys.readouterr().out)
    assert [(found["kind"], found["subject"]) for found in document["findings"]] == [("image", "a")]
    assert (document["whole"], document["repaired"]) == (False, [])
    Check(data=backup, repair=True).run()
    said = capsys.readouterr().out
    assert "1 items whose image was missing or damaged have none now" in said
    assert said.endswith("everything is whole now\n")


def test_a_folder_without_a_gallery_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    for command in (Check(data=tmp_path), Compact(data=tmp_path), Backup(data=tmp_path, target=tmp_path / "copy")):
        with pytest.raises(errors.DatabaseLostError, match="must hold a gallery"):
            command.run()
    assert list(tmp_path.iterdir()) == []
