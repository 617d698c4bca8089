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
