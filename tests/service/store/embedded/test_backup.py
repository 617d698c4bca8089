"""A backup is the gallery of one moment, whatever writes beside it and whenever it is killed."""

import multiprocessing
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfsc_service.store import errors
from sfsc_service.store.embedded import backup
from sfsc_service.store.embedded.backup import copy_folder
from sfsc_service.store.embedded.check import check_folder, check_open_folder
from sfsc_service.store.embedded.compaction import compact_folder
from sfsc_service.store.embedded.partial_copy import partial_copy
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.stores import EmbeddedStores
from sfsc_service.store.open_stores import OpenStores
from tests.service.store.agreement import assert_agrees, walk
from tests.service.store.embedded.crash_child import carry_out, draw_operation, open_store
from tests.service.store.making import DIMENSION, SPACE, make_item, make_items
from tests.service.store.oracle import Oracle

BACKUPS_BESIDE_WRITERS = 3
KILLS = 4
LOOKS_BETWEEN = 7


def filled(folder: Path) -> Oracle:
    """A closed store of 40 items, some replaced and some deleted, and what is in it."""
    oracle, store = Oracle(), EmbeddedStore(folder, SPACE, DIMENSION)
    for items in ([make_item(f"i{n}", n, image=n % 2 == 0) for n in range(50)], make_items(10, 7, "i")):
        store.upsert(items)
        oracle.upsert(items)
    gone = [f"i{n}" for n in range(10, 20)]
    store.delete(gone)
    oracle.delete(gone)
    store.close()
    return oracle


def test_what_was_backed_up_is_restored_as_it_was_and_later_changes_do_not_reach_it(tmp_path: Path) -> None:
    oracle = filled(tmp_path / "store")
    copied = copy_folder(tmp_path / "store", tmp_path / "backup")
    assert copied.items == len(oracle.kept)
    store = EmbeddedStore(tmp_path / "store", SPACE, DIMENSION)
    store.upsert(make_items(20))
    store.delete(list(oracle.kept))
    store.close()
    assert check_folder(tmp_path / "backup").findings == []
    copy_folder(tmp_path / "backup", tmp_path / "restored")
    store = EmbeddedStore(tmp_path / "restored", SPACE, DIMENSION)
    assert_agrees(store, oracle)
    store.upsert([make_item("later")])
    store.close()
    shutil.rmtree(tmp_path / "restored")
    assert check_folder(tmp_path / "backup").findings == []


def test_backups_beside_writers_have_whole_calls_and_all_that_their_items_need(tmp_path: Path) -> None:
    store, stop = open_store(tmp_path / "store"), threading.Event()
    written: list[int] = []

    def write() -> None:
        rng = np.random.default_rng(3)
        while not stop.is_set():
            carry_out(store, draw_operation(rng, 0))
            number = len(written)
            pair = [make_item(name, number, image=True) for name in ("left", "right")]
            store.upsert(pair)
            written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(BACKUPS_BESIDE_WRITERS):
            begun = len(written)
            while len(written) < begun + 3:
                time.sleep(0.005)
            acknowledged = len(written) - 1
            copy_folder(tmp_path / "store", tmp_path / f"backup-{number}")
            assert check_folder(tmp_path / f"backup-{number}").findings == []
            copy = open_store(tmp_path / f"backup-{number}")
            left, right = (item and item.metadata["seed"] for item in copy.get(["left", "right"]))
            assert left == right >= acknowledged
            assert copy.faults == []
            copy.close()
    finally:
        stop.set()
        writer.join()
        store.close()


def test_backups_beside_collections_that_come_and_go_are_whole(tmp_path: Path) -> None:
    stores, stop = (
        OpenStores(EmbeddedStores(tmp_path / "data", EmbeddedStore), SPACE, DIMENSION, ()),
        threading.Event(),
    )
    stores.default.upsert(make_items(5))

    def come_and_go() -> None:
        while not stop.is_set():
            stores.create("cars", 9)
            stores.by_name["cars"].upsert(make_items(3))
            stores.remove("cars")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for number in range(30):
            copied = copy_folder(tmp_path / "data", tmp_path / f"copy{number}")
            assert copied.items in (5, 8)
    finally:
        stop.set()
        thread.join()
        stores.close()


def test_a_backup_that_is_killed_leaves_no_backup_and_the_next_one_is_whole(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([copy_folder.__module__])
    began = time.monotonic()
    child = context.Process(target=copy_folder, args=(tmp_path / "store", tmp_path / "first"))
    child.start()
    child.join()
    took = time.monotonic() - began
    for number in range(KILLS):
        child = context.Process(target=copy_folder, args=(tmp_path / "store", tmp_path / "backup"))
        child.start()
        time.sleep(took * number / KILLS)
        child.kill()
        child.join()
        if (tmp_path / "backup").exists():
            assert check_folder(tmp_path / "backup").findings == []
            shutil.rmtree(tmp_path / "backup")
    copy_folder(tmp_path / "store", tmp_path / "backup")
    assert check_folder(tmp_path / "backup").findings == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "first", "store"]


