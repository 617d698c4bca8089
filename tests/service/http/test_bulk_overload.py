"""Bulk calls on a service that has no time for them: refused unread, given up in time, sent again."""

import base64
import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from sfsc_service.cli import upload
from sfsc_service.client import Client
from sfsc_service.engine import embedder
from sfsc_service.engine.batch_problems import queue_full
from sfsc_service.errors import ServiceError
from sfsc_service.settings import Settings
from tests.service.command import run
from tests.service.faulty import Held, until
from tests.service.images import draw_image
from tests.service.live import Live, running

NDJSON = {"Content-Type": "application/x-ndjson"}
WIDTH = "0.25"
VECTOR = {"vector": [1.0] + [0.0] * 15, "width": WIDTH, "space": "tiny-space"}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of bulk calls may take no longer than SFSC_QUEUE_MS says."""
    monkeypatch.setattr(embedder, "BULK_LIMIT_S", 0.0)


@pytest.fixture
def busy(settings: Settings) -> Iterator[Live]:
    """A service that refuses bulk calls whose images are predicted to wait for more than 2.5 s."""
    with running(settings.model_copy(update={"threads": 1, "queue_ms": 1000.0})) as live:
        yield live


def line(id: str, seed: int = 1) -> bytes:
    return json.dumps({"id": id, "image": base64.b64encode(draw_image(seed)).decode(), "width": WIDTH}).encode()


def lines(name: str, count: int) -> bytes:
    return b"\n".join(line(f"{name}-{n}", n) for n in range(count))


def occupied(live: Live, callers: ThreadPoolExecutor) -> "tuple[Held, Future[httpx.Response]]":
    """A bulk call waits for a network until that is released; there is no time for another one."""
    held = Held(live, WIDTH)
    call = callers.submit(live.http.post, "/items", content=lines("first", 8), headers=NDJSON)
    assert held.entered.wait(30)
    until(lambda: live.service.gallery.bulk.predicted_s > 3)
    return held, call


def assert_refused(response: httpx.Response) -> None:
    assert (response.status_code, response.json()["code"]) == (429, "bulk_full"), response.text
    assert 1 <= int(response.headers["retry-after"]) <= 21
    assert response.headers["content-type"] == "application/problem+json"


def test_further_calls_are_refused_until_there_is_time_again(busy: Live, callers: ThreadPoolExecutor) -> None:
    held, first = occupied(busy, callers)
    assert_refused(busy.http.post("/items", content=lines("second", 3), headers=NDJSON))
    assert_refused(busy.http.post("/items", files=[("image", ("a.jpg", draw_image(1)))]))
    assert_refused(busy.http.post("/collections/default/items", content=lines("second", 3), headers=NDJSON))
    assert_refused(busy.http.post("/search", content=line("x").replace(b'"id": "x", ', b""), headers=NDJSON))
    assert busy.metric("sfsc_problems_total", code="bulk_full") == 4
    assert busy.metric("sfsc_http_requests_total", method="POST", route="/items", status="429") == 2
    assert busy.metric("sfsc_bulk_predicted_seconds") > 2.5
    vectors = b"\n".join(json.dumps({"id": f"v{n}", **VECTOR}).encode() for n in range(2))
    assert busy.http.post("/items", content=vectors, headers=NDJSON).json()["stored"] == 2, "no image, no network"
    held.release()
    assert first.result().json()["stored"] == 8
    again = busy.http.post("/items", content=lines("second", 3), headers=NDJSON)
    assert again.json()["stored"] == 3
    assert busy.metric("sfsc_bulk_predicted_seconds") == 0.0


@pytest.mark.parametrize(
    ("kind", "begun"), [("multipart/form-data; boundary=x", b""), ("application/x-ndjson", line("begun") + b"\n")]
)
def test_the_rest_of_the_body_is_not_waited_for(
    busy: Live, callers: ThreadPoolExecutor, kind: str, begun: bytes
) -> None:
    held, first = occupied(busy, callers)
    host, port = busy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        head = f"POST /items HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {kind}\r\n"
        client.sendall(head.encode() + b"Content-Length: 9999999\r\n\r\n" + begun)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.getheader("retry-after") is None) == (429, False)
        assert json.loads(answer.read())["code"] == "bulk_full"
    held.release()
    assert first.result().json()["stored"] == 8


def test_a_call_under_way_answers_every_line_in_time(settings: Settings) -> None:
    """The network never returns; images wait for a second, and those behind them for nothing."""
    with running(settings.model_copy(update={"threads": 1, "queue_ms": 100.0})) as live:
        held = Held(live, WIDTH)
        with ThreadPoolExecutor(2) as callers:
            held.occupy(callers, WIDTH)
            found = live.http.post("/items", content=lines("late", 150), headers=NDJSON).json()
            held.release()
            codes = [result["code"] for result in found["results"]]
            begun = codes.index("bulk_full")
            assert (found["failed"], begun >= 64) == (150, True)
            assert set(codes[:begun]) == {"queue_timeout"}, "a window"
            assert set(codes[begun:]) == {"bulk_full"}
            assert {one["status"] for one in found["results"][begun:]} == {429}
            assert live.service.gallery.bulk.predicted_s == 0.0


def test_an_image_counts_once_however_often_it_is_tried(busy: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = iter(range(20))

    def check(**_: object) -> None:
        if next(refusals, None) is not None:
            raise queue_full(300, 200)

    monkeypatch.setattr(busy.service.embedder.batcher, "check_not_full", check)
    assert busy.http.post("/items", content=lines("image", 8), headers=NDJSON).json()["stored"] == 8
    assert next(refusals, None) is None
    found = {
        outcome: busy.metric("sfsc_deadlines_total", width=WIDTH, limit="soft", outcome=outcome)
        for outcome in ("met", "missed", "refused")
    }
    assert (found["met"] + found["missed"], found["refused"]) == (8, 0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(10):
        (folder / f"{n}.jpg").write_bytes(draw_image(n))
    return folder


def test_sfsc_add_goes_on_after_a_refusal_and_loses_nothing(
    busy: Live, callers: ThreadPoolExecutor, photos: Path
) -> None:
    held, first = occupied(busy, callers)
    added = callers.submit(run, "add", photos, "--width", WIDTH, "--json", SFSC_URL=busy.url)
    until(lambda: busy.metric("sfsc_problems_total", code="bulk_full") >= 1)
    held.release()
    assert first.result().json()["stored"] == 8
    done = added.result()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["added"] == 10
    assert json.loads(done.stdout)["left_out"] == []
    assert busy.http.get("/items:count").json()["count"] == 18


def test_images_that_were_given_up_are_sent_again(
    settings: Settings, callers: ThreadPoolExecutor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait of a second is over before the network goes on."""
    monkeypatch.setattr(upload, "PAUSES_S", (0.1,) * 5)
    with running(settings.model_copy(update={"threads": 1, "queue_ms": 100.0})) as live:
        held = Held(live, WIDTH)
        held.occupy(callers, WIDTH)
        images = [upload.ListedImage(path.name, path, {}) for path in sorted(photos.iterdir())]
        report = upload.UploadReport()

        def send() -> None:
            with Client(live.url) as client:
                upload.upload(client, images, {}, report, lambda: WIDTH)

        sending = callers.submit(send)
        until(lambda: live.metric("sfsc_dropped_total", cause="queue_timeout") >= 10)
        held.release()
        sending.result()
    assert (report.added, report.left_out, report.failure) == (10, [], None)


