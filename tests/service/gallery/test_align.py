"""The widths are aligned on the gallery's own images, nothing is embedded again, and all of it can be undone."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sfsc_bundle.errors import BundleError
from sfsc_service.client import Client
from sfsc_service.errors import StartError
from sfsc_service.gallery import vector_conversion
from sfsc_service.lifecycle.service import open_service
from sfsc_service.settings import Settings
from sfsc_service.store.protocol import Item, StoredItem
from tests.service.command import run, serving, until_ready
from tests.service.images import draw_image
from tests.service.live import Live, running
from tests.tiny_bundle import make_tiny_bundle

WAIT_S = 60.0
IMAGES = 66
WIDTHS = ("0.25", "0.5", "1.0")
OWN = "tiny-space"


@pytest.fixture
def turned(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Narrow widths whose vectors are turned; nothing is left to be measured of costs."""
    monkeypatch.setattr("sfsc_service.gallery.align.SETTLE_S", 0.0)
    monkeypatch.setattr("sfsc_service.gallery.align.LOOK_EVERY_S", 0.05)
    bundle = make_tiny_bundle(tmp_path / "turned", turn=0.2)
    return settings.model_copy(update={"max_batch": 1, "bundle": bundle.folder})


@pytest.fixture
def live(turned: Settings) -> Iterator[Live]:
    with running(turned) as made:
        yield made


def wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def fill(live: Live) -> list[str]:
    """Images at all widths, and a narrow vector that no image is stored for."""
    for n in range(IMAGES):
        assert live.put_image(f"/items/i{n}", draw_image(n), width=WIDTHS[n % 3]).status_code == 200
    assert put_vector(live, "vector", embedding(live, 200, "0.25"), OWN).status_code == 200
    return [*(f"i{n}" for n in range(IMAGES)), "vector"]


def embedding(live: Live, seed: int, width: str) -> np.ndarray:
    answer = live.post_image("/embed", draw_image(seed), width=width).json()
    return np.array(answer["results"][0]["embedding"], np.float32)


def put_vector(live: Live, name: str, vector: np.ndarray, space: str) -> httpx.Response:
    body = {"vector": vector.tolist(), "width": "0.25", "space": space}
    return live.http.put(f"/items/{name}", json=body)


def stored(live: Live, names: list[str]) -> dict[str, StoredItem]:
    return {item.id: item for item in live.service.gallery._store.get(names) if item is not None}


def status(live: Live) -> dict[str, Any]:
    found: dict[str, Any] = live.http.get("/align").json()
    return found


def rest(live: Live) -> dict[str, Any]:
    wait(lambda: status(live)["state"] == "resting")
    return status(live)


def align(live: Live, **options: str) -> dict[str, Any]:
    answer = live.http.post("/align", params=options)
    assert answer.status_code == 202, answer.text
    return rest(live)


def undo(live: Live) -> dict[str, Any]:
    answer = live.http.delete("/align")
    assert answer.status_code == 202, answer.text
    return rest(live)


def assert_follows(live: Live, names: list[str], before: dict[str, StoredItem]) -> None:
    """Stored vectors are those that the networks give now; full-width ones, and all else, are as they were."""
    space = status(live)["space"]
    for name, after in stored(live, names).items():
        was = before[name]
        kept = ("id", "width", "metadata", "image_digest", "reason", "created")
        assert [getattr(after, field) for field in kept] == [getattr(was, field) for field in kept]
        if after.width == "1.0":
            assert np.array_equal(after.vector, was.vector)
        else:
            seed = 200 if name == "vector" else int(name[1:])
            assert float(after.vector @ embedding(live, seed, after.width)) > 0.99999
            assert after.space == space


