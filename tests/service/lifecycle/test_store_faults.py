"""A store that fails makes the service unready within a second, with one line of the log that says why."""

import contextlib
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.lifecycle.service import open_service
from sfsc_service.settings import Settings
from sfsc_service.store.embedded import probe as probe_module
from sfsc_service.store.embedded.opening import DATABASE, IMAGES
from sfsc_service.store.embedded.reserve import DiskReserve
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.errors import FolderMismatchError
from tests.service.faulty import until
from tests.service.images import draw_image
from tests.service.live import Live, running

RED_S = 1.0


def store_of(live: Live) -> EmbeddedStore:
    store = live.service.gallery._store
    assert isinstance(store, EmbeddedStore)
    return store


@contextmanager
def folder_gone(live: Live, _patch: pytest.MonkeyPatch) -> Iterator[None]:
    data = live.service.settings.data
    data.rename(data.with_name("elsewhere"))
    yield
    assert not data.exists(), "what is made again there would hide that the data is elsewhere"
    data.with_name("elsewhere").rename(data)


@contextmanager
def database_replaced(live: Live, _patch: pytest.MonkeyPatch) -> Iterator[None]:
    database = live.service.settings.data / DATABASE
    copy = database.with_name("copy")
    shutil.copy(database, copy)
    database.rename(database.with_name("kept"))
    copy.rename(database)
    yield
    database.with_name("kept").rename(database)


class FullDisk(DiskReserve):
    free_bytes = 0  # type: ignore[assignment]


@contextmanager
def disk_full(live: Live, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """For this service alone: another one may run in the same process."""
    with patch.context() as full:
        full.setattr(store_of(live)._reserve, "__class__", FullDisk)
        yield


@contextmanager
def database_locked(live: Live, _patch: pytest.MonkeyPatch) -> Iterator[None]:
    other = sqlite3.connect(live.service.settings.data / DATABASE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()


@contextmanager
def checkpoints_failing(live: Live, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """A connection whose checkpoints fail as on a broken disk."""
    store = store_of(live)
    real = store._probe._connection

    class Broken:
        in_transaction = False

        def execute(self, sql: str) -> Any:
            if "checkpoint" in sql:
                raise sqlite3.OperationalError("disk I/O error")
            return real.execute(sql)

    with patch.context() as broken:
        broken.setattr(store._probe, "_connection", Broken())
        live.put_image("/items/more", draw_image(2), width="0.25")
        yield


@contextmanager
def unresponsive(live: Live, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file system that does not answer."""
    go = threading.Event()
    real = probe_module._identity

    def hang(path: Path) -> tuple[int, int]:
        if path.parent == live.service.settings.data:
            go.wait(30)
        return real(path)

    with patch.context() as hanging:
        hanging.setattr(probe_module, "_identity", hang)
        yield
    go.set()


Fault = Callable[[Live, pytest.MonkeyPatch], Any]


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        pytest.param(folder_gone, "folder_gone", id="folder gone"),
        pytest.param(database_replaced, "folder_gone", id="database replaced"),
        pytest.param(disk_full, "disk_full", id="disk full"),
        pytest.param(database_locked, "database_locked", id="database locked"),
        pytest.param(checkpoints_failing, "checkpoint_failed", id="checkpoints failing"),
        pytest.param(unresponsive, "unresponsive", id="unresponsive"),
    ],
)
def test_a_fault_of_the_store_makes_it_unready_until_it_is_gone(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
    cause: str,
) -> None:
    caplog.set_level(logging.INFO, "sfsc_service.lifecycle.health")
    with running(settings) as live:
        live.put_image("/items/one", draw_image(1), width="0.25")
        until(lambda: "elsewhere" not in caplog.text and live.http.get("/readyz").status_code == 200)
        time.sleep(RED_S)  # the watch has seen the service ready
        with fault(live, monkeypatch):
            until(lambda: live.http.get("/readyz").status_code == 503)
            assert live.metric("sfsc_store_fault", cause=cause) == 1.0
            assert live.metric("sfsc_ready") == 0.0
            assert live.http.get("/livez").status_code == 200
            (reason,) = live.http.get("/readyz").json()["reasons"]
            assert str(settings.data.parent) not in reason
        until(lambda: live.http.get("/readyz").status_code == 200)
        assert live.metric("sfsc_store_fault", cause=cause) == 0.0
        time.sleep(RED_S)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("health")]
    assert lines == [f"the service is not ready: {reason}", "the service is ready again"]


@pytest.mark.parametrize("fault", [folder_gone, database_replaced])
def test_what_would_be_lost_with_the_folder_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    with running(settings) as live:
        with fault(live, monkeypatch):
            until(lambda: live.http.get("/readyz").status_code == 503)
            vector = {"vector": [1.0] + [0.0] * 15, "width": "1.0", "space": "tiny-space"}
            refused = live.http.put("/items/x", json=vector)
            assert (refused.status_code, refused.json()["code"]) == (503, "store_failed")
            image = live.put_image("/items/y", draw_image(1), width="0.25")
            assert (image.status_code, image.json()["code"]) == (503, "store_failed")
            assert "the data folder is gone" in image.json()["detail"]
            with contextlib.suppress(OSError):
                live.service.embedder.networks.keep_costs()
        until(lambda: live.http.get("/readyz").status_code == 200)
        assert live.http.get("/items/x").status_code == 404


def test_a_full_disk_refuses_new_items_and_lets_items_be_deleted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = settings.data / "reserve"
    with running(settings) as live:
        live.put_image("/items/one", draw_image(1), width="0.25")
        assert reserve.exists()
        with disk_full(live, monkeypatch):
            refused = live.put_image("/items/two", draw_image(2), width="0.25")
            assert (refused.status_code, refused.json()["code"]) == (503, "store_failed")
            assert live.http.delete("/items/one").status_code == 204
            assert not reserve.exists()
        until(reserve.exists)
        assert live.put_image("/items/two", draw_image(2), width="0.25").status_code == 200


def test_no_answer_names_a_path_of_the_machine(settings: Settings) -> None:
    with running(settings) as live:
        live.put_image("/items/one", draw_image(1), width="0.25")
        (image,) = (settings.data / IMAGES).glob("??/??/*")
        image.write_bytes(b"other")
        damaged = live.http.get("/items/one/image")
        shutil.rmtree(settings.data / IMAGES)
        missing = live.http.get("/items/one/image")
        (settings.data / IMAGES).write_bytes(b"a file in the place of the folder")
        refused = live.put_image("/items/two", draw_image(2), width="0.25")
        until(lambda: live.http.get("/readyz").status_code == 503)
        answers = [damaged, missing, refused, live.http.get("/readyz"), live.http.get("/livez")]
        for answer in answers:
            assert str(settings.data) not in answer.text
            assert os.sep + "tmp" not in answer.text
        assert [answer.status_code for answer in answers] == [503, 503, 503, 503, 200]


def test_a_start_that_the_store_refuses_changes_nothing(settings: Settings) -> None:
    EmbeddedStore(settings.data, "another-space", 16).close()
    (settings.data / "costs.json").write_text("{}")
    before = {path: path.read_bytes() for path in settings.data.rglob("*") if path.is_file()}
    with pytest.raises(FolderMismatchError):
        open_service(settings)
    after = {path: path.read_bytes() for path in settings.data.rglob("*") if path.is_file()}
    passing = {"database.sqlite-shm", "database.sqlite-wal"}
    assert {path: data for path, data in after.items() if path.name not in passing} == before
