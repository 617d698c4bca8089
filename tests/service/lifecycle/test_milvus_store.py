"""The service over Milvus: the same routes, and answers while Milvus is away."""

import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path

import httpx
import pytest

from live_service import free_port
from sfsc_service.errors import StartError
from sfsc_service.lifecycle.milvus_gallery import open_milvus
from sfsc_service.lifecycle.service import open_service
from sfsc_service.settings import Settings
from tests.service.faulty import until
from tests.service.images import draw_image
from tests.service.live import Live, running
from tests.service.store.milvus_galleries import lite_process, lite_server, need_pymilvus
from tests.service.store.object_store import (
    BUCKET,
    KEY,
    SECRET,
    aws_settings,
    impatient,
    in_environment,
    need_s3,
    s3_server,
)

PATIENCE_S = 20.0
eventually = partial(until, seconds=PATIENCE_S)


def found(live: Live, image: bytes, **options: str) -> list[str]:
    answer = live.post_image("/search", image, **options)
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


@contextmanager
def place_of_images(kind: str, folder: Path) -> Iterator[str]:
    """Where the images of a gallery can be, as a service takes it."""
    if kind == "folder":
        yield str(folder / "shared")
        return
    need_s3()
    with s3_server(folder / "s3.log") as server, in_environment(aws_settings(server.address)):
        yield f"s3://{BUCKET}/shared"


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_two_services_share_a_gallery(kind: str, settings: Settings, tmp_path: Path) -> None:
    need_pymilvus()
    images = [draw_image(n) for n in range(4)]
    with lite_server(tmp_path / "milvus") as address, place_of_images(kind, tmp_path) as place:
        shared = {"store": address, "image_folder": place}
        first = settings.model_copy(update=shared)
        second = settings.model_copy(update={**shared, "data": tmp_path / "other"})
        with running(first) as one:
            for n, image in enumerate(images):
                answer = one.put_image(f"/items/i{n}", image, metadata=f'{{"n": {n}}}')
                assert answer.status_code == 200, answer.text
            assert found(one, images[2], filter='{"n": {"$gte": 1}}')[0] == "i2"
            refused = one.http.put("/collections/other")
            assert (refused.status_code, refused.json()["code"]) == (422, "collection_invalid")
            refused = one.http.post("/align")
            assert (refused.status_code, refused.json()["code"]) == (409, "gallery_shared")
            with running(second) as two:
                assert found(two, images[3])[0] == "i3"
                assert two.http.get("/items/i1/image").content == images[1]
                assert two.http.delete("/items/i0").status_code == 204
                eventually(lambda: one.http.get("/items/i0").status_code == 404)


def assert_unavailable(live: Live) -> None:
    """Many requests at once: each is answered."""

    def request(n: int) -> httpx.Response:
        image = draw_image(n % 4)
        return live.post_image("/search", image) if n % 2 else live.put_image(f"/items/refused-{n}", image)

    with ThreadPoolExecutor(6) as pool:
        for answer in pool.map(request, range(12)):
            assert (answer.status_code, answer.json()["code"]) in ((503, "store_failed"), (503, "outcome_unknown"))
            assert int(answer.headers["Retry-After"]) >= 1
    assert live.http.get("/readyz").status_code == 503
    assert live.http.get("/livez").status_code == 200
    assert live.post_image("/embed", draw_image(1)).status_code == 200


def test_a_service_goes_on_when_its_milvus_has_hung_or_was_killed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_pymilvus()
    monkeypatch.setattr("sfsc_service.store.milvus.client._PROBE_S", 0.5)
    folder, port = tmp_path / "milvus", free_port()
    with ExitStack() as parts:
        milvus = parts.enter_context(lite_process(folder, port))
        live = parts.enter_context(running(settings.model_copy(update={"store": f"milvus://127.0.0.1:{port}"})))
        assert live.put_image("/items/a", draw_image(1)).status_code == 200

        os.kill(milvus, signal.SIGSTOP)
        eventually(lambda: live.http.get("/readyz").status_code == 503)
        assert_unavailable(live)
        os.kill(milvus, signal.SIGCONT)
        eventually(lambda: live.http.get("/readyz").status_code == 200)
        assert found(live, draw_image(1))[0] == "a"
        assert live.put_image("/items/b", draw_image(2)).status_code == 200

        os.kill(milvus, signal.SIGKILL)
        eventually(lambda: live.http.get("/readyz").status_code == 503)
        assert_unavailable(live)
        parts.enter_context(lite_process(folder, port))
        eventually(lambda: live.http.get("/readyz").status_code == 200)
        assert {"a", "b"} <= set(found(live, draw_image(1)))
        assert live.put_image("/items/c", draw_image(3)).status_code == 200


