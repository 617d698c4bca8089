"""Check, backup and compaction while the service goes on: real folders, real writes meanwhile."""

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.errors import Problem, StartError
from sfsc_service.http.audit import AUDIT
from sfsc_service.lifecycle import maintenance as maintenance_module
from sfsc_service.lifecycle.maintenance import Maintenance
from sfsc_service.lifecycle.service import open_service
from sfsc_service.settings import Settings
from sfsc_service.store.embedded.check import check_folder
from sfsc_service.store.embedded.index.vector_index import VectorIndex
from sfsc_service.store.embedded.merger import Merger
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.errors import StoreFailedError
from tests.service.command import run
from tests.service.images import draw_image
from tests.service.live import Live, running

WAIT_S = 60.0
ITEMS = 12
SPACE, DIMENSION = "space", 8


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"backup_folder": tmp_path / "backups"})


@pytest.fixture
def live(kept: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """Some items in two collections; a check does not wait until the costs are measured, which takes seconds."""
    monkeypatch.setattr(maintenance_module, "IDLE_S", 0.0)
    with running(kept) as made:
        assert made.http.put("/collections/bikes").status_code == 201
        for n in range(ITEMS):
            path = f"/items/{n}" if n % 4 else f"/collections/bikes/items/{n}"
            assert made.put_image(path, draw_image(n), width="0.25").status_code == 200
        yield made


def ended(live: Live, task: str) -> dict[str, Any]:
    """What came of it."""
    end = time.monotonic() + WAIT_S
    while (status := live.http.get("/maintenance").json())["task"] is not None:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert status["state"] == "resting"
    found: dict[str, Any] = status[task]
    return found


def begun(live: Live, task: str, **options: str) -> dict[str, Any]:
    answer = live.http.post(f"/maintenance/{task}", params=options)
    assert answer.status_code == 202, answer.text
    return ended(live, task)


def until_resting(maintenance: Maintenance) -> None:
    end = time.monotonic() + WAIT_S
    while maintenance.status().running is not None:
        assert time.monotonic() < end
        time.sleep(0.02)


class Writing:
    """`with Writing(live):` items are replaced and removed in a thread, their images with them."""

    def __init__(self, live: Live) -> None:
        self._live, self._stop = live, threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        number = 100
        while not self._stop.is_set():
            name = f"/items/{number % ITEMS}"
            assert self._live.put_image(name, draw_image(number), width="0.25").status_code == 200
            assert self._live.http.delete(name).status_code in (200, 204)
            number += 1


def test_what_is_written_meanwhile_is_no_damage(live: Live) -> None:
    assert live.http.get("/maintenance").json()["check"] is None
    with Writing(live):
        for _ in range(3):
            found = begun(live, "check")
            assert (found["failure"], found["whole"], found["findings"]) == (None, True, [])
    found = begun(live, "check")
    assert found["collections"]["bikes"]["items"] == ITEMS // 4
    assert found["collections"]["bikes"]["images"] == ITEMS // 4
    assert not list(live.service.settings.data.rglob(".check"))


def test_damage_is_named_until_it_is_settled(live: Live) -> None:
    folder = live.service.settings.data
    digest = live.http.get("/items/1").json()["image_sha256"]
    (folder / "images" / digest[:2] / digest[2:4] / digest).write_bytes(b"something else")
    gone = live.http.get("/items/2").json()["image_sha256"]
    (folder / "images" / gone[:2] / gone[2:4] / gone).unlink()
    found = begun(live, "check")
    assert not found["whole"]
    told = {finding["subject"]: (finding["kind"], finding["detail"]) for finding in found["findings"]}
    assert told == {
        "1": ("image", f"its image {digest} is not as it was written"),
        "2": ("image", f"its image {gone} is missing"),
    }
    assert any("found damage" in note for note in live.http.get("/livez").json()["notes"])
    done = run("check", live.url)
    assert done.returncode == 1
    assert "image: '1': its image" in done.stdout
    assert str(folder) not in done.stdout + json.dumps(found)
    assert live.http.delete("/items/1").status_code in (200, 204)
    assert live.put_image("/items/2", draw_image(77), width="0.25").status_code == 200
    assert begun(live, "check")["whole"]
    assert live.http.get("/livez").json()["notes"] == []


def test_one_is_under_way_at_a_time_waits_for_idle_moments_and_can_be_stopped(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_module, "IDLE_S", 0.001)
    with live.service.embedder.activity:
        assert live.http.post("/maintenance/check").status_code == 202
        end = time.monotonic() + WAIT_S
        while live.http.get("/maintenance").json()["state"] != "paused":
            assert time.monotonic() < end
            time.sleep(0.02)
        for task in ("check", "backup", "compact"):
            refused = live.http.post(f"/maintenance/{task}")
            assert (refused.status_code, refused.json()["code"]) == (409, "maintenance_running")
        assert live.http.delete("/maintenance").status_code == 202
        assert ended(live, "check")["failure"] == "it was stopped"
    assert live.http.get("/livez").json()["notes"] == []
    monkeypatch.setattr(maintenance_module, "IDLE_S", 0.0)
    assert begun(live, "check")["failure"] is None


def test_a_service_that_ends_does_not_wait_for_a_check(kept: Settings) -> None:
    with running(kept) as live:
        assert live.put_image("/items/1", draw_image(1), width="0.25").status_code == 200
        live.service.embedder.activity.__enter__()
        assert live.http.post("/maintenance/check").status_code == 202
        service = live.service
    assert service.maintenance.status().results["check"]["failure"] == "it was stopped"


def test_a_backup_is_whole_and_named_by_no_path(
    live: Live, kept: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    assert kept.backup_folder is not None
    caplog.set_level(logging.INFO, AUDIT)
    with Writing(live):
        found = begun(live, "backup", name="monday")
    assert (found["failure"], found["name"], found["collections"]) == (None, "monday", 2)
    report = check_folder(kept.backup_folder / "monday")
    assert (report.whole, report.findings) == (True, [])
    assert report.items == found["items"] - ITEMS // 4
    assert check_folder(kept.backup_folder / "monday" / "collections" / "bikes").items == ITEMS // 4
    again = live.http.post("/maintenance/backup", params={"name": "monday"})
    assert (again.status_code, again.json()["code"]) == (409, "backup_exists")
    for name in ("../monday", "/tmp/x", ".hidden", "a/b", "", "x" * 65, "\u00e9"):
        refused = live.http.post("/maintenance/backup", params={"name": name})
        assert (refused.status_code, refused.json()["parameter"]) == (422, "name"), name
    named = begun(live, "backup")["name"]
    assert sorted(path.name for path in kept.backup_folder.iterdir()) == sorted(["monday", named])
    lines = [record.getMessage() for record in caplog.records if record.name == AUDIT]
    assert any(line.endswith("backup the data folder: begun as 'monday'") for line in lines)
    assert any(line.endswith("backup the data folder: backup_exists") for line in lines)


def test_a_backup_that_fails_says_why_without_a_path(live: Live, kept: Settings) -> None:
    assert kept.backup_folder is not None
    kept.backup_folder.write_text("a file")
    found = begun(live, "backup")
    assert found["failure"]
    assert str(kept.backup_folder) not in found["failure"]
    assert "the folder for backups" in found["failure"]
    assert [f"the last backup failed: {found['failure']}"] == live.http.get("/livez").json()["notes"]


def test_without_a_folder_for_backups_there_are_none(live: Live, settings: Settings) -> None:
    service = live.service
    made = Maintenance(service.stores, service.embedder, settings)
    with pytest.raises(Problem) as refused:
        asyncio.run(made.backup())
    assert refused.value.code == "no_backup_folder"
    made.close()
    shared = Maintenance(service.stores, service.embedder, settings.model_copy(update={"store": "milvus://h:1"}))
    with pytest.raises(Problem) as refused:
        shared.check()
    assert refused.value.code == "gallery_shared"
    shared.close()


def test_paths_alone_are_taken_from_what_a_failure_says(
    live: Live, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = settings.model_copy(update={"data": Path("data"), "backup_folder": Path("backups")})
    made = Maintenance(live.service.stores, live.service.embedder, relative)
    cases: dict[str, Exception] = {
        "the data folder lacks metadata": StoreFailedError(f"{tmp_path / 'data'} lacks metadata"),
        "No space: the folder for backups/.x": OSError(28, "No space", str(tmp_path / "backups" / ".x")),
        "Permission denied": OSError(13, "Permission denied", str(tmp_path)),
    }
    for told, error in cases.items():

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        async def back_up() -> None:
            await made.backup()

        monkeypatch.setattr("sfsc_service.lifecycle.maintenance.copy_folder", fail)
        asyncio.run_coroutine_threadsafe(back_up(), live.loop).result()
        until_resting(made)
        assert made.status().results["backup"]["failure"] == told
    made.close()


def test_a_folder_for_backups_within_the_data_is_refused_at_the_start(settings: Settings) -> None:
    for inside in (settings.data, settings.data / "collections"):
        with pytest.raises(StartError, match="backup_folder: must lie outside of the data folder"):
            open_service(settings.model_copy(update={"backup_folder": inside}))


class Held:
    """Stands in for a function of `os` whose disk does not answer, until `answer` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, function: str, part: str) -> None:
        module, name = function.rsplit(".", 1)
        original = getattr(os.path if module == "os.path" else os, name)
        self.reached, self.answer = threading.Event(), threading.Event()

        def held(*paths: Any, **options: Any) -> Any:
            if any(part in str(path) for path in paths):
                self.reached.set()
                assert self.answer.wait(WAIT_S)
            return original(*paths, **options)

        monkeypatch.setattr(function, held)


def test_a_disk_of_backups_that_does_not_answer_holds_up_no_request(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Held(monkeypatch, "os.path.lexists", "monday")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(live.http.post, "/maintenance/backup", params={"name": "monday"})
        assert disk.reached.wait(WAIT_S)
        assert live.http.get("/livez").status_code == 200
        assert live.http.post("/maintenance/check").json()["code"] == "maintenance_running"
        disk.answer.set()
        assert asked.result().status_code == 202
    assert ended(live, "backup")["failure"] is None


def test_the_service_ends_although_a_backup_hangs(kept: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.lifecycle.maintenance.CLOSE_S", 0.05)
    disk = Held(monkeypatch, "os.link", ".partial")
    assert kept.backup_folder is not None
    with running(kept) as live:
        assert live.put_image("/items/1", draw_image(1), width="0.25").status_code == 200
        maintenance = live.service.maintenance
        assert live.http.post("/maintenance/backup").status_code == 202
        assert disk.reached.wait(WAIT_S)
        maintenance.begin_close()
        refused = live.http.post("/maintenance/check")
        assert (refused.status_code, refused.json()["code"]) == (503, "shutting_down")
    assert list(kept.backup_folder.iterdir())
    disk.answer.set()
    until_resting(maintenance)
    assert maintenance.status().results["backup"]["failure"] == "it was stopped"
    assert not list(kept.backup_folder.iterdir())


def test_the_service_ends_in_the_middle_of_a_compaction(kept: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, ending = threading.Event(), threading.Event()
    vectors_at, close = VectorIndex.vectors_at, Merger.close

    def slow(index: VectorIndex, positions: Any) -> Any:
        if threading.current_thread().name == "sfsc-store-merger":
            reached.set()
            assert ending.wait(WAIT_S)
        return vectors_at(index, positions)

    def end(merger: Merger) -> None:
        merger._closing = True
        ending.set()
        close(merger)

    monkeypatch.setattr(Merger, "close", end)
    with running(kept) as live:
        for n in range(4):
            assert live.put_image("/items/1", draw_image(n), width="0.25").status_code == 200
        maintenance = live.service.maintenance
        monkeypatch.setattr(VectorIndex, "vectors_at", slow)
        assert live.http.post("/maintenance/compact").status_code == 202
        assert reached.wait(WAIT_S)
    assert maintenance.status().results["compact"]["failure"] == "it was stopped"
    report = check_folder(kept.data)
    assert (report.whole, report.items) == (True, 1)


def test_what_a_killed_check_has_left_is_gone_after_the_next_start(kept: Settings) -> None:
    for folder in (kept.data, kept.data / "collections" / "bikes"):
        if folder != kept.data:
            EmbeddedStore(folder, "tiny-space", 16).close()
        (folder / ".check").mkdir(parents=True)
        (folder / ".check" / "database.sqlite").write_bytes(b"part of a copy")
    with running(kept):
        assert not list(kept.data.rglob(".check"))


def test_the_commands_take_the_address_of_a_service(live: Live, kept: Settings) -> None:
    done = run("check", live.url)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "everything is whole")
    assert json.loads(run("check", live.url, "--json").stdout)["whole"]
    done = run("backup", live.url, "friday")
    assert done.stdout == f"{ITEMS} items and {ITEMS} images of 2 collections are in friday\n"
    again = run("backup", live.url, "friday")
    assert (again.returncode, again.stderr) == (
        1,
        "sfsc: name: must be none of those that are there, found 'friday'\n",
    )
    done = run("compact", live.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("vectors have ")
    refused = run("check", live.url, "--repair")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--repair needs a data folder that no service has open" in refused.stderr
    assert "TARGET must be" in run("backup", kept.data).stderr
