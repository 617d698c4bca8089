"""`sfsc add` against a running service."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfsc_service.cli.add import Add
from sfsc_service.client import Client
from sfsc_service.errors import ServiceError
from sfsc_service.store.embedded.opening import DATABASE
from tests.service.cli.conftest import Command, counts, items, report
from tests.service.command import ENVIRONMENT, SFSC
from tests.service.images import draw_image
from tests.service.live import Live


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
        "broken.png": "image: must be one of JPEG",
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


def test_ctrl_c_ends_a_run_and_says_how_it_goes_on(service: Live, tmp_path: Path) -> None:
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
    told = "sfsc: interrupted; what was sent stays, and the same command adds what is missing\n"
    assert (process.returncode, said) == (130, told)


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


def test_an_item_whose_stored_image_is_damaged_is_mended_when_everything_is_sent_again(
    service: Live, sfsc: Command, photos: Path
) -> None:
    assert counts(report(sfsc("add", photos, "--json"))) == (4, 0, 0, 0)
    with Client(service.url) as client:
        digest = client.get("cat/1.jpg")["image_sha256"]
        (stored,) = (service.service.settings.data / "images").glob(f"??/??/{digest}")
        stored.write_bytes(b"damaged")
        with pytest.raises(ServiceError, match="damaged"):
            client.image("cat/1.jpg")
        assert counts(report(sfsc("add", photos, "--json"))) == (0, 0, 4, 0)
        assert counts(report(sfsc("add", photos, "--json", "--again"))) == (0, 4, 0, 0)
        assert client.image("cat/1.jpg") == draw_image(0)