def test_widths_are_aligned_and_it_is_undone(live: Live, turned: Settings) -> None:
    names = fill(live)
    before = stored(live, names)
    old = embedding(live, 3, "0.25")
    found = align(live)
    assert (found["failure"], found["in_force"], found["bundle_space"]) == (None, True, OWN)
    assert found["space"].startswith(f"{OWN}.aligned-")
    assert found["fitted"]["after"] > found["fitted"]["before"] + 5
    assert found["converted"] == sum(item.width != "1.0" for item in before.values())
    assert_follows(live, names, before)
    told = live.http.get("/widths").json()
    assert (told["space"], told["compatible_with"]) == (found["space"], [OWN])
    assert (live.metric("sfsc_aligned"), live.metric("sfsc_align_unchecked_items")) == (1.0, 0.0)
    assert live.metric("sfsc_align_items_total", outcome="converted") == found["converted"]

    # A device that embeds with the bundle's own graphs goes on as before.
    query = {"vector": old.tolist(), "width": "0.25", "space": OWN, "k": 1}
    (hit,) = live.http.post("/search", json=query).json()["hits"]
    assert hit["id"] == "i3"
    assert hit["score"] > 0.99999
    assert put_vector(live, "late", old, OWN).status_code == 200
    assert np.allclose(stored(live, ["late"])["late"].vector, stored(live, ["i3"])["i3"].vector, atol=1e-5)
    with Client(live.url) as client:
        sent = client.put_vectors(["both", "bulk"], np.stack([old, old]), width="0.25", space=OWN)
        assert [one["status"] for one in sent] == [200, 200]
    assert np.allclose(stored(live, ["bulk"])["bulk"].vector, stored(live, ["late"])["late"].vector)
    unknown = live.http.post("/search", json=query | {"width": "0.3"}).json()
    assert unknown["code"] == "unknown_width"
    assert live.http.post("/align").json()["code"] == "already_aligned"

    back = undo(live)
    assert (back["space"], back["fitted"], back["in_force"]) == (OWN, None, False)
    for name, after in stored(live, names).items():
        assert np.allclose(after.vector, before[name].vector, atol=1e-5)
    assert {item.space for item in stored(live, [*names, "late", "bulk"]).values()} == {OWN}
    assert float(stored(live, ["late"])["late"].vector @ old) > 0.99999
    refused = live.http.post("/search", json=query | {"space": found["space"]}).json()
    assert refused["code"] == "unknown_space"
    assert not list(turned.data.glob("alignment*"))
    assert live.http.get("/widths").json()["compatible_with"] == []
    assert live.service.gallery._store.spaces == {OWN}


def test_a_bundle_of_one_width_has_nothing_to_align(settings: Settings, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "single", ["1.0"])
    with running(settings.model_copy(update={"bundle": bundle.folder})) as live:
        answer = live.http.post("/align")
        assert (answer.status_code, answer.json()["code"]) == (409, "one_width")
        done = run("align", "--url", live.url)
        assert done.returncode == 1
        assert done.stderr == "sfsc: alignment: the bundle has one width, so there is nothing to align\n"


def test_every_collection_follows(live: Live) -> None:
    fill(live)
    assert live.http.put("/collections/bikes").status_code in (200, 201)
    old = embedding(live, 3, "0.25")
    body = {"vector": old.tolist(), "width": "0.25", "space": OWN}
    assert live.http.put("/collections/bikes/items/a", json=body).status_code == 200
    store = live.service.stores.by_name["bikes"]
    assert align(live)["in_force"]
    (item,) = store.get(["a"])
    assert item is not None
    assert np.allclose(item.vector, embedding(live, 3, "0.25"), atol=1e-5)
    assert undo(live)["fitted"] is None
    (item,) = store.get(["a"])
    assert item is not None
    assert np.allclose(item.vector, old, atol=1e-5)
    assert store.spaces == {OWN}


