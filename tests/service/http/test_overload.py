"""What a full service refuses, how cheaply, and what it answers all the same."""

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sfsc_service.engine.costs import Measured
from sfsc_service.gallery.search_stage import Wanted
from sfsc_service.http import connections
from sfsc_service.http.keys import file_line, make_key
from sfsc_service.settings import Settings
from sfsc_service.store.protocol import Float32, Hit
from tests.service.faulty import Held, until
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running

VECTOR = {"vector": [1.0] + [0.0] * 15, "width": "1.0", "space": "tiny-space"}


def full(live: Live, callers: ThreadPoolExecutor) -> Held:
    """A service whose queue is full until the network is released."""
    held = Held(live, "0.25")
    held.occupy(callers, "0.25")
    live.service.embedder.costs.set_measured("0.25", 1, Measured(15_000.0, 15_000.0))
    for seed in range(2):
        callers.submit(live.post_image, "/embed", draw_image(seed), width="0.25")
    held.until_waiting(2)
    return held


def test_what_needs_a_network_is_refused_before_the_application_sees_it(
    weak: Live, callers: ThreadPoolExecutor
) -> None:
    held = full(weak, callers)
    edge = weak.metric("sfsc_http_seconds_count", route="/embed")
    form = {"image": ("a.jpg", draw_image(1))}
    refused = [
        weak.post_image("/embed", draw_image(1)),
        weak.post_image("/search", draw_image(1)),
        weak.put_image("/items/a%2Fb", draw_image(1)),
        weak.http.post("/embed", files=form),
        weak.http.post("/v1/embeddings", json={"input": "x" * 100_000}),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 30
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"]
        assert "connection" not in answer.headers
    assert refused[-1].json()["error"]["code"] == "queue_full"
    assert weak.metric("sfsc_http_seconds_count", route="/embed") == edge
    assert weak.metric("sfsc_http_requests_total", method="POST", route="/embed", status="429") == 2
    assert weak.metric("sfsc_problems_total", code="queue_full") == 5
    assert weak.post_image("/embed", draw_image(1), deadline_ms=60_000).status_code == 429
    late = {"outcome": "refused", "width": "0.25"}
    counted = [weak.metric("sfsc_deadlines_total", limit=limit, **late) for limit in ("soft", "hard")]
    assert counted == [5, 1]
    held.release()


def test_a_page_of_another_origin_that_may_call_can_read_why_it_is_refused(
    settings: Settings, callers: ThreadPoolExecutor
) -> None:
    origin = "https://shop.example"
    long = {"threads": 1, "slo_ms": 2000.0, "queue_ms": 20_000.0}
    with running(settings.model_copy(update={**long, "cors_origins": origin})) as live:
        held = full(live, callers)
        answer = live.http.post("/embed", content=draw_image(1), headers=JPEG | {"Origin": origin})
        assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
        assert answer.headers["access-control-allow-origin"] == origin
        held.release()


def test_what_needs_no_network_is_answered(weak: Live, callers: ThreadPoolExecutor) -> None:
    held = full(weak, callers)
    assert weak.http.put("/items/a", json=VECTOR).status_code == 200
    assert weak.http.post("/search", json={**VECTOR, "k": 1}).json()["hits"][0]["id"] == "a"
    assert weak.http.get("/items/a").status_code == 200
    assert weak.http.get("/readyz").status_code == 200
    held.release()


def test_a_client_that_waits_for_100_continue_is_refused_without_its_body(
    weak: Live, callers: ThreadPoolExecutor
) -> None:
    held = full(weak, callers)
    host, port = weak.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n"
            b"Expect: 100-continue\r\nX-Request-ID: mine\r\n\r\n"
        )
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.getheader("connection")) == (429, "close")
        assert answer.getheader("x-request-id") == "mine"
        assert json.loads(answer.read())["code"] == "queue_full"
        assert client.recv(1) == b""
    held.release()


def test_a_client_that_does_not_send_the_rest_of_its_body_reads_why_it_is_refused(
    weak: Live, callers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CHECK_INTERVAL_S", 0.1)
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.5)
    held = full(weak, callers)
    host, port = weak.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\nsome")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.getheader("connection")) == (429, "close")
        assert json.loads(answer.read())["code"] == "queue_full"
    held.release()


