"""A running service for the commands that call one, and photographs to add."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.client import Client
from sfsc_service.settings import Settings
from tests.service.command import run
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