def test_what_does_not_help_or_cannot_be_fitted_changes_nothing(
    live: Live, turned: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert align(live)["failure"] == "at least 60 images are needed for vectors of 16 numbers, found 0"
    names = fill(live)
    before = stored(live, names)
    with monkeypatch.context() as patch:
        patch.setattr("sfsc_service.gallery.fitted_maps.LEAST_GAIN_OF_COPIES", 100.0)
        failure = align(live)["failure"]
        assert failure.startswith("it would not help enough: mAP is ")
    assert failure in live.http.get("/livez").json()["notes"][0]
    assert align(live, field="colour")["failure"].endswith("found 0")
    refused = live.http.post("/align", params={"field": "a..b"})
    assert (refused.status_code, refused.json()["code"]) == (422, "filter_invalid")

    def broken(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    with monkeypatch.context() as patch:
        patch.setattr("sfsc_service.gallery.align.RETRY_S", 0.0)
        patch.setattr("sfsc_service.gallery.align.fit_maps", broken)
        assert align(live)["failure"] is not None
        wait(lambda: live.metric("sfsc_idle_failures_total", work="align") == 1.0)
    with monkeypatch.context() as patch:
        patch.setattr("sfsc_service.lifecycle.swap.check_networks", broken)
        assert "could not be opened with the maps" in align(live)["failure"]
    assert status(live)["space"] == OWN
    assert not list(turned.data.glob("alignment*"))
    assert all(np.array_equal(after.vector, before[name].vector) for name, after in stored(live, names).items())


def test_a_wish_waits_for_an_idle_moment_outlives_a_restart_and_can_be_taken_back(turned: Settings) -> None:
    with running(turned) as live:
        fill(live)
        with live.service.embedder.activity:
            assert live.http.post("/align").json()["state"] == "asked"
            wait(lambda: status(live)["state"] == "paused")
            assert live.http.delete("/align").status_code == 202
        assert rest(live)["fitted"] is None
        with live.service.embedder.activity:
            live.http.post("/align")
            live.loop.call_soon_threadsafe(live.server.handle_exit, 15, None)
    with running(turned) as live:
        assert rest(live)["in_force"]


def test_a_conversion_that_ends_in_the_middle_goes_on_after_the_next_start(
    turned: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either way; each vector is multiplied once, whichever part of it was done."""
    monkeypatch.setattr("sfsc_service.gallery.vector_conversion.PAGE", 7)
    with running(turned) as live:
        names = fill(live)
        before = stored(live, names)
        with monkeypatch.context() as patch:
            _end_after(patch, 3)
            live.http.post("/align")
            wait(lambda: status(live)["failure"] == "the end")
        assert 0 < len(_aligned(live, names)) < 2 * IMAGES // 3, "some are converted, others are not"
        query = {"vector": embedding(live, 4, "1.0").tolist(), "width": "1.0", "space": OWN, "k": IMAGES}
        assert {hit["id"] for hit in live.http.post("/search", json=query).json()["hits"]} < set(names)
    with running(turned) as live:
        assert rest(live)["in_force"]
        assert_follows(live, names, before)
        with monkeypatch.context() as patch:
            _end_after(patch, 3)
            live.http.delete("/align")
            wait(lambda: status(live)["failure"] == "the end")
    with running(turned) as live:
        assert rest(live)["fitted"] is None
        for name, after in stored(live, names).items():
            assert np.allclose(after.vector, before[name].vector, atol=1e-5)


def _end_after(patch: pytest.MonkeyPatch, pages: int) -> None:
    real, left = vector_conversion._convert_page, [pages]

    def ending(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("the end")
        return real(*arguments)

    patch.setattr(vector_conversion, "_convert_page", ending)


def _aligned(live: Live, names: list[str]) -> list[str]:
    return [name for name, item in stored(live, names).items() if ".aligned-" in item.space]


def test_items_that_are_written_meanwhile_are_aligned_and_narrow_ones_healed(
    turned: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfsc_service.gallery.vector_conversion.PAGE", 7)
    with running(turned.model_copy(update={"heal": "full"})) as live:
        names = fill(live)
        before = stored(live, names)
        old, real = embedding(live, 5, "0.25"), vector_conversion._convert_page

        def writing(store: Any, alignment: Any, *arguments: Any) -> Any:
            """Between the pages come a replaced item, and vectors that were admitted before the swap."""
            number = len(store.composition()) + store.count()
            if number < IMAGES + 20:
                store.upsert([Item(f"a{number}", OWN, "0.25", old, {}), Item(f"z{number}", OWN, "0.25", old, {})])
                (item,) = store.get(["i0"])
                store.upsert([Item("i0", item.space, item.width, item.vector, {"n": number})])
            return real(store, alignment, *arguments)

        monkeypatch.setattr(vector_conversion, "_convert_page", writing)
        assert live.put_image("/items/chosen", draw_image(7), gflops="0.01").json()["width"] == "0.25"
        assert align(live)["in_force"]
        wait(lambda: stored(live, ["chosen"])["chosen"].width == "1.0")
        late = [item.id for item in live.service.gallery._store.page(None, 1000).items if item.id[0] in "az"]
        assert len(late) > 10
        aligned = embedding(live, 5, "0.25")
        assert all(np.allclose(item.vector, aligned, atol=1e-5) for item in stored(live, late).values())
        names.remove("i0")
        assert_follows(live, names, before)


def test_a_backup_has_the_alignment(turned: Settings, tmp_path: Path) -> None:
    with running(turned) as live:
        fill(live)
        assert align(live)["in_force"]
        done = run("backup", turned.data, tmp_path / "copy")
        assert done.returncode == 0, done.stderr
    done = run("restore", tmp_path / "copy", tmp_path / "restored")
    assert done.returncode == 0, done.stderr
    with running(turned.model_copy(update={"data": tmp_path / "restored"})) as live:
        assert rest(live)["in_force"]
        assert undo(live)["space"] == OWN


def test_an_alignment_belongs_to_its_graphs_and_a_damaged_one_is_refused(turned: Settings) -> None:
    with running(turned) as live:
        fill(live)
        assert align(live)["in_force"]
        make_tiny_bundle(turned.bundle, seed=4, space="next", compatible_with=[OWN])
        assert asyncio.run_coroutine_threadsafe(live.service.swap.run(), live.loop).result(WAIT_S) == "failed"
        assert status(live)["in_force"]
    with pytest.raises(BundleError, match=r"of another bundle.*sfsc align --undo"):
        open_service(turned)
    make_tiny_bundle(turned.bundle, turn=0.2)
    (maps,) = turned.data.glob("alignment-*.npz")
    whole = maps.read_bytes()
    maps.write_bytes(whole[:-200] + bytes(200))
    with pytest.raises(BundleError, match=r"cannot be read|sha256"):
        open_service(turned)
    maps.write_bytes(whole)
    with pytest.raises(StartError, match="must not hold an alignment where the store is Milvus"):
        open_service(turned.model_copy(update={"store": "milvus://127.0.0.1:1/default"}))
    with running(turned) as live:
        assert undo(live)["space"] == OWN
        make_tiny_bundle(turned.bundle, seed=4, space="next", compatible_with=[OWN])
        assert asyncio.run_coroutine_threadsafe(live.service.swap.run(), live.loop).result(WAIT_S) == "done"


def test_a_service_that_is_killed_at_any_moment_goes_on(turned: Settings) -> None:
    """kill -9 while it measures, while it converts, and while it undoes."""
    with running(turned) as live:
        names = fill(live)
        before = stored(live, names)
    words = ["serve", turned.bundle, "--data", turned.data, "--port", 0, "--threads", 1, "--max-batch", 1]
    for method, moment in (
        ("POST", lambda found: found["drawn"]),
        ("GET", lambda found: found["in_force"]),
        ("DELETE", lambda found: not found["in_force"]),
    ):
        with serving(*words) as (process, url), httpx.Client(base_url=url, trust_env=False) as http:
            until_ready(url)
            assert http.request(method, "/align").status_code in (200, 202)
            wait(lambda http=http, moment=moment: moment(http.get("/align").json()))
            process.kill()
            process.wait()
    with running(turned) as live:
        assert rest(live)["fitted"] is None
        for name, after in stored(live, names).items():
            assert np.allclose(after.vector, before[name].vector, atol=1e-5)
