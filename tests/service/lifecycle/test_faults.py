"""Faults behind the socket: networks that raise, give NaN or are slow; clients that leave; too much work.

The networks are replaced by failing ones in a running service; everything else is real.
"""

import base64
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_service.engine.costs import Measured
from sfsc_service.settings import Settings
from tests.service.faulty import START_TIMEOUT_S, Held, computed, network, until
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running


def test_a_poisonous_image_fails_alone(weak: Live, tiny: Bundle, callers: ThreadPoolExecutor) -> None:
    poison = preprocess(draw_image(66), tiny.manifest.preprocessing)

    def made(real: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def run(images: np.ndarray) -> np.ndarray:
            if any(np.array_equal(image, poison) for image in images):
                raise RuntimeError("the kernel does not like this one")
            return real(images)

        return run

    network(weak, "0.5", made)
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    seeds = [60, 61, 66, 62, 63]
    waiting = [callers.submit(weak.post_image, "/embed", draw_image(seed), width="0.5") for seed in seeds]
    held.until_waiting(len(seeds))
    held.release()
    assert busy.result().status_code == 200
    answers = [future.result() for future in waiting]
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200, 200]
    assert answers[2].json()["code"] == "inference_failed"
    assert weak.metric("sfsc_failed_batches_total", width="0.5") >= 2
    assert weak.http.get("/livez").status_code == 200


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0, 2.0])
def test_a_vector_that_is_not_of_unit_length_is_never_answered(weak: Live, wrong: float) -> None:
    network(weak, "0.5", lambda real: lambda images: real(images) * np.float32(wrong))
    for answer in (
        weak.post_image("/embed", draw_image(1), width="0.5"),
        weak.put_image("/items/x", draw_image(1), width="0.5"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (500, "inference_failed")
    assert weak.http.get("/items/x").status_code == 404
    assert weak.post_image("/embed", draw_image(1), width="0.25").status_code == 200


def test_an_error_that_nobody_foresaw_tells_nothing_of_the_inside(
    weak: Live, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret path /etc/passwd")

    weak.service.gallery._filtered_hits = broken  # type: ignore[method-assign, assignment]
    answer = weak.post_image("/search", draw_image(1), filter='{"camera": 1}')
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    assert weak.http.get("/livez").status_code == 200


def test_a_full_queue_is_refused_at_once_and_is_no_illness(weak: Live, callers: ThreadPoolExecutor) -> None:
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    weak.service.embedder.costs.set_measured("0.25", 1, Measured(15_000.0, 15_000.0))
    waiting = [callers.submit(weak.post_image, "/embed", draw_image(n), width="0.25") for n in range(2)]
    held.until_waiting(2)
    refused = weak.post_image("/embed", draw_image(9), width="0.25")
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 30
    assert weak.http.get("/readyz").status_code == 200
    assert weak.http.get("/livez").status_code == 200
    assert weak.metric("sfsc_queue_images") == 2.0
    held.release()
    assert [future.result().status_code for future in (busy, *waiting)] == [200, 200, 200]
    assert weak.metric("sfsc_queue_images") == 0.0


def test_a_client_that_leaves_costs_no_computing(weak: Live, callers: ThreadPoolExecutor) -> None:
    before = computed(weak, "0.75")
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    host, port = weak.url.removeprefix("http://").split(":")
    image = draw_image(1)
    head = "POST /embed?width=0.75 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    head += f"Content-Length: {len(image)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as leaver:
        leaver.sendall(head.encode() + image)
        held.until_waiting(1)
    end = time.monotonic() + START_TIMEOUT_S
    while not weak.metric("sfsc_problems_total", code="client_gone"):
        assert time.monotonic() < end
        time.sleep(0.05)
    held.release()
    assert busy.result().status_code == 200
    assert weak.post_image("/embed", draw_image(1), width="0.5").status_code == 200
    assert weak.metric("sfsc_dropped_total", cause="client_gone") == 1.0
    assert computed(weak, "0.75") == before


def test_a_hard_deadline_passes_in_the_queue(weak: Live, callers: ThreadPoolExecutor) -> None:
    before = computed(weak, "0.75")
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    late = weak.post_image("/embed", draw_image(1), width="0.75", deadline_ms=1000)
    assert (late.status_code, late.json()["code"]) == (504, "deadline_passed")
    held.release()
    assert busy.result().status_code == 200
    assert weak.post_image("/embed", draw_image(1), width="0.5").status_code == 200
    assert weak.metric("sfsc_dropped_total", cause="deadline_passed") == 1.0
    assert computed(weak, "0.75") == before


def test_under_a_burst_everybody_is_answered_with_less_width(weak: Live, callers: ThreadPoolExecutor) -> None:
    costs = weak.service.embedder.costs
    for width, ms in (("0.25", 1.0), ("0.5", 200.0), ("0.75", 300.0), ("1.0", 600.0)):
        costs.load({width: {1: Measured(ms, ms)}})
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    flexible = [callers.submit(weak.post_image, "/embed", draw_image(n)) for n in range(12)]
    explicit = callers.submit(weak.post_image, "/embed", draw_image(50), width="1.0")
    held.until_waiting(13)
    held.release()
    assert busy.result().status_code == 200
    results = [future.result().json()["results"][0] for future in flexible]
    assert {result["reason"] for result in results} >= {"load"}
    assert min(float(result["width"]) for result in results) < 1.0
    assert explicit.result().json()["results"][0]["width"] == "1.0"
    narrowed = [result["width"] for result in results if result["reason"] == "load"]
    for width in set(narrowed):
        assert weak.metric("sfsc_embeddings_total", width=width, reason="load") == narrowed.count(width)


def test_bulk_does_not_stand_in_the_way_of_single_requests(weak: Live, callers: ThreadPoolExecutor) -> None:
    """While a bulk call waits behind a busy worker, a later single request is computed first."""
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    order: list[str] = []
    for width in ("0.5", "0.75"):

        def made(real: Any, width: str = width) -> Any:
            return lambda images: (order.append(width), real(images))[1]

        network(weak, width, made)
    files = [("image", (f"{n}.jpg", draw_image(n))) for n in range(6)]
    bulk = callers.submit(weak.http.post, "/items", files=files, data={"width": "0.75"})
    held.until_waiting(6)
    single = callers.submit(weak.post_image, "/embed", draw_image(1), width="0.5")
    held.until_waiting(7)
    held.release()
    assert bulk.result().json()["stored"] == 6
    assert single.result().status_code == busy.result().status_code == 200
    assert order[0] == "0.5"


def test_single_requests_are_computed_between_the_batches_of_a_bulk_call(
    settings: Settings, callers: ThreadPoolExecutor
) -> None:
    """One worker, bulk calls at 1.0 that would fill hundreds of batches, and singles at 0.25 all the while."""
    with running(settings.model_copy(update={"threads": 1, "queue_ms": 20_000.0})) as live:
        batches: list[str] = []
        costs = live.service.embedder.costs

        def recorded(width: str, image_s: float) -> None:
            costs.load({width: {1: Measured(1000 * image_s, 1000 * image_s)}})

            def run(images: np.ndarray, real: Any) -> np.ndarray:
                batches.append(width)
                time.sleep(image_s * len(images))
                vectors: np.ndarray = real(images)
                return vectors

            network(live, width, lambda real: lambda images: run(images, real))

        recorded("1.0", 0.02)
        recorded("0.25", 0.001)
        files = [("image", (f"{n}.jpg", draw_image(n))) for n in range(64)]
        bulks = [
            callers.submit(live.http.post, "/items", files=files, data={"width": "1.0"}, timeout=120)
            for _ in range(4)
        ]
        until(lambda: len(batches) > 2)
        between = []
        for n in range(10):
            before = len(batches)
            assert live.post_image("/embed", draw_image(n), width="0.25").status_code == 200
            between.append(batches[before:].count("1.0"))
        assert not any(bulk.done() for bulk in bulks)
        # One may be cut while the image is still being decoded, another one while the answer is on its way.
        assert sorted(between)[-2] <= 3
        assert [bulk.result().json()["stored"] for bulk in bulks] == [64] * 4


def test_bulk_gives_way_for_a_while_when_the_queue_is_full(weak: Live, callers: ThreadPoolExecutor) -> None:
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    weak.service.embedder.costs.set_measured("0.25", 1, Measured(25_000.0, 25_000.0))
    waiting = callers.submit(weak.post_image, "/embed", draw_image(1), width="0.25")
    held.until_waiting(1)
    bulk = callers.submit(
        weak.http.post, "/items", files=[("image", ("late.jpg", draw_image(5)))], data={"width": "0.5"}
    )
    time.sleep(0.3)
    assert not bulk.done()
    held.release()
    assert bulk.result().json()["stored"] == 1
    assert waiting.result().status_code == busy.result().status_code == 200


def test_many_clients_at_once_get_each_their_own_answer(weak: Live, callers: ThreadPoolExecutor) -> None:
    alone = [
        weak.post_image("/embed", draw_image(n), width="0.5").json()["results"][0]["embedding"] for n in range(24)
    ]

    def ask(n: int) -> list[float]:
        with httpx.Client(base_url=weak.url, trust_env=False) as http:
            answer = http.post("/embed", params={"width": "0.5"}, content=draw_image(n), headers=JPEG)
        vector: list[float] = answer.json()["results"][0]["embedding"]
        return vector

    together = list(callers.map(ask, range(24)))
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_what_is_left_of_an_abandoned_upload_is_dropped_and_counted(
    weak: Live, callers: ThreadPoolExecutor
) -> None:
    """The whole body is on the way when the client leaves, far more than the service has read of it."""
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    image = base64.b64encode(draw_image(1, size=64)).decode()
    lines = "".join(f'{{"id": "left-{n}", "image": "{image}", "width": "0.5"}}\n' for n in range(1280)).encode()
    head = "POST /items HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
    host, port = weak.url.removeprefix("http://").split(":")
    with socket.socket() as leaver:
        leaver.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(lines))
        leaver.connect((host, int(port)))
        leaver.sendall(f"{head}Content-Length: {len(lines)}\r\n\r\n".encode() + lines[: len(lines) // 2])
        held.until_waiting(1)
    until(lambda: weak.metric("sfsc_problems_total", code="client_gone") > 0)
    held.release()
    assert busy.result().status_code == 200
    assert weak.metric("sfsc_dropped_total", cause="client_gone") >= 1
    assert weak.http.get("/items").json()["items"] == []


def test_a_client_that_has_only_ended_its_sending_gets_the_answer_to_its_upload(weak: Live) -> None:
    image = base64.b64encode(draw_image(1, size=64)).decode()
    lines = "".join(f'{{"id": "kept-{n}", "image": "{image}"}}\n' for n in range(200)).encode()
    head = "POST /items HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
    host, port = weak.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=START_TIMEOUT_S) as client:
        client.sendall(f"{head}Content-Length: {len(lines)}\r\n\r\n".encode() + lines)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    final = answer.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    assert final.startswith(b"HTTP/1.1 200")
    assert b'"stored":200' in final
