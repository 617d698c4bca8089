"""What the images are made of: the lock fits pyproject.toml, and base images are pinned as their registry says."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = {
    "service-cpu": ("service", "cpu"),
    "service-milvus": ("service", "cpu", "milvus", "s3"),
    "service-gpu": ("service", "gpu"),
    "training": ("training",),
    "build": (),
}
LINE = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+)(?: ; [^\\]+)? \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", re.MULTILINE
)
DIGEST = "sha256:" + "7" * 64
REFERENCES = ("docker/service.Dockerfile", "docker/training.Dockerfile", "docker-compose.yml")
DOCKER = f"""#!/bin/sh
case "$2" in
python:*) echo "Digest: {DIGEST}" ;;
*) echo "Error response from daemon: no such host" >&2; exit 1 ;;
esac
"""


def locked(name: str) -> dict[str, list[str]]:
    """Package → versions of a lock, of which Python's chooses one; every entry has its hashes."""
    text = (ROOT / "docker" / "lock" / f"{name}.txt").read_text()
    found: dict[str, list[str]] = {}
    for entry in LINE.finditer(text):
        found.setdefault(canonicalize_name(entry[1]), []).append(entry[2])
    entries = [line for line in text.splitlines() if line and not line.lstrip().startswith(("#", "--hash"))]
    assert sum(map(len, found.values())) == len(entries), "an entry without hashes"
    return found


def wanted(name: str) -> list[Requirement]:
    """What pyproject.toml asks of an image."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if name == "build":
        lines = [*document["build-system"]["requires"], *document["dependency-groups"]["image-build"]]
    else:
        extras = document["project"]["optional-dependencies"]
        lines = [*document["project"]["dependencies"], *(line for extra in LOCKS[name] for line in extras[extra])]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_a_fitting_version_of_everything_that_is_asked_for(name: str) -> None:
    versions = locked(name)
    unfit = [
        str(requirement)
        for requirement in wanted(name)
        for version in versions.get(canonicalize_name(requirement.name), ["0"])
        if not requirement.specifier.contains(version)
    ]
    assert unfit == [], "run `make lock`"


def test_no_lock_names_a_registry() -> None:
    for name in LOCKS:
        assert "://" not in (ROOT / "docker" / "lock" / f"{name}.txt").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that name images, and the program that pins them."""
    for name in (*REFERENCES, "docker/pin.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def pin(checkout: Path, docker: str | None) -> "subprocess.CompletedProcess[str]":
    folder = checkout / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "docker").unlink(missing_ok=True)
    if docker is not None:
        (folder / "docker").write_text(docker)
        (folder / "docker").chmod(0o755)
    words = [sys.executable, checkout / "docker" / "pin.py"]
    return subprocess.run(
        words, env=os.environ | {"PATH": str(folder)}, capture_output=True, text=True, check=False
    )


def test_an_image_is_pinned_where_its_registry_answers_and_left_where_not(checkout: Path) -> None:
    before = {name: (checkout / name).read_text() for name in REFERENCES}
    for _ in range(2):  # a second time changes nothing
        done = pin(checkout, DOCKER)
        assert done.returncode == 1
        assert done.stdout == f"python:3.11-slim-bookworm: pinned to {DIGEST}\n"
        assert [line.split(": left")[0] for line in done.stderr.splitlines()] == [
            "grafana/grafana:latest",
            "milvusdb/milvus:v2.3.5",
            "minio/minio:RELEASE.2023-03-20T20-16-18Z",
            "nginx:1.29",
            "prom/prometheus:latest",
            "quay.io/coreos/etcd:v3.5.5",
        ]
        for name in REFERENCES:
            pinned = before[name].replace("python:3.11-slim-bookworm\n", f"python:3.11-slim-bookworm@{DIGEST}\n")
            assert (checkout / name).read_text() == pinned
    assert f"ARG BASE=python:3.11-slim-bookworm@{DIGEST}\n" in (checkout / REFERENCES[0]).read_text()


def test_nothing_is_invented_where_there_is_no_engine(checkout: Path) -> None:
    done = pin(checkout, None)
    assert done.returncode == 1
    assert done.stderr.count("left as it is, because there is no command docker") == 7
    for name in REFERENCES:
        assert (checkout / name).read_text() == (ROOT / name).read_text()
