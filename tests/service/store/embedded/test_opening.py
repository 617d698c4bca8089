"""What is not opened: a folder without its database, or one that another process has."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.agreement import assert_agrees
from tests.service.store.embedded.test_folder import HOLDER
from tests.service.store.making import DIMENSION, SPACE, make_item, make_items
from tests.service.store.oracle import Oracle


def contents(folder: Path) -> dict[str, bytes]:
    """All files but those that come and go with every look at a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    passing = ("lock", "database.sqlite-shm", "database.sqlite-wal")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in passing}


@pytest.mark.parametrize("how", ["missing", "empty", "without tables"])
@pytest.mark.parametrize("left", ["images", "segments", "acknowledged"])
def test_a_folder_whose_database_is_gone_is_no_new_gallery(tmp_path: Path, how: str, left: str) -> None:
    folder = tmp_path / "store"
    oracle, store = Oracle(), EmbeddedStore(folder, SPACE, DIMENSION)
    items = [make_item(f"i{i}", i, image=True) for i in range(5)]
    store.upsert(items)
    oracle.upsert(items)
    store.close()
    shutil.copytree(folder, tmp_path / "copy")
    (folder / "database.sqlite").unlink()
    if how == "empty":
        (folder / "database.sqlite").touch()
    elif how == "without tables":
        with closing(sqlite3.connect(folder / "database.sqlite")) as connection:
            connection.execute("PRAGMA user_version = 1")
    for other in {"images", "segments", "acknowledged"} - {left}:
        shutil.rmtree(folder / other, ignore_errors=True)
        (folder / other).unlink(missing_ok=True)
    before = contents(folder)
    with pytest.raises(
        errors.DatabaseLostError, match=r"database\.sqlite is missing or empty; found .*Put a copy"
    ):
        EmbeddedStore(folder, SPACE, DIMENSION)
    assert contents(folder) == before
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    store = EmbeddedStore(folder, SPACE, DIMENSION)
    assert_agrees(store, oracle)
    store.close()


def test_a_database_without_any_of_its_vectors_is_refused(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    store.upsert(make_items(5))
    store.close()
    shutil.rmtree(tmp_path / "segments")
    with pytest.raises(errors.StoreFailedError, match="has 5 items, and segments/ has no vectors"):
        EmbeddedStore(tmp_path, SPACE, DIMENSION)


def test_a_refused_start_changes_nothing(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    store.upsert([make_item("a", 1, image=True)])
    store.close()
    before = contents(tmp_path)
    for space, dimension in (("space-z", DIMENSION), (SPACE, 32)):
        with pytest.raises(errors.FolderMismatchError):
            EmbeddedStore(tmp_path, space, dimension)
        assert contents(tmp_path) == before


def test_a_second_process_is_refused_even_where_the_lock_file_was_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        (folder / "lock").unlink()
        for _ in range(2):
            with pytest.raises(errors.StoreLockedError, match="one process at a time"):
                EmbeddedStore(folder, SPACE, DIMENSION)
        holder.kill()
    EmbeddedStore(folder, SPACE, DIMENSION).close()


def test_an_acknowledged_mark_that_is_damaged_is_told_and_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    store.upsert(make_items(5))
    store.close()
    whole = (tmp_path / "acknowledged").read_bytes()
    (tmp_path / "acknowledged").write_bytes(b"x" + whole[1:])
    EmbeddedStore(tmp_path, SPACE, DIMENSION).close()
    assert "acknowledged is damaged" in caplog.text
    assert (tmp_path / "acknowledged").read_bytes() == whole


def test_a_second_process_is_refused_where_it_has_the_database_under_another_name(tmp_path: Path) -> None:
    folder, other = tmp_path / "store", tmp_path / "other"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        other.mkdir()
        (other / "database.sqlite").hardlink_to(folder / "database.sqlite")
        with pytest.raises(errors.StoreLockedError, match=r"database\.sqlite is in use by another one"):
            EmbeddedStore(other, SPACE, DIMENSION)
        assert sorted(path.name for path in other.iterdir()) == ["database.sqlite", "lock"]
        holder.kill()


def test_a_refused_start_leaves_the_log_of_a_killed_process_as_it_is(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    store = EmbeddedStore(tmp_path / "store", SPACE, DIMENSION)
    store.upsert(make_items(5))
    shutil.copytree(tmp_path / "store", killed)
    store.close()
    (killed / "reserve").unlink()
    before = {path.name: path.read_bytes() for path in killed.iterdir() if path.name.startswith("database")}
    assert before["database.sqlite-wal"]
    with pytest.raises(errors.FolderMismatchError):
        EmbeddedStore(killed, "space-z", DIMENSION)
    del before["database.sqlite-shm"]  # rebuilt from the log by every reader
    assert {name: (killed / name).read_bytes() for name in before} == before
    assert not (killed / "reserve").exists()


def test_images_of_items_that_an_older_database_lacks_are_set_aside_for_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "store"
    store = EmbeddedStore(folder, SPACE, DIMENSION)
    store.upsert([make_item("old", 1, image=True)])
    store.close()
    shutil.copy(folder / "database.sqlite", tmp_path / "older.sqlite")
    store = EmbeddedStore(folder, SPACE, DIMENSION)
    newer = make_item("new", 2, image=True)
    store.upsert([newer])
    store.close()
    shutil.copy(tmp_path / "older.sqlite", folder / "database.sqlite")
    with pytest.raises(errors.DatabaseLostError, match=r"delete .*acknowledged to go on without those changes"):
        EmbeddedStore(folder, SPACE, DIMENSION)
    (folder / "acknowledged").unlink()
    for _ in range(2):
        store = EmbeddedStore(folder, SPACE, DIMENSION)
        assert store.image("old") is not None
        shutil.copytree(folder, tmp_path / "killed")  # as a kill leaves it: not closed in order
        store.close()
        shutil.rmtree(folder)
        (tmp_path / "killed").rename(folder)
    assert "1 images that no item refers to were moved to images/quarantine/" in caplog.text
    (kept,) = (folder / "images" / "quarantine").iterdir()
    assert newer.image is not None
    assert kept.read_bytes() == newer.image.data


def test_after_numbers_were_skipped_and_spaces_changed_a_killed_store_opens_again(tmp_path: Path) -> None:
    folder, killed = tmp_path / "store", tmp_path / "killed"
    store = EmbeddedStore(folder, SPACE, DIMENSION)
    store.upsert(make_items(2))
    before = (folder / "database.sqlite-wal").read_bytes()
    store.upsert(make_items(2, 5))
    shutil.copytree(folder, killed)
    store.close()
    # Vectors of a change that did not commit: their numbers are skipped.
    (killed / "database.sqlite-wal").write_bytes(before)
    (killed / "database.sqlite-shm").unlink()
    (killed / "acknowledged").unlink()
    store = EmbeddedStore(killed, SPACE, DIMENSION)
    store.adopt("space-c", DIMENSION, [SPACE])
    shutil.copytree(killed, tmp_path / "again")
    store.close()
    store = EmbeddedStore(tmp_path / "again", SPACE, DIMENSION)
    assert store.count() == 2
    store.close()
