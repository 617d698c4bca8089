"""The folder: one owner, made for one space and dimension, everything released at the end."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.store.making import DIMENSION, OLD_SPACE, SPACE, make_item, unit_vectors

HOLDER = """
import sys
from sfsc_service.store.embedded.store import EmbeddedStore
store = EmbeddedStore(sys.argv[1], "space-a", 16)
print("open", flush=True)
sys.stdin.read()
"""


def open_files(folder: Path) -> list[str]:
    """Of a folder: what other tests left behind may be closed at any moment."""
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    files = (os.readlink(link) for link in links if os.path.lexists(link))
    return [file for file in files if file.startswith(str(folder))]


def test_a_second_process_is_refused_with_folder_and_owner_until_the_first_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(errors.StoreLockedError, match=f"{folder} is in use by process {holder.pid}"):
            EmbeddedStore(folder, SPACE, DIMENSION)
        holder.send_signal(signal.SIGKILL)
    EmbeddedStore(folder, SPACE, DIMENSION).close()


def test_a_second_store_in_the_same_process_is_refused_too(embedded: EmbeddedStore, tmp_path: Path) -> None:
    with pytest.raises(errors.StoreLockedError, match=f"process {os.getpid()}"):
        EmbeddedStore(tmp_path / "store", SPACE, DIMENSION)
    embedded.upsert([make_item("a")])


def test_a_folder_of_another_space_is_refused_unless_declared_compatible(tmp_path: Path) -> None:
    EmbeddedStore(tmp_path, OLD_SPACE, DIMENSION).close()
    with pytest.raises(errors.FolderMismatchError, match="of the space space-a only; found space-b"):
        EmbeddedStore(tmp_path, SPACE, DIMENSION)
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION, [OLD_SPACE])
    store.upsert([make_item("old", space=OLD_SPACE), make_item("new")])
    store.close()
    with pytest.raises(errors.FolderMismatchError, match="space-b only; found space-a"):
        EmbeddedStore(tmp_path, OLD_SPACE, DIMENSION)


def test_a_folder_of_another_dimension_or_schema_is_refused(tmp_path: Path) -> None:
    EmbeddedStore(tmp_path, SPACE, DIMENSION).close()
    with pytest.raises(errors.FolderMismatchError, match="must hold vectors of dimension 32; found 16"):
        EmbeddedStore(tmp_path, SPACE, 32)
    with sqlite3.connect(tmp_path / "database.sqlite") as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'schema_version'")
    connection.close()
    with pytest.raises(errors.FolderMismatchError, match="schema version 2; found version 99"):
        EmbeddedStore(tmp_path, SPACE, DIMENSION)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "database.sqlite").write_bytes(b"This is not a database." * 100)
    with pytest.raises(errors.StoreFailedError, match=r"database\.sqlite"):
        EmbeddedStore(tmp_path, SPACE, DIMENSION)


def test_a_place_where_no_folder_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.StoreFailedError, match="file"):
        EmbeddedStore(tmp_path / "file", SPACE, DIMENSION)


def test_a_device_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    if hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus():
        pytest.skip("this machine has a GPU that faiss can use")
    missing = "found none" if hasattr(faiss, "StandardGpuResources") else "faiss with GPU support"
    with pytest.raises(errors.DeviceUnavailableError, match=f"device: cuda needs a .*{missing}"):
        EmbeddedStore(tmp_path, SPACE, DIMENSION, device="cuda")
    EmbeddedStore(tmp_path, SPACE, DIMENSION).close()


def test_closing_releases_every_file_and_thread(tmp_path: Path) -> None:
    EmbeddedStore(tmp_path, SPACE, DIMENSION).close()
    for _ in range(3):
        before = set(threading.enumerate())
        store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
        store.upsert([make_item("a", image=True)])
        store.search(unit_vectors(0, 1), 1)
        assert open_files(tmp_path)
        assert set(threading.enumerate()) - before
        store.close()
        with pytest.raises(errors.FolderMismatchError):
            EmbeddedStore(tmp_path, "space-z", DIMENSION)
        assert not open_files(tmp_path)
        assert not set(threading.enumerate()) - before


def test_vectors_are_kept_bit_for_bit_across_opening(tmp_path: Path) -> None:
    vectors = unit_vectors(3, 50)
    vectors[0, 0] = -0.0
    vectors[1, 1] = np.float32(1e-42)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = [make_item(f"i{i}", i) for i in range(50)]
    for item, vector in zip(items, vectors, strict=True):
        item.vector[:] = vector
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    store.upsert(items)
    store.close()
    store = EmbeddedStore(tmp_path, SPACE, DIMENSION)
    kept = [found.vector.tobytes() for found in store.get([item.id for item in items]) if found]
    store.close()
    assert kept == [vector.tobytes() for vector in vectors]