def test_a_service_says_that_milvus_has_lost_the_gallery_and_goes_on_when_it_is_there_again(
    settings: Settings, tmp_path: Path
) -> None:
    """It does not make an empty one by itself: nobody would notice the loss."""
    need_pymilvus()
    folder, port = tmp_path / "milvus", free_port()
    address = f"milvus://127.0.0.1:{port}"
    with ExitStack() as parts:
        milvus = parts.enter_context(lite_process(folder, port))
        live = parts.enter_context(running(settings.model_copy(update={"store": address})))
        assert live.put_image("/items/a", draw_image(1)).status_code == 200
        os.kill(milvus, signal.SIGKILL)
        eventually(lambda: live.http.get("/readyz").status_code == 503)
        shutil.rmtree(folder)
        parts.enter_context(lite_process(folder, port))
        eventually(lambda: "has no such gallery" in live.http.get("/readyz").text)
        assert_unavailable(live)
        # What `sfsc import` or another service does: it makes the collection, or Milvus's backup brings it back.
        manifest = live.service.manifest
        open_milvus(address, str(tmp_path / "i"), None, manifest.space, manifest.dimension, ()).close()
        eventually(lambda: live.http.get("/readyz").status_code == 200)
        assert live.http.get("/items/a").status_code == 404
        assert live.put_image("/items/b", draw_image(2)).status_code == 200
        assert found(live, draw_image(2)) == ["b"]


def test_a_service_goes_on_when_the_object_store_of_its_images_has_hung_or_was_away(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    need_pymilvus()
    need_s3()
    caplog.set_level("DEBUG")
    port = free_port()
    with ExitStack() as parts:
        address = parts.enter_context(lite_server(tmp_path / "milvus"))
        first = parts.enter_context(ExitStack())
        server = first.enter_context(s3_server(tmp_path / "s3.log", port))
        parts.enter_context(in_environment(aws_settings(server.address)))
        shared = {"store": address, "image_folder": f"s3://{BUCKET}/images"}
        live = parts.enter_context(running(settings.model_copy(update=shared)))
        assert live.put_image("/items/a", draw_image(1)).status_code == 200

        os.kill(server.pid, signal.SIGSTOP)
        with impatient():
            assert_images_unavailable(live)
        os.kill(server.pid, signal.SIGCONT)
        eventually(lambda: live.http.get("/readyz").status_code == 200)
        assert live.http.get("/items/a/image").content == draw_image(1)

        first.close()
        with impatient():
            assert_images_unavailable(live)
        parts.enter_context(s3_server(tmp_path / "s3.log", port))  # and it has lost what it had
        eventually(lambda: live.http.get("/readyz").status_code == 200)
        lost = live.http.get("/items/a/image")
        assert (lost.status_code, lost.json()["code"]) == (503, "store_failed")
        assert "is missing" in lost.json()["detail"]
        assert live.put_image("/items/a", draw_image(1)).status_code == 200
        assert live.http.get("/items/a/image").content == draw_image(1)
    for secret in (KEY, SECRET, "AWS4-HMAC-SHA256"):
        assert secret not in caplog.text


def assert_images_unavailable(live: Live) -> None:
    """Many requests at once: what needs an image is refused, and the rest answered."""

    def request(n: int) -> httpx.Response:
        if n % 2:
            return live.http.get("/items/a/image")
        return live.put_image(f"/items/refused-{n}", draw_image(n % 4))

    with ThreadPoolExecutor(6) as pool:
        for answer in pool.map(request, range(12)):
            assert (answer.status_code, answer.json()["code"]) == (503, "store_failed")
            assert int(answer.headers["Retry-After"]) >= 1
    eventually(lambda: live.http.get("/readyz").status_code == 503)
    assert live.http.get("/livez").status_code == 200
    assert found(live, draw_image(1)) == ["a"]


def test_without_pymilvus_the_start_names_the_extra(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "pymilvus" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(StartError, match=r"pip install '\.\[milvus\]'"):
        open_service(settings.model_copy(update={"store": "milvus://127.0.0.1:1/default"}))


@pytest.mark.parametrize(
    ("store", "search", "refusal"),
    [
        ("milvus://127.0.0.1:1/default", "int8", "search: must be exact, ivf or hnsw where the store is Milvus"),
        ("embedded", "hnsw", "search: hnsw needs a gallery in Milvus"),
    ],
)
def test_a_search_that_the_store_does_not_offer_is_refused_at_the_start(
    settings: Settings, store: str, search: str, refusal: str
) -> None:
    with pytest.raises(StartError, match=refusal):
        open_service(settings.model_copy(update={"store": store, "search": search}))


def test_where_no_search_is_exact_every_answer_says_so_and_one_that_must_be_is_refused(
    settings: Settings, tmp_path: Path
) -> None:
    need_pymilvus()
    with (
        lite_server(tmp_path / "milvus") as address,
        running(settings.model_copy(update={"store": address, "search": "hnsw"})) as live,
    ):
        for n in range(3):
            assert live.put_image(f"/items/i{n}", draw_image(n), metadata=f'{{"n": {n}}}').status_code == 200
        for options in ({}, {"filter": '{"n": {"$gte": 1}}'}, {"group_by": "n"}):
            answer = live.post_image("/search", draw_image(2), **options)
            assert answer.status_code == 200, answer.text
            assert answer.json()["exact"] is False
            refused = live.post_image("/search", draw_image(2), exact="true", **options)
            assert (refused.status_code, refused.json()["code"]) == (422, "exact_unavailable")
            assert refused.json()["parameter"] == "exact"
        assert found(live, draw_image(2), filter='{"n": {"$gte": 1}}')[0] == "i2"
        pairs = live.http.post("/search/duplicates", json={"min_score": -1})
        assert (pairs.json()["exact"], len(pairs.json()["pairs"])) == (False, 3)
        assert live.http.get("/widths").json()["gallery"]["approximate"]["kind"] == "hnsw"
