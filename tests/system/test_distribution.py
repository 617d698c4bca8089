"""What is published: a source archive, the wheel built from it, and `sfsc demo` of that wheel in an empty folder.

The wheel is installed into an environment of its own, which finds the dependencies in this one.
"""

import json
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import httpx
import pytest

from sfsc_service.gallery.listing import read_listing
from tests.service.command import ENVIRONMENT, serving

ROOT = Path(__file__).parents[2]

DEMO = ROOT / "models" / "demo"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; nothing in it or in its folder leads to this checkout."""
    folder = tmp_path_factory.mktemp("distribution")
    build(ROOT, "sdist", folder)
    (archive,) = folder.glob("sfsc-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    build(source, "wheel", folder)
    (wheel,) = folder.glob("sfsc-*.whl")
    made = folder / "environment"
    venv.create(made)
    python = made / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, cwd=folder)
    (packages,) = made.glob("lib/python3.*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return made


def build(source: Path, target: str, folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder], cwd=source, check=True
    )


def test_the_demo_runs_in_an_empty_folder(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(ENVIRONMENT, "PYTHONPATH", raising=False)
    listing = read_listing(DEMO / "gallery" / "gallery.json")
    sfsc = environment / "bin" / "sfsc"
    with (
        serving("demo", "--port", 0, command=sfsc, folder=tmp_path) as (_, url),
        httpx.Client(base_url=url, trust_env=False) as http,
    ):
        assert http.get("/widths").json()["gallery"]["items"] == len(listing.items)
        assert len(http.get("/samples").json()["samples"]) == len(listing.queries)
        query = listing.queries[0]
        headers = {"content-type": "image/jpeg"}
        found = http.post("/search", content=query.path.read_bytes(), headers=headers).json()["hits"]
        assert found[0]["metadata"] in [item.metadata for item in listing.items]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_wheel_holds_every_recipe_and_what_is_imported(environment: Path, tmp_path: Path) -> None:
    code = """
import json, pathlib, sfsc_bundle, sfsc_service, sfsc_vehicles
from sfsc_training.config import packaged_recipes
packages = [sfsc_bundle, sfsc_service, sfsc_vehicles]
print(json.dumps([sorted(packaged_recipes()), [str(pathlib.Path(package.__file__)) for package in packages]]))
"""
    python = environment / "bin" / "python"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    recipes, places = json.loads(done.stdout)
    assert recipes == sorted(path.stem for path in (ROOT / "training" / "recipes").glob("*.toml"))
    assert all(place.startswith(str(environment)) for place in places)
