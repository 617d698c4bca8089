"""`sfsc demo` as a process: its gallery, and the bundle that it makes for images of one's own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from sfsc_bundle.extras import installing
from sfsc_bundle.folder import Bundle
from sfsc_service.cli.demo import Demo
from sfsc_service.cli.image_files import find_images
from tests.service.command import ENVIRONMENT, SFSC, one_sentence, run, serving
from tests.service.images import draw_image
from tests.service.live import JPEG


def test_the_demo_loads_a_folder_at_mixed_widths_and_only_once(tiny: Bundle, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "cats").mkdir(parents=True)
    for n in range(12):
        (own / "cats" / f"{n}.jpg").write_bytes(draw_image(n))
    (own / "broken.png").write_bytes(b"nothing")
    (own / "cats" / "2b.jpg").symlink_to("/proc/self/mem")  # reading it is an I/O error
    words = ["demo", "--bundle", tiny.folder, "--images", own, "--data", tmp_path / "data", "--port", 0]
    for _ in range(2):
        with serving(*words) as (process, url):
            told = httpx.get(f"{url}/widths", trust_env=False).json()
            assert told["gallery"]["items"] == 12
            assert len(told["gallery"]["widths"]) > 1
            hit = httpx.post(f"{url}/search", content=draw_image(3), headers=JPEG, trust_env=False).json()["hits"][
                0
            ]
            assert (hit["id"], hit["metadata"]) == ("cats/3.jpg", {"identity": "cats", "added_from": "own"})
            samples = httpx.get(f"{url}/samples", trust_env=False).json()["samples"]
            assert {sample["metadata"]["identity"] for sample in samples} == {"cats"}
            assert httpx.get(f"{url}/{samples[0]['image']}", trust_env=False).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_the_demo_says_what_it_found_and_where_the_gallery_is_kept(tiny: Bundle, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "1.jpg").write_bytes(draw_image(1))
    (tmp_path / "own" / "2.HEIC").write_bytes(b"nothing")
    words = [SFSC, "demo", "--bundle", tiny.folder, "--images", "own", "--port", "0"]
    process = subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        said = [next(process.stdout).strip() for _ in range(2)]
        process.terminate()
    (folder,) = (tmp_path / "data").iterdir()
    kept = f"the gallery is kept in data/{folder.name} for the next start; delete it to begin anew"
    assert said == ["own: 2 images, 1 of them HEIC", kept]


def test_what_must_be_installed_for_the_images_of_phones_is_said(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.HEIC", "3.heif"):
        (tmp_path / name).touch()
    found = find_images(tmp_path)
    assert found.counts({"JPEG", "HEIF"}) == "3 images, 2 of them HEIC"
    assert "2 of them HEIC, which are left out: they need pillow-heif" in found.counts({"JPEG"})


def test_what_changed_in_the_folder_is_replaced_at_the_next_start(tiny: Bundle, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "cats").mkdir(parents=True)
    for n in range(3):
        (own / "cats" / f"{n}.jpg").write_bytes(draw_image(n))
    (own / "notes.txt").write_text("")
    words = ["demo", "--bundle", tiny.folder, "--images", own, "--data", tmp_path / "data", "--port", 0]
    with serving(*words) as (_, url):
        pass
    (own / "cats" / "1.jpg").write_bytes(draw_image(7))
    (own / "cats" / "2.jpg").unlink()
    with serving(*words) as (process, url):
        image = httpx.get(f"{url}/items/cats%2F1.jpg/image", trust_env=False)
        assert image.content == draw_image(7)
        removed = run("add", own, "--remove", SFSC_URL=url)
        assert removed.stdout.splitlines()[0] == "added 0, replaced 0, unchanged 2, removed 1, left out 1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


ADOPTING = """#!/bin/sh
if [ "$1" = --version ]; then exit 0; fi
echo "$@" >> {said}
{then}
"""


def trainer(folder: Path, then: str) -> Path:
    """A folder with an `sfsc-train` of the test's own, which notes how it was called."""
    script = folder / "trainer" / "sfsc-train"
    script.parent.mkdir()
    script.write_text(ADOPTING.format(said=folder / "said", then=then))
    script.chmod(0o755)
    return script.parent