def test_images_that_never_get_through_are_left_out_and_the_failure_is_told(
    settings: Settings, callers: ThreadPoolExecutor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PAUSES_S", (0.0,))
    with running(settings.model_copy(update={"threads": 1, "queue_ms": 20.0})) as live:
        held = Held(live, WIDTH)
        held.occupy(callers, WIDTH)
        images = [upload.ListedImage(path.name, path, {}) for path in sorted(photos.iterdir())]
        report = upload.UploadReport()
        with Client(live.url) as client:
            upload.upload(client, images, {}, report, lambda: WIDTH)
        held.release()
    assert (report.added, len(report.left_out)) == (0, 10)
    assert report.failure is not None
    assert report.failure.code == "queue_timeout"


def test_images_that_wait_to_be_sent_again_are_told_where_the_service_then_fails(photos: Path) -> None:
    class Failing:
        def widths(self) -> dict[str, dict[str, int]]:
            return {"limits": {"max_image_bytes": 10**6}}

        def put_many(self, images: Iterator[dict[str, object]]) -> Iterator[dict[str, object]]:
            for image, _ in zip(images, range(3), strict=False):
                yield {"id": image["id"], "status": 429, "code": "bulk_full", "detail": "no time"}
            raise ServiceError("store_failed", "the disk is full", 503)

    images = [upload.ListedImage(path.name, path, {}) for path in sorted(photos.iterdir())]
    report = upload.UploadReport()
    with pytest.raises(ServiceError, match="disk"):
        upload.upload(Failing(), images, {}, report, lambda: WIDTH)  # type: ignore[arg-type]
    assert [one.name for one in report.left_out] == ["0.jpg", "1.jpg", "2.jpg"]
