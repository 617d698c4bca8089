"""Items whose width the service chose get the full width while it is idle, and nothing else changes."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from sfsc_service.client import Client
from sfsc_service.engine.embedder import Embedder
from sfsc_service.errors import StartError
from sfsc_service.lifecycle.service import open_service
from sfsc_service.settings import Settings
from sfsc_service.store.errors import StoreFailedError
from sfsc_service.store.protocol import EncodedImage, Item, StoredItem
from tests.service.command import serving, until_ready
from tests.service.images import draw_image
from tests.service.live import Live, running

NARROW = {"gflops": "0.01"}
"""A budget that only the narrowest width meets."""
WAIT_S = 60.0


@pytest.fixture
def healing(settings: Settings) -> Settings:
    """Nothing is left to be measured once every width has had a batch of one."""
    return settings.model_copy(update={"max_batch": 1, "heal": "full"})


@pytest.fixture
def live(healing: Settings) -> Iterator[Live]:
    with running(healing) as made:
        yield made


def progress(live: Live) -> dict[str, Any]:
    found: dict[str, Any] = live.http.get("/widths").json()["heal"]
    return found


def wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def stored(live: Live, name: str) -> StoredItem:
    (item,) = live.service.gallery._store.get([name])
    assert item is not None
    return item


def put_at_full_width(live: Live, name: str, seed: int) -> StoredItem:
    assert live.put_image(f"/items/{name}", draw_image(seed), width="1.0").status_code == 200
    return stored(live, name)


def test_items_whose_width_the_service_chose_are_embedded_again_and_others_stay(live: Live) -> None:
    full = put_at_full_width(live, "full", 1)
    assert live.put_image("/items/chosen", draw_image(1), metadata='{"n": 1}', **NARROW).json()["width"] == "0.25"
    before = stored(live, "chosen")
    assert live.put_image("/items/asked", draw_image(2), width="0.25").status_code == 200
    assert live.put_image("/items/part", draw_image(3), crop="0,0,32,32", **NARROW).status_code == 200
    wait(lambda: progress(live)["state"] == "done" and progress(live)["items"]["differs"])
    healed = stored(live, "chosen")
    assert healed.width == "1.0"
    assert float(healed.vector @ full.vector) > 0.9999
    kept = ("metadata", "image_digest", "reason", "created", "space")
    assert [getattr(healed, name) for name in kept] == [getattr(before, name) for name in kept]
    assert (stored(live, "asked").width, stored(live, "part").width) == ("0.25", "0.25")
    assert progress(live)["items"] == {"healed": 1, "changed": 0, "differs": 1, "unreadable": 0, "failed": 0}
    assert live.metric("sfsc_heal_items_total", outcome="healed") == 1.0
    assert live.metric("sfsc_embeddings_total", reason="requested", width="1.0") == 1.0, "healing is no request"


def test_an_item_that_cannot_be_healed_keeps_no_other_from_it(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Embedder.embed
    replaced = draw_image(9)

    async def embed(self: Embedder, data: bytes, budget: Any, arrival: Any, *rest: Any) -> Any:
        if arrival.own and data == draw_image(1):
            raise ValueError("a fault that nobody expected")
        if arrival.own and data == draw_image(2) and budget.width == "1.0":
            await asyncio.to_thread(live.service.gallery._store.delete, ["deleted"])
        if arrival.own and data == draw_image(3) and budget.width == "1.0":
            await asyncio.to_thread(live.service.gallery._store.upsert, [newer])
        return await real(self, data, budget, arrival, *rest)

    monkeypatch.setattr(Embedder, "embed", embed)
    with live.service.embedder.activity:
        for n, name in enumerate(("odd", "deleted", "replaced", "zz-good"), start=1):
            assert live.put_image(f"/items/{name}", draw_image(n), **NARROW).status_code == 200
        old = stored(live, "replaced")
        image = EncodedImage(replaced, "image/jpeg")
        newer = Item("replaced", old.space, "0.5", old.vector, {"newer": True}, image, reason="requested")
        damaged = Item("damaged", old.space, "0.25", old.vector, {}, EncodedImage(b"none", "image/jpeg"), "load")
        live.service.gallery._store.upsert([damaged])
    wait(lambda: progress(live)["state"] == "done" and progress(live)["items"]["healed"])
    assert progress(live)["items"] == {"healed": 1, "changed": 2, "differs": 0, "unreadable": 1, "failed": 1}
    assert stored(live, "zz-good").width == "1.0"
    assert stored(live, "replaced").metadata == {"newer": True}
    assert live.http.get("/items/deleted").status_code == 404
    assert live.http.get("/livez").json() == {"status": "ok", "reasons": [], "notes": []}


def test_healing_waits_while_there_are_requests(live: Live) -> None:
    with live.service.embedder.activity:
        assert live.put_image("/items/a", draw_image(1), **NARROW).status_code == 200
        wait(lambda: progress(live)["state"] == "paused")
        assert (progress(live)["unchecked"], stored(live, "a").width) == (1, "0.25")
    wait(lambda: stored(live, "a").width == "1.0")


def test_a_fault_of_the_store_is_told_and_gone_when_it_is_over(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfsc_service.gallery.heal.RETRY_S", 0.2)
    store = live.service.gallery._store
    real, broken = store.page, threading.Event()
    broken.set()

    def page(*args: Any) -> Any:
        if broken.is_set():
            raise StoreFailedError("no such disk")
        return real(*args)

    monkeypatch.setattr(store, "page", page)
    assert live.put_image("/items/a", draw_image(1), **NARROW).status_code == 200
    wait(lambda: "no such disk" in str(live.http.get("/livez").json()["notes"]))
    assert progress(live)["state"] == "failed"
    assert live.http.get("/readyz").status_code == 200
    assert live.metric("sfsc_idle_failures_total", work="heal") >= 1.0
    broken.clear()
    wait(lambda: stored(live, "a").width == "1.0")
    wait(lambda: live.http.get("/livez").json()["notes"] == [])


def test_items_of_every_collection_are_healed_and_one_that_goes_meanwhile_is_passed_over(live: Live) -> None:
    for name in ("cars", "gone"):
        assert live.http.put(f"/collections/{name}").status_code == 201
    with live.service.embedder.activity:
        for base in ("/collections/gone", "/collections/cars", ""):
            assert live.put_image(f"{base}/items/a", draw_image(1), **NARROW).json()["width"] == "0.25"
        wait(lambda: progress(live)["state"] == "paused")
        assert live.http.delete("/collections/gone").status_code == 204
    wait(lambda: live.http.get("/collections/cars").json()["widths"] == {"1.0": 1})
    wait(lambda: stored(live, "a").width == "1.0")
    wait(lambda: progress(live)["state"] == "done")
    assert progress(live)["items"]["healed"] == 2
    assert live.http.get("/livez").json()["notes"] == []


@pytest.mark.parametrize(("heal", "width"), [("off", "0.25"), ("0.5", "0.5")])
def test_the_setting_says_how_far(healing: Settings, heal: str, width: str) -> None:
    with running(healing.model_copy(update={"heal": heal})) as live:
        for name in ("a", "b"):
            assert live.put_image(f"/items/{name}", draw_image(1), **NARROW).status_code == 200
        if heal == "off":
            time.sleep(1.0)
            assert progress(live)["state"] == "off"
        wait(lambda: {stored(live, name).width for name in ("a", "b")} == {width})


def test_a_width_that_the_bundle_lacks_is_refused(healing: Settings) -> None:
    with pytest.raises(
        StartError, match=r"heal: must be off, full or one of 0\.25, 0\.5, 0\.75, 1\.0, found 0\.3"
    ):
        open_service(healing.model_copy(update={"heal": "0.3"}))


def test_a_kill_in_the_middle_loses_nothing_and_the_next_start_goes_on(healing: Settings) -> None:
    names = [f"item-{n:03d}" for n in range(200)]
    with running(healing.model_copy(update={"heal": "off"})) as live, Client(live.url) as client:
        items = [{"id": name, "image": draw_image(n)} for n, name in enumerate(names)]
        assert {one["status"] for one in client.put_many(items, gflops=0.01)} == {200}
        before = {item.id: item for item in live.service.gallery._store.get(names) if item}
    options = ("--data", healing.data, "--port", 0, "--max-batch", 1, "--threads", 1)
    with serving("serve", healing.bundle, *options) as (process, url):
        until_ready(url)
        wait(lambda: httpx.get(f"{url}/widths").json()["heal"]["items"]["healed"])
        process.kill()
        process.wait()
    with running(healing) as live:
        assert live.service.gallery.composition().get("1.0", 0) >= 64, "what was healed stays"
        wait(lambda: live.service.gallery.composition() == {"1.0": len(names)})
        for after in live.service.gallery._store.get(names):
            assert after is not None
            old = before[after.id]
            assert (after.image_digest, after.created) == (old.image_digest, old.created)