def without_training(folder: Path) -> Path:
    """`sfsc` in an environment whose `sfsc-train` lacks its packages."""
    python = folder / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    broken = python.with_name("sfsc-train")
    broken.write_text("#!/bin/sh\nexit 2\n")
    broken.chmod(0o755)
    script = python.with_name("sfsc")
    script.write_text(
        f"#!{python}\nimport sys\nsys.path[:0] = {sys.path!r}\nfrom sfsc_service.cli.main import main\nmain()\n"
    )
    script.chmod(0o755)
    return script


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "1.jpg").write_bytes(draw_image(1))
    return folder


def test_own_images_are_served_by_a_bundle_that_is_made_first(tiny: Bundle, own: Path, tmp_path: Path) -> None:
    path = trainer(tmp_path, f"cp -r {tiny.folder} models/general; echo progress")
    (tmp_path / "models").mkdir()
    words = ["demo", "--images", own, "--port", 0]
    sfsc = without_training(tmp_path)
    for _ in range(2):
        environment = {"PATH": f"{path}:/usr/bin:/bin"}
        with serving(*words, command=sfsc, folder=tmp_path, environment=environment) as (_, url):
            told = httpx.get(f"{url}/widths", trust_env=False).json()
            assert (told["model"], told["gallery"]["items"]) == (tiny.manifest.name, 1)
    made = (tmp_path / "said").read_text().splitlines()
    assert made == ["adopt --to models/general --weights efficientnet-lite0"], "it is made once"


def test_a_demo_that_is_stopped_while_the_bundle_is_made_leaves_nothing_running(own: Path, tmp_path: Path) -> None:
    path = trainer(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    words = [without_training(tmp_path), "demo", "--images", own, "--port", "0"]
    process = subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT | {"PATH": f"{path}:/usr/bin:/bin"})
    end = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_without_a_bundle_for_photographs_the_command_that_makes_it_is_said(own: Path, tmp_path: Path) -> None:
    words = ["demo", "--images", own, "--port", 0]
    sfsc = without_training(tmp_path)
    done = run(*words, command=sfsc, folder=tmp_path, PATH="/usr/bin:/bin")
    assert done.returncode == 1
    assert f"{installing('training,weights')}, then here sfsc-train adopt --to models/general" in one_sentence(
        done
    )
    path = trainer(tmp_path, "echo many words >&2; echo sfsc-train: the disk is full >&2; exit 2")
    done = run(*words, command=sfsc, folder=tmp_path, PATH=f"{path}:/usr/bin:/bin")
    assert done.returncode == 1
    assert one_sentence(done) == "sfsc: models/general could not be made: sfsc-train: the disk is full"
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "models").exists()


def test_a_bundle_without_a_gallery_is_served_with_an_empty_one(tiny: Bundle, tmp_path: Path) -> None:
    with serving("demo", "--bundle", tiny.folder, "--port", 0, folder=tmp_path) as (_, url):
        assert httpx.get(f"{url}/widths", trust_env=False).json()["gallery"]["items"] == 0


def test_each_bundle_and_folder_of_images_has_a_gallery_of_its_own(tmp_path: Path) -> None:
    settings = [Demo(), Demo(bundle=tmp_path / "a"), Demo(bundle=tmp_path / "b"), Demo(images=tmp_path / "a")]
    settings.append(Demo(bundle=tmp_path / "a", images=tmp_path / "b"))
    assert len({demo.data_folder for demo in settings}) == len(settings)
    assert Demo().data_folder == Path("data/demo")
    assert Demo(bundle=tmp_path / "a", data=tmp_path).data_folder == tmp_path