def test_a_connection_is_read_again_later_and_later_while_it_is_refused(
    weak: Live, callers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FIRST_PAUSE_S", 0.2)
    held = full(weak, callers)
    host, port = weak.url.removeprefix("http://").split(":")
    client = http.client.HTTPConnection(host, int(port), timeout=30)

    def post() -> tuple[int, float]:
        began = time.monotonic()
        client.request("POST", "/embed?width=0.5", draw_image(1), JPEG)
        answer = client.getresponse()
        answer.read()
        return answer.status, time.monotonic() - began

    for least_s in (0.0, 0.2, 0.4, 0.8, 1.0, 1.0):
        status, took_s = post()
        assert status == 429
        assert took_s >= 0.7 * least_s, "the pause began a little before the refusal was read"
    held.release()
    until(lambda: weak.service.embedder.batcher.idle)
    assert post()[0] == 200
    assert weak.service.embedder.batcher.idle
    client.close()


def test_a_proxys_connection_does_not_rest_because_it_carries_the_requests_of_others(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FIRST_PAUSE_S", 60.0)
    monkeypatch.setattr(connections, "LONGEST_PAUSE_S", 60.0)
    keys = {"used-up": make_key(["read"], requests_per_s=1e-6), "other": make_key(["read"])}
    (tmp_path / "keys.toml").write_text("\n".join(file_line(name, entry) for name, (_, entry) in keys.items()))
    changes = {"keys": tmp_path / "keys.toml", "trusted_proxies": "127.0.0.0/8", "queue_ms": 1_000_000.0}
    with running(settings.model_copy(update=changes)) as live:
        host, port = live.url.removeprefix("http://").split(":")
        proxy = http.client.HTTPConnection(host, int(port), timeout=30)
        statuses = []
        for name in ("used-up", "used-up", "other", "used-up", "other"):
            proxy.request("GET", "/widths", headers={"X-API-Key": keys[name][0]})
            answer = proxy.getresponse()
            answer.read()
            statuses.append(answer.status)
        assert statuses == [200, 429, 200, 429, 200]
        proxy.close()


def test_nobody_waits_for_longer_than_the_queue_is_bounded_to(
    settings: Settings, callers: ThreadPoolExecutor
) -> None:
    """What is predicted to take no time takes for ever."""
    with running(settings.model_copy(update={"threads": 1, "queue_ms": 500.0})) as live:
        held = Held(live, "0.25")
        busy = held.occupy(callers, "0.25")
        late = live.post_image("/embed", draw_image(1), width="0.5")
        assert (late.status_code, late.json()["code"]) == (503, "queue_timeout")
        assert late.headers["retry-after"]
        assert live.metric("sfsc_dropped_total", cause="queue_timeout") == 1.0
        held.release()
        assert busy.result().status_code == 200


def test_small_jpegs_are_not_refused_for_images_that_wait_to_be_decoded(
    weak: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding = weak.service.embedder._decoding
    monkeypatch.setattr(decoding, "backlog_ms", lambda **_: 1e6)
    assert weak.post_image("/embed", draw_image(1)).status_code == 200
    refused = weak.http.post("/embed", content=draw_image(1, format="PNG"), headers={"Content-Type": "image/png"})
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")


def test_a_search_stage_that_is_full_refuses_and_the_others_go_on(weak: Live) -> None:
    weak.put_image("/items/a", draw_image(1), width="1.0", metadata='{"n": 1}')
    gallery = weak.service.gallery
    gallery._filtered._mean_ms = 1e6
    gallery._filtered._under_way = 2
    filtered = {**VECTOR, "filter": {"n": 1}}
    floor = {"width": weak.service.embedder.catalog.floor, "outcome": "refused"}
    refused = weak.metric("sfsc_deadlines_total", limit="soft", **floor)
    for answer in (
        weak.http.post("/search", json=filtered),
        weak.post_image("/search", draw_image(1), filter='{"n": 1}'),
        weak.http.get("/items", params={"filter": '{"n": 1}'}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (429, "queue_full")
    assert weak.metric("sfsc_deadlines_total", limit="soft", **floor) == refused + 1.0, "of an image"
    assert weak.http.post("/search", json=VECTOR).status_code == 200
    assert weak.http.get("/items/a").status_code == 200
    assert weak.metric("sfsc_search_queue_predicted_seconds") > 20.0


def test_a_deadline_ends_the_wait_for_a_search(weak: Live, callers: ThreadPoolExecutor) -> None:
    stage = weak.service.gallery._searches
    entered, real = [], stage._search

    def slow(queries: Float32, wanted: Wanted) -> tuple[list[list[Hit]], bool]:
        entered.append(None)
        time.sleep(3)
        return real(queries, wanted)

    stage._search = slow
    busy = callers.submit(weak.post_image, "/search", draw_image(1))
    until(lambda: len(entered) == 1)
    late = weak.post_image("/search", draw_image(1), deadline_ms=1500)
    assert (late.status_code, late.json()["code"]) == (504, "deadline_passed")
    assert busy.result().status_code == 200
    assert len(entered) == 1


def test_one_address_has_no_more_requests_under_way_than_it_may(
    settings: Settings, callers: ThreadPoolExecutor
) -> None:
    with running(settings.model_copy(update={"threads": 1, "max_requests_per_address": 2})) as live:
        held = Held(live, "0.25")
        busy = held.occupy(callers, "0.25")
        waiting = callers.submit(live.post_image, "/embed", draw_image(1), width="0.25")
        held.until_waiting(1)
        refused = live.http.get("/widths")
        assert (refused.status_code, refused.json()["code"]) == (429, "address_limit")
        assert live.http.get("/readyz").status_code == 200
        held.release()
        assert [one.result().status_code for one in (busy, waiting)] == [200, 200]
        assert live.http.get("/widths").status_code == 200