def test_two_copies_at_once_to_one_place_are_one_whole_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "store")
    both = threading.Barrier(2)

    finish = backup._finish

    def wait_for_the_other(*arguments: Any) -> None:
        both.wait(60)  # both have begun, and their files lie side by side
        finish(*arguments)

    monkeypatch.setattr(backup, "_finish", wait_for_the_other)
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(copy_folder, tmp_path / "store", tmp_path / "backup") for _ in range(2)]
        failed = [error for one in made if (error := one.exception())]
    assert [type(error) for error in failed] == [errors.OpenRefusedError]
    assert check_folder(tmp_path / "backup").findings == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "store"]


def test_a_copy_deletes_what_dead_ones_have_left_and_nothing_else(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    for name, inside in ((".old.partial", "segments"), (".monday.0a1b2c3d.partial", "images"), (".x.partial", "")):
        (tmp_path / name / inside).mkdir(parents=True)
    (tmp_path / ".mine.partial").mkdir()
    (tmp_path / ".mine.partial" / "film").touch()
    (tmp_path / ".file.partial").touch()
    (tmp_path / ".link.partial").symlink_to(tmp_path / "store")
    with partial_copy(tmp_path / "another") as another:
        copy_folder(tmp_path / "store", tmp_path / "backup")
        assert another.is_dir()
    kept = [".file.partial", ".link.partial", ".mine.partial", "backup", "store"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    assert (tmp_path / "store" / "segments").is_dir()


def test_a_disk_without_locks_keeps_leftovers_and_makes_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "store")
    (tmp_path / ".old.partial").mkdir()

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    copy_folder(tmp_path / "store", tmp_path / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".old.partial", "backup", "store"]


def test_work_that_is_ended_anywhere_leaves_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "store")

    def files() -> list[Path]:
        return sorted(path for path in tmp_path.rglob("*") if not path.name.startswith("database.sqlite-"))

    before = files()

    class EndedError(Exception):
        pass

    def end_after(looks: int) -> Callable[[], None]:
        left = iter(range(looks))

        def look() -> None:
            if next(left, None) is None:
                raise EndedError

        return look

    def copy(look: Callable[[], None]) -> None:
        copy_folder(tmp_path / "store", tmp_path / "backup", lambda _done, _total: look(), look=look)
        shutil.rmtree(tmp_path / "backup")

    def check(look: Callable[[], None]) -> None:
        assert check_open_folder(tmp_path / "store", lambda _done, _total: look(), look).whole

    for work in (copy, check):
        looks = 0
        while True:
            try:
                work(end_after(looks))
                break
            except EndedError:
                looks += LOOKS_BETWEEN
            assert files() == before
        assert looks > 10


def test_what_is_no_gallery_or_damaged_is_not_copied_and_nothing_is_overwritten(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with pytest.raises(errors.DatabaseLostError, match="must hold a gallery"):
        copy_folder(tmp_path / "nowhere", tmp_path / "backup")
    with pytest.raises(errors.OpenRefusedError, match="must be a new or an empty folder"):
        copy_folder(tmp_path / "store", tmp_path / "store")
    with pytest.raises(errors.OpenRefusedError, match="must lie outside of"):
        copy_folder(tmp_path / "store", tmp_path / "store" / "collections" / "backup")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(errors.OpenRefusedError, match="is a link to nothing"):
        copy_folder(tmp_path / "store", tmp_path / "link")
    (tmp_path / "link").unlink()
    next((tmp_path / "store" / "images").glob("??/??/*")).unlink()
    with pytest.raises(errors.StoreFailedError, match="lacks 1 images and 0 vectors that its items need"):
        copy_folder(tmp_path / "store", tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_images_on_another_file_system_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = filled(tmp_path / "store")

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    copy_folder(tmp_path / "store", tmp_path / "backup")
    store = EmbeddedStore(tmp_path / "backup", SPACE, DIMENSION)
    assert_agrees(store, oracle)
    store.close()


def test_a_compacted_folder_has_one_segment_without_dead_rows_and_the_same_items(tmp_path: Path) -> None:
    oracle = filled(tmp_path / "store")
    found = compact_folder(tmp_path / "store")
    assert found.after < found.before
    (segment,) = (tmp_path / "store" / "segments").glob("[0-9]*")
    assert segment.suffix == ".segment"
    size = segment.stat().st_size
    assert size < 2 * len(oracle.kept) * 4 * DIMENSION
    assert compact_folder(tmp_path / "store").after == found.after
    assert segment.exists()
    assert check_folder(tmp_path / "store").findings == []
    store = EmbeddedStore(tmp_path / "store", SPACE, DIMENSION)
    assert_agrees(store, oracle)
    assert len(walk(store)) == len(oracle.kept)
    store.close()
