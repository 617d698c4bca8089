"""The commands that call a running service, as processes, against a real one."""

import base64
import errno
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.cli.add import Add
from sfsc_service.client import Client
from sfsc_service.settings import Settings
from sfsc_service.store.embedded.opening import DATABASE
from tests.service.command import ENVIRONMENT, SFSC, one_sentence, run
from tests.service.images import draw_image
from tests.service.live import Live, running

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def shared(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = Settings(
        bundle=tiny.folder, data=tmp_path_factory.mktemp("remote"), port=0, threads=2, slo_ms=1000.0
    )
    with running(settings) as made:
        yield made


@pytest.fixture
def service(shared: Live) -> Iterator[Live]:
    """An empty gallery."""
    yield shared
    with Client(shared.url) as client:
        for item in list(client.items(limit=1000)):
            client.delete(item["id"])


@pytest.fixture
def sfsc(service: Live) -> Command:
    return lambda *words, **more: run(*words, SFSC_URL=service.url, **more)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two identities, an image in no folder, and what a folder may hold besides."""
    folder = tmp_path / "photos"
    for n, name in enumerate(["cat/1.jpg", "cat/2.jpg", "dog/old/3.png", "4.JPG"]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_image(n))
    (folder / "cat" / "._1.jpg").write_bytes(draw_image(9))
    (folder / "notes.txt").write_text("x")
    (folder / "broken.png").write_bytes(b"nothing")
    (folder / "link.jpg").symlink_to("nowhere")
    (folder / "elsewhere").symlink_to(folder / "cat")
    os.mkfifo(folder / "pipe.jpg")
    return folder


def items(service: Live) -> dict[str, dict[str, Any]]:
    with Client(service.url) as client:
        return {item["id"]: item["metadata"] for item in client.items()}


def report(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def counts(document: dict[str, Any]) -> tuple[int, ...]:
    return tuple(document[name] for name in ("added", "replaced", "unchanged", "removed"))


def test_a_folder_is_added_with_identities_and_what_is_left_out_is_named(
    service: Live, sfsc: Command, photos: Path
) -> None:
    done = sfsc("add", photos, "--width", "0.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "added 4, replaced 0, unchanged 0, removed 0, left out 6"
    for name, reason in {
        "cat/._1.jpg": "hidden",
        "notes.txt": "not an image by its suffix",
        "link.jpg": "a link that leads nowhere",
        "elsewhere": "a link to a folder, which is not followed",
        "pipe.jpg": "not a regular file",
        "broken.png": "image must be one of JPEG",
    }.items():
        assert any(line.startswith(f"left out {name}: ") and reason in line for line in done.stdout.splitlines())
    assert items(service) == {
        "4.JPG": {"added_from": "photos"},
        "cat/1.jpg": {"identity": "cat", "added_from": "photos"},
        "cat/2.jpg": {"identity": "cat", "added_from": "photos"},
        "dog/old/3.png": {"identity": "old", "added_from": "photos"},
    }


def test_a_second_run_sends_what_changed_and_removes_only_its_own(
    service: Live, sfsc: Command, photos: Path
) -> None:
    with Client(service.url) as client:
        client.put("somebody-elses", draw_image(50))
    assert counts(report(sfsc("add", photos, "--json"))) == (4, 0, 0, 0)
    assert counts(report(sfsc("add", photos, "--json"))) == (0, 0, 4, 0)
    (photos / "cat" / "1.jpg").write_bytes(draw_image(20))
    (photos / "cat" / "2.jpg").unlink()
    (photos / "cat" / "5.jpg").write_bytes(draw_image(21))
    assert counts(report(sfsc("add", photos, "--json"))) == (1, 1, 2, 0)
    assert "cat/2.jpg" in items(service), "nothing is removed unasked"
    assert counts(report(sfsc("add", photos, "--json", "--remove"))) == (0, 0, 4, 1)
    assert set(items(service)) == {"4.JPG", "cat/1.jpg", "cat/5.jpg", "dog/old/3.png", "somebody-elses"}
    with Client(service.url) as client:
        assert client.image("cat/1.jpg") == draw_image(20)
        assert client.get("cat/1.jpg")["image_sha256"] == hashlib.sha256(draw_image(20)).hexdigest()


def test_a_csv_brings_ids_and_metadata(service: Live, sfsc: Command, photos: Path) -> None:
    listing = photos.parent / "list.csv"
    listing.write_text(
        "path,id,identity,camera\n"
        "photos/cat/1.jpg,one,007,2\n"
        'photos/cat/2.jpg,,"a, b",\n'
        "photos/missing.jpg,,x,1\n"
        "photos/4.JPG,one,x,1\n"
        ",,x,1\n"
    )
    document = report(sfsc("add", listing, "--json"))
    assert counts(document) == (2, 0, 0, 0)
    assert {one["name"]: one["reason"] for one in document["left_out"]} == {
        "photos/missing.jpg": "no such file",
        "one": "line 5: the id was given before",
        "line 6": "line 6: no path",
    }
    assert items(service) == {
        "one": {"identity": "007", "camera": "2", "added_from": "list.csv"},
        "photos/cat/2.jpg": {"identity": "a, b", "added_from": "list.csv"},
    }
    listing.write_text(listing.read_text().replace("007,2", "007,3"))
    assert counts(report(sfsc("add", listing, "--json"))) == (0, 1, 1, 0), "other metadata, same image"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must name a column path"),
        ("file,id\na.jpg,1\n", "must name a column path"),
        ("path\n", "must hold images"),
        ("path\nmissing.jpg\n", "missing.jpg: no such file"),
        ("path,id\nphotos/4.JPG,1,2\n", "more values"),
        ("path,added_from\nphotos/4.JPG,x\n", "added_from"),
        ("path,colour,n,colour\nphotos/4.JPG,red,1,blue\n", "different names, found colour 2 times"),
        (",path\n0,photos/4.JPG\n", "must have a name, found none for column 1"),
        ("path\nphotos\n", "photos: a folder"),
        ("path\nphotos/folder.jpg\n", "folder.jpg: a folder"),
        (f"path\n{'x' * 300}.jpg\n", "x.jpg: no such file"),
    ],
)
def test_a_csv_that_is_none_is_said_in_one_sentence(sfsc: Command, photos: Path, text: str, said: str) -> None:
    listing = photos.parent / "list.csv"
    listing.write_text(text)
    (photos / "folder.jpg").mkdir()
    done = sfsc("add", listing)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (("manifest.json", "w1.0.onnx"), "a bundle (manifest.json)"),
        (("recipe.json", "labels.json"), "a run folder of sfsc-train (recipe.json)"),
        ((DATABASE, "lock"), "the data folder of a service (database.sqlite)"),
    ],
)
def test_a_folder_that_another_command_wrote_is_refused(
    service: Live, sfsc: Command, photos: Path, files: tuple[str, ...], what: str
) -> None:
    for name in files:
        (photos / name).write_text("")
    done = sfsc("add", photos)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"sfsc: images: must be a folder of images, and {photos} is {what}\n"
    assert items(service) == {}


def test_the_data_folder_of_a_service_is_refused(service: Live, sfsc: Command) -> None:
    data = service.service.settings.data
    done = sfsc("add", data)
    assert done.returncode == 1
    assert "is the data folder of a service" in done.stderr


def test_a_width_that_the_service_lacks_is_an_error_before_anything_is_sent(
    service: Live, sfsc: Command, photos: Path
) -> None:
    done = sfsc("add", photos, "--width", "0.3")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sfsc: width: must be one of 0.25, 0.5, 0.75, 1.0, found 0.3\n"
    assert items(service) == {}


def test_ctrl_c_ends_a_run_without_a_traceback(service: Live, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(700):
        (folder / f"{n:03}.jpg").write_bytes(draw_image(n, size=16))
    process = subprocess.Popen(
        [SFSC, "add", folder], env=ENVIRONMENT | {"SFSC_URL": service.url}, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not service.http.get("/items").json()["items"]:
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")


def test_a_file_larger_than_a_whole_request_may_be_stops_no_other(
    service: Live, sfsc: Command, photos: Path
) -> None:
    with Client(service.url) as client:
        largest = client.widths()["limits"]["max_image_bytes"]
    with (photos / "cat" / "1.jpg").open("ab") as file:
        file.truncate(service.service.settings.max_body_bytes)
    document = report(sfsc("add", photos, "--json"))
    assert counts(document) == (3, 0, 0, 0)
    left_out = {one["name"]: one["reason"] for one in document["left_out"]}
    assert left_out["cat/1.jpg"] == f"must have at most {largest} bytes"


def test_nothing_of_a_folder_that_cannot_be_read_is_removed(
    service: Live, sfsc: Command, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report(sfsc("add", photos, "--json"))
    (photos / "4.JPG").unlink()

    def scandir(folder: str, real: Callable[[str], Any] = os.scandir) -> Any:
        if Path(folder).name == "cat":
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    Add(_cli_parse_args=[str(photos), "--remove", "--json", "--url", service.url]).run()
    document = json.loads(capsys.readouterr().out)
    assert counts(document) == (0, 0, 1, 1)
    reason = "a folder that cannot be read: Permission denied"
    assert {"name": "cat", "reason": reason} in document["left_out"]
    assert set(items(service)) == {"cat/1.jpg", "cat/2.jpg", "dog/old/3.png"}


def test_killed_and_repeated_nothing_is_double_and_nothing_missing(
    service: Live, sfsc: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(700):
        (folder / f"{n:03}.jpg").write_bytes(draw_image(n, size=16))
    process = subprocess.Popen(
        [SFSC, "add", folder], env=ENVIRONMENT | {"SFSC_URL": service.url}, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while not service.http.get("/items").json()["items"]:
        assert time.monotonic() < end
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    document = report(sfsc("add", folder, "--json"))
    assert document["unchanged"] > 0
    assert document["added"] + document["replaced"] + document["unchanged"] == 700
    with Client(service.url) as client:
        assert [item["id"] for item in client.items(limit=1000)] == [f"{n:03}.jpg" for n in range(700)]


def test_a_service_that_fails_is_told_of_and_the_exit_says_so(
    service: Live, sfsc: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.service.health, "draining", True, raising=False)
    done = sfsc("add", photos, "--json")
    assert done.returncode == 1
    assert "shutting down" in done.stderr.splitlines()[-1]
    assert counts(json.loads(done.stdout)) == (0, 0, 0, 0)


def test_search_takes_an_image_or_an_id_and_shows_a_page(
    service: Live, sfsc: Command, photos: Path, tmp_path: Path
) -> None:
    report(sfsc("add", photos, "--json"))
    (photos / "cat" / "<b>.jpg").write_bytes(draw_image(30))
    report(sfsc("add", photos, "--json"))
    found = report(sfsc("search", photos / "cat" / "2.jpg", "-k", "2", "--width", "0.25", "--json"))
    assert (found["query"]["width"], len(found["hits"]), found["hits"][0]["id"]) == ("0.25", 2, "cat/2.jpg")
    by_id = report(sfsc("search", "cat/2.jpg", "--filter", '{"identity": "old"}', "--json"))
    assert [hit["id"] for hit in by_id["hits"]] == ["dog/old/3.png"]
    pairs = sfsc("duplicates", "--min-score", "-1", "--filter", '{"identity": "cat"}').stdout.splitlines()
    assert pairs[0].split("\t")[1:] == ["cat/1.jpg", "cat/2.jpg"]
    assert len(pairs) == len(
        report(sfsc("duplicates", "--min-score", "-1", "--filter", '{"identity": "cat"}', "--json"))
    )
    one_each = report(sfsc("search", "cat/2.jpg", "--group-by", "identity", "--json"))["hits"]
    assert sorted(hit["group"] for hit in one_each) == ["cat", "old"]
    table = sfsc("search", "cat/2.jpg", "-k", "20").stdout
    assert "cat/<b>.jpg" in table
    assert '"identity": "cat"' in table
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {seen}\n')
    browser.chmod(0o755)
    done = sfsc("search", "cat/<b>.jpg", "--open", "--url", f"{service.url}/", BROWSER=f"{browser} %s")
    assert done.returncode == 0, done.stderr
    address = seen.read_text()
    assert address.startswith("file://")
    page = Path(address.removeprefix("file://"))
    text = page.read_text()
    page.unlink()
    query = base64.b64encode(service.http.get("/items/cat%2F%3Cb%3E.jpg/image").content).decode()
    assert text.count(f'src="data:image/*;base64,{query}"') == 1, "the query, which is no hit of itself"
    assert "cat/&lt;b&gt;.jpg" in text
    assert "<b>" not in text


def test_names_that_are_no_paths_or_not_utf8(sfsc: Command, photos: Path) -> None:
    long = "x" * 256  # an id may be as long, a file's name may not
    assert "is neither a file nor the id of an item" in sfsc("search", long).stderr
    for command in ("get", "rm"):
        done = sfsc(command, "\udcff")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "id: must be UTF-8" in done.stderr
    odd = photos / "cat" / "\udcff.jpg"
    odd.write_bytes(draw_image(3))
    report(sfsc("add", photos, "--json"))
    done = sfsc("search", odd, "--open", BROWSER="true")
    assert done.returncode == 0, done.stderr
    Path(done.stderr.removeprefix("shown in ").strip()).unlink()


def test_ls_get_rm_count_and_widths(sfsc: Command, photos: Path, tmp_path: Path) -> None:
    report(sfsc("add", photos, "--json", "--width", "0.5"))
    assert "cat/1.jpg" in sfsc("ls").stdout
    cats = ["ls", "--filter", '{"identity": "cat"}', "--json"]
    assert [item["id"] for item in json.loads(sfsc(*cats).stdout)] == ["cat/1.jpg", "cat/2.jpg"]
    assert len(json.loads(sfsc("ls", "--limit", "3", "--json").stdout)) == 3
    assert report(sfsc("get", "cat/1.jpg", "--image", tmp_path / "out.jpg", "--json"))["width"] == "0.5"
    assert (tmp_path / "out.jpg").read_bytes() == draw_image(0)
    assert 'metadata     {"identity": "cat"' in sfsc("get", "cat/1.jpg").stdout
    assert sfsc("get", "cat/1.jpg", "--image", tmp_path / "no" / "out.jpg").returncode == 1
    assert sfsc("count").stdout.splitlines() == ["4", "  width 0.5: 4"]
    assert report(sfsc("rm", "cat/1.jpg", "--json")) == {"removed": "cat/1.jpg"}
    again = sfsc("rm", "cat/1.jpg")
    assert (again.returncode, again.stderr) == (1, "sfsc: id: no item 'cat/1.jpg' is in the gallery\n")
    assert report(sfsc("count", "--json")) == {"items": 3, "widths": {"0.5": 3}, "approximate": None}
    assert report(sfsc("widths", "--json"))["gallery"] == {"items": 3, "widths": {"0.5": 3}, "approximate": None}
    left = ["--filter", '{"identity": {"$ne": "cat"}}']
    assert sfsc("count", *left).stdout == "2\n"
    assert sfsc("rm", "--filter", '{"identity": "nobody"}').stdout == "removed 0 items\n"
    assert report(sfsc("rm", *left, "--json")) == {"removed": 2}
    assert report(sfsc("count", *left, "--json")) == {"items": 0}
    assert report(sfsc("patch", "cat/2.jpg", '{"colour": "black", "added_from": null}')) == {
        "identity": "cat",
        "colour": "black",
    }
    assert report(sfsc("patch", "cat/2.jpg", '{"colour": null}', "--json"))["id"] == "cat/2.jpg"
    assert sfsc("rm", "cat/2.jpg", "nobody", "cat/2.jpg").stdout == "removed 1 items\n"
    assert "ids, filter: exactly one of them must be given" in sfsc("rm").stderr
    widths = sfsc("widths").stdout
    assert "GFLOP" in widths
    assert "items healed to width 1.0: " in widths
    asked = sfsc("quality", "--measure", "--field", "identity").stdout
    assert "by the bundle: " in asked
    assert "a measurement is asked" in asked
    assert report(sfsc("quality", "--forget", "--json"))["state"] == "resting"
    assert "not aligned: space " in sfsc("align").stdout
    assert "not aligned: space " in sfsc("align", "--status").stdout
    assert report(sfsc("align", "--undo", "--json"))["state"] == "resting"
    assert "status, undo: only one of them may be given" in sfsc("align", "--status", "--undo").stderr
    assert "measure, forget: only one of them may be given" in sfsc("quality", "--measure", "--forget").stderr


def test_commands_work_in_the_collection_that_is_named(service: Live, sfsc: Command, photos: Path) -> None:
    made = sfsc("collections", "--create", "bikes", "--json")
    assert [(one["name"], one["items"]) for one in json.loads(made.stdout)] == [("bikes", 0), ("default", 0)]
    assert sfsc("add", photos, "--collection", "bikes").returncode == 0
    assert (items(service), sfsc("count").stdout) == ({}, "0\n")
    assert sfsc("count", SFSC_COLLECTION="bikes").stdout.startswith("4\n")
    listed = json.loads(sfsc("ls", "--collection", "bikes", "--json").stdout)
    assert [item["id"] for item in listed] == ["4.JPG", "cat/1.jpg", "cat/2.jpg", "dog/old/3.png"]
    found = sfsc("search", "cat/1.jpg", "--collection", "bikes", "-k", 1, "--json")
    assert json.loads(found.stdout)["hits"][0]["id"] in [item["id"] for item in listed[2:]] + ["4.JPG"]
    assert "bikes" in sfsc("collections").stdout
    assert "bikes" not in sfsc("collections", "--delete", "bikes").stdout
    missing = sfsc("ls", "--collection", "bikes")
    assert missing.returncode == 1
    assert "found 'bikes'" in one_sentence(missing)
