"""A running service embeds its images for a move to another bundle; the command then does the rest."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfsc_service.cli.reembed import Reembed
from sfsc_service.engine.offline_embedding import OfflineEmbedder
from sfsc_service.settings import Settings
from tests.service.command import run
from tests.service.images import draw_image
from tests.service.live import Live, running
from tests.tiny_bundle import make_tiny_bundle

ITEMS, DIMENSION, WIDER = 8, 8, 12
WAIT_S = 60.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a service whose bundle has another one beside it, of another space and dimension."""
    bundles = tmp_path / "bundles"
    make_tiny_bundle(bundles / "old", dimension=DIMENSION, space="old-space")
    make_tiny_bundle(bundles / "new", ("0.5", "1.0"), WIDER, seed=7, space="new-space")
    return Settings(bundle=bundles / "old", data=tmp_path / "data", port=0, threads=1, max_batch=1)


def fill(live: Live) -> None:
    assert live.http.put("/collections/bikes").status_code == 201
    for number in range(ITEMS):
        path = f"/items/{number}" if number % 4 else f"/collections/bikes/items/{number}"
        assert live.put_image(path, draw_image(number), width="0.25").status_code == 200
    vector = np.eye(1, DIMENSION)[0].tolist()
    item = {"vector": vector, "width": "0.25", "space": "old-space"}
    assert live.http.put("/items/vector", json=item).status_code == 200


def ended(live: Live) -> dict[str, Any]:
    end = time.monotonic() + WAIT_S
    while (status := live.http.get("/maintenance").json())["task"] is not None:
        assert time.monotonic() < end
        time.sleep(0.02)
    found: dict[str, Any] = status["reembed"]
    return found


def begun(live: Live, bundle: str = "new", **options: str) -> dict[str, Any]:
    answer = live.http.post("/maintenance/reembed", params={"bundle": bundle, **options})
    assert answer.status_code == 202, answer.text
    return ended(live)


def test_a_running_service_embeds_and_the_command_moves_what_it_has_made(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings) as live:
        fill(live)
        found = begun(live)
        assert (found["failure"], found["bundle"]) == (None, "new")
        assert (found["space"], found["width"]) == ("new-space", "1.0")
        assert (found["embedded"], found["images"], found["without_image"]) == (ITEMS, ITEMS, 1)
        assert (found["not_embedded"], found["further_not_embedded"]) == ([], 0)
        assert live.put_image("/items/1", draw_image(61), width="0.25").status_code == 200
        assert live.http.delete("/items/2").status_code == 204
        done = run("reembed", live.url, "--bundle", "new", "--json")
        assert json.loads(done.stdout)["embedded"] == ITEMS - 1
        assert live.put_image("/items/3", draw_image(63), width="0.25").status_code == 200
        assert live.post_image("/search", draw_image(63), width="0.25", k=1).json()["hits"][0]["id"] == "3"
    calls, embed = list[int](), OfflineEmbedder.embed

    def counted(self: OfflineEmbedder, images: list[bytes]) -> Any:
        calls.append(len(images))
        return embed(self, images)

    monkeypatch.setattr(OfflineEmbedder, "embed", counted)
    new = settings.bundle.with_name("new")
    Reembed(data=str(settings.data), bundle=new, drop=True, threads=1, json=True).run()
    document = json.loads(capsys.readouterr().out)
    assert (sum(calls), document["items"], document["dropped"]) == (1, ITEMS - 1, 1)
    with running(settings.model_copy(update={"bundle": new})) as live:
        for number, image in ((1, 61), (3, 63), (5, 5)):
            hit = live.post_image("/search", draw_image(image), width="1.0", k=1).json()["hits"][0]
            assert (hit["id"], round(hit["score"], 4)) == (str(number), 1.0)
        assert live.http.get("/collections/bikes/items/4").status_code == 200


def test_it_waits_for_idle_moments_is_stopped_and_goes_on(settings: Settings) -> None:
    with running(settings) as live:
        fill(live)
        with live.service.embedder.activity:
            assert live.http.post("/maintenance/reembed", params={"bundle": "new"}).status_code == 202
            end = time.monotonic() + WAIT_S
            while (status := live.http.get("/maintenance").json())["state"] != "paused":
                assert time.monotonic() < end
                time.sleep(0.02)
            assert (status["task"], status["total"]) == ("reembed", ITEMS)
            assert live.http.delete("/maintenance").status_code == 202
            assert ended(live)["failure"] == "it was stopped"
        assert begun(live, to="moved")["embedded"] == ITEMS
        assert (settings.data / ".moved.partial").is_dir()
        failure = begun(live, width="0.5")["failure"]
        assert "begun for width 1.0 of a bundle of the space new-space" in failure
        assert str(settings.data.parent) not in failure
        assert begun(live, width="0.75")["failure"] == "width: must be one of 0.5, 1.0, found 0.75"
        assert "can serve this gallery" in begun(live, bundle="old")["failure"]
        assert "no folder that the gallery has itself" in begun(live, to="collections")["failure"]


def test_a_bundle_is_named_by_no_path(settings: Settings) -> None:
    with running(settings) as live:
        for name in ("../bundles/new", "/new", ".new", "", "other", "x" * 65):
            refused = live.http.post("/maintenance/reembed", params={"bundle": name})
            assert (refused.status_code, refused.json()["parameter"]) == (422, "bundle"), name
        for name in ("../moved", "/moved", "..", "a/b"):
            refused = live.http.post("/maintenance/reembed", params={"bundle": "new", "to": name})
            assert (refused.status_code, refused.json()["parameter"]) == (422, "to"), name
        wrong = run("reembed", live.url, "--bundle", "new", "--drop")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
        assert "need a data folder that no service has open" in wrong.stderr
