"""GET /items/{id}/image?preview=…: bounded like images to be embedded, which it does not hold up."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sfsc_service.http.keys import file_line, make_key
from sfsc_service.settings import Settings
from sfsc_service.store.protocol import StoredImage
from tests.service.faulty import until
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running

PNG = {"Content-Type": "image/png"}
PREVIEW = "/items/a/image?preview=16"
START_TIMEOUT_S = 30.0


class Readings:
    """Counts how often images are read from a service's store, and can hold them up."""

    def __init__(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.go = 0, threading.Event()
        self.go.set()
        store = live.service.gallery._store
        real = store.image

        def image(id: str) -> StoredImage | None:
            self.count += 1
            assert self.go.wait(START_TIMEOUT_S)
            return real(id)

        monkeypatch.setattr(store, "image", image)


@pytest.fixture
def quick(settings: Settings) -> Iterator[Live]:
    with running(settings.model_copy(update={"threads": 1, "slo_ms": 2000.0, "queue_ms": 1000.0})) as made:
        made.put_image("/items/a", draw_image(1))
        yield made


def test_previews_that_wait_hold_no_image_and_time_out_while_others_embed(
    quick: Live, monkeypatch: pytest.MonkeyPatch, callers: ThreadPoolExecutor
) -> None:
    readings = Readings(quick, monkeypatch)
    readings.go.clear()
    try:
        asked = [callers.submit(quick.http.get, PREVIEW) for _ in range(4)]
        until(lambda: quick.service.embedder.previews._stage._under_way == 4)
        embedded = quick.http.post("/embed", content=draw_image(2, format="PNG"), headers=PNG)
        assert embedded.status_code == 200
        assert quick.put_image("/items/b", draw_image(2, size=400)).status_code == 200
        until(lambda: sum(one.done() for one in asked) == 3)
        assert readings.count == 1
    finally:
        readings.go.set()
    answers = [one.result() for one in asked]
    assert sorted(one.status_code for one in answers) == [200, 503, 503, 503]
    assert {one.json()["code"] for one in answers if one.status_code == 503} == {"queue_timeout"}


def test_previews_that_would_wait_too_long_are_refused(
    quick: Live, monkeypatch: pytest.MonkeyPatch, callers: ThreadPoolExecutor
) -> None:
    readings = Readings(quick, monkeypatch)
    readings.go.clear()
    try:
        first = callers.submit(quick.http.get, PREVIEW)
        until(lambda: readings.count == 1)
        monkeypatch.setattr(quick.service.embedder.previews._stage, "_mean_ms", 1e6)
        refused = quick.http.get(PREVIEW)
        assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        assert quick.http.post("/embed", content=draw_image(2, format="PNG"), headers=PNG).status_code == 200
    finally:
        readings.go.set()
    assert first.result().status_code == 200


def test_an_image_that_the_client_has_is_not_read(quick: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = Readings(quick, monkeypatch)
    for path in (PREVIEW, "/items/a/image"):
        tag = quick.http.get(path).headers["etag"]
        before = readings.count
        again = quick.http.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.headers["etag"], readings.count) == (304, tag, before)
        quick.put_image("/items/a", draw_image(3))
        changed = quick.http.get(path, headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag
        quick.put_image("/items/a", draw_image(1))


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": '"x"'}])
def test_an_item_without_an_image_has_no_preview(quick: Live, headers: dict[str, str]) -> None:
    vector = {"vector": [1.0] + [0.0] * 15, "width": "0.25", "space": quick.service.manifest.space}
    assert quick.http.put("/items/v", json=vector).status_code == 200
    for item in ("v", "missing"):
        answer = quick.http.get(f"/items/{item}/image?preview=16", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "item_not_found")
        assert answer.json()["detail"] == f"id: no item '{item}' with an image is in the gallery"


def test_a_preview_counts_as_an_image_of_the_keys_quota(settings: Settings) -> None:
    key, entry = make_key(["read", "write"], images_per_s=0.01)
    other, free = make_key(["read", "write"])
    path = settings.data / "keys.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(file_line("counted", entry) + "\n" + file_line("free", free))
    with running(settings.model_copy(update={"keys": path, "slo_ms": 2000.0})) as live:
        put = live.http.put("/items/a", content=draw_image(1), headers=JPEG | {"X-API-Key": other})
        assert put.status_code == 200
        headers = {"X-API-Key": key}
        for _ in range(2):
            assert live.http.get("/items/a/image", headers=headers).status_code == 200
        tag = {"If-None-Match": live.http.get(PREVIEW, headers={"X-API-Key": other}).headers["etag"]}
        assert live.http.get(PREVIEW, headers=headers | tag).status_code == 304
        assert live.http.get(PREVIEW, headers=headers).status_code == 200
        refused = live.http.get(PREVIEW, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
