"""Faults behind the socket: networks that raise, give NaN or are slow; clients that leave; too much work.

The networks are replaced by failing ones in a running service; everything else is real.
"""

import base64
import gc
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_service.costs import Measured
from sfsc_service.settings import Settings
from tests.service.live import JPEG, Live, running
from tests.service.pictures import picture

PATIENCE_S = 30.0
CALLERS = 24
SPARE = 4


def computed(live: Live, width: str) -> float:
    """Batches of a width so far."""
    return live.metric("sfsc_compute_seconds_count", width=width)


@pytest.fixture
def weak(settings: Settings) -> Iterator[Live]:
    """A service of the test's own with one worker, whose networks may be replaced."""
    with running(settings.model_copy(update={"threads": 1, "slo_ms": 2000.0})) as made:
        yield made


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CALLERS) as pool:
        yield pool


def network(live: Live, width: str, made: Callable[[Any], Callable[[np.ndarray], np.ndarray]]) -> None:
    """Put `made(real network)` in the place of a width's network."""
    runners: dict[str, Any] = live.service.embedder.networks.runners
    runners[width] = made(runners[width])


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


class Held:
    """A network that waits to be let go; whatever is sent meanwhile has to wait in the queue."""

    def __init__(self, live: Live, width: str) -> None:
        self.entered, self._go = threading.Event(), threading.Event()
        self._live = live
        network(live, width, self._made)

    def _made(self, real: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def run(images: np.ndarray) -> np.ndarray:
            self.entered.set()
            assert self._go.wait(PATIENCE_S)
            return real(images)

        return run

    def occupy(self, callers: ThreadPoolExecutor, width: str) -> "Future[httpx.Response]":
        """Send one request that the worker is busy with until `release`."""
        busy = callers.submit(self._live.post_image, "/embed", picture(0), width=width)
        assert self.entered.wait(PATIENCE_S)
        return busy

    def until_waiting(self, count: int) -> None:
        until(lambda: self._live.service.embedder.batcher.waiting >= count)

    def release(self) -> None:
        self._go.set()


def test_a_poisonous_picture_fails_alone(weak: Live, tiny: Bundle, callers: ThreadPoolExecutor) -> None:
    poison = preprocess(picture(66), tiny.manifest.preprocessing)

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
    waiting = [callers.submit(weak.post_image, "/embed", picture(seed), width="0.5") for seed in seeds]
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
        weak.post_image("/embed", picture(1), width="0.5"),
        weak.put_image("/items/x", picture(1), width="0.5"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (500, "inference_failed")
    assert weak.http.get("/items/x").status_code == 404
    assert weak.post_image("/embed", picture(1), width="0.25").status_code == 200


def test_an_error_that_nobody_foresaw_tells_nothing_of_the_inside(
    weak: Live, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret path /etc/passwd")

    weak.service.gallery._search = broken  # type: ignore[method-assign, assignment]
    answer = weak.post_image("/search", picture(1))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    assert weak.http.get("/livez").status_code == 200


def test_a_full_queue_is_refused_at_once_and_is_no_illness(weak: Live, callers: ThreadPoolExecutor) -> None:
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    weak.service.embedder.costs.measured("0.25", 1, Measured(1500.0, 1500.0))
    waiting = [callers.submit(weak.post_image, "/embed", picture(n), width="0.25") for n in range(2)]
    held.until_waiting(2)
    refused = weak.post_image("/embed", picture(9), width="0.25")
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 3
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
    image = picture(1)
    head = "POST /embed?width=0.75 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    head += f"Content-Length: {len(image)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as leaver:
        leaver.sendall(head.encode() + image)
        held.until_waiting(1)
    end = time.monotonic() + PATIENCE_S
    while not weak.metric("sfsc_problems_total", code="client_gone"):
        assert time.monotonic() < end
        time.sleep(0.05)
    held.release()
    assert busy.result().status_code == 200
    assert weak.post_image("/embed", picture(1), width="0.5").status_code == 200
    assert weak.metric("sfsc_dropped_total", cause="client_gone") == 1.0
    assert computed(weak, "0.75") == before


def test_a_hard_deadline_passes_in_the_queue(weak: Live, callers: ThreadPoolExecutor) -> None:
    before = computed(weak, "0.75")
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    late = weak.post_image("/embed", picture(1), width="0.75", deadline_ms=1000)
    assert (late.status_code, late.json()["code"]) == (504, "deadline_passed")
    held.release()
    assert busy.result().status_code == 200
    assert weak.post_image("/embed", picture(1), width="0.5").status_code == 200
    assert weak.metric("sfsc_dropped_total", cause="deadline_passed") == 1.0
    assert computed(weak, "0.75") == before


def test_under_a_burst_everybody_is_answered_with_less_width(weak: Live, callers: ThreadPoolExecutor) -> None:
    costs = weak.service.embedder.costs
    for width, ms in (("0.25", 1.0), ("0.5", 200.0), ("0.75", 300.0), ("1.0", 600.0)):
        costs.load({width: {1: Measured(ms, ms)}})
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    flexible = [callers.submit(weak.post_image, "/embed", picture(n)) for n in range(12)]
    explicit = callers.submit(weak.post_image, "/embed", picture(50), width="1.0")
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
    files = [("image", (f"{n}.jpg", picture(n))) for n in range(6)]
    bulk = callers.submit(weak.http.post, "/items", files=files, data={"width": "0.75"})
    held.until_waiting(6)
    single = callers.submit(weak.post_image, "/embed", picture(1), width="0.5")
    held.until_waiting(7)
    held.release()
    assert bulk.result().json()["stored"] == 6
    assert single.result().status_code == busy.result().status_code == 200
    assert order[0] == "0.5"


def test_single_requests_are_computed_between_the_batches_of_a_bulk_call(
    settings: Settings, callers: ThreadPoolExecutor
) -> None:
    """One worker, bulk calls at 1.0 that would fill hundreds of batches, and singles at 0.25 all the while."""
    with running(settings.model_copy(update={"threads": 1})) as live:
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
        files = [("image", (f"{n}.jpg", picture(n))) for n in range(64)]
        bulks = [
            callers.submit(live.http.post, "/items", files=files, data={"width": "1.0"}, timeout=120)
            for _ in range(4)
        ]
        until(lambda: len(batches) > 2)
        between = []
        for n in range(10):
            before = len(batches)
            assert live.post_image("/embed", picture(n), width="0.25").status_code == 200
            between.append(batches[before:].count("1.0"))
        assert not any(bulk.done() for bulk in bulks)
        # One may be cut while the picture is still being decoded, another one while the answer is on its way.
        assert sorted(between)[-2] <= 3
        assert [bulk.result().json()["stored"] for bulk in bulks] == [64] * 4


def test_bulk_gives_way_for_a_while_when_the_queue_is_full(weak: Live, callers: ThreadPoolExecutor) -> None:
    held = Held(weak, "0.25")
    busy = held.occupy(callers, "0.25")
    weak.service.embedder.costs.measured("0.25", 1, Measured(2500.0, 2500.0))
    waiting = callers.submit(weak.post_image, "/embed", picture(1), width="0.25")
    held.until_waiting(1)
    bulk = callers.submit(
        weak.http.post, "/items", files=[("image", ("late.jpg", picture(5)))], data={"width": "0.5"}
    )
    time.sleep(0.3)
    assert not bulk.done()
    held.release()
    assert bulk.result().json()["stored"] == 1
    assert waiting.result().status_code == busy.result().status_code == 200


def test_a_worker_that_dies_is_replaced_and_livez_tells(weak: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    class PulledPlugError(BaseException):
        pass

    def pull(_images: np.ndarray) -> np.ndarray:
        raise PulledPlugError

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    network(weak, "0.5", lambda _: pull)
    for died in range(1, SPARE + 1):
        answer = weak.post_image("/embed", picture(1), width="0.5")
        assert (answer.status_code, answer.json()["code"]) == (500, "inference_failed")
        assert weak.post_image("/embed", picture(1), width="0.25").status_code == 200
        health = weak.http.get("/livez")
        told = [f"batch workers that died: {died} of at most {SPARE}"]
        assert health.json()["notes"] == told
        assert (health.status_code, health.json()["reasons"]) == ((503, told) if died == SPARE else (200, []))
    assert weak.metric("sfsc_lost_workers_total", cause="died") == SPARE


class Stuck:
    """A network that does not come back until it is let go, for pictures of one kind only."""

    def __init__(self, live: Live, width: str, poison: np.ndarray | None = None) -> None:
        self._poison, self.go = poison, threading.Event()
        network(live, width, self._made)

    def _made(self, real: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def run(images: np.ndarray) -> np.ndarray:
            if self._poison is None or any(np.array_equal(image, self._poison) for image in images):
                assert self.go.wait(PATIENCE_S)
            return real(images)

        return run


@pytest.fixture
def hasty(settings: Settings) -> Iterator[Live]:
    """A service with one worker that is given up after a tenth of a second."""
    with running(settings.model_copy(update={"threads": 1, "slo_ms": 2000.0, "watchdog_s": 0.1})) as made:
        yield made


def test_a_network_that_hangs_costs_its_own_requests_and_nobody_else(
    hasty: Live, tiny: Bundle, callers: ThreadPoolExecutor
) -> None:
    before = computed(hasty, "0.5")
    stuck = Stuck(hasty, "0.5", preprocess(picture(66), tiny.manifest.preprocessing))
    others = [callers.submit(hasty.post_image, "/embed", picture(n), width="0.25") for n in range(8)]
    hung = hasty.post_image("/embed", picture(66), width="0.5")
    assert (hung.status_code, hung.json()["code"]) == (500, "inference_hung")
    assert hung.headers["content-type"] == "application/problem+json"
    assert {future.result().status_code for future in others} == {200}
    health = hasty.http.get("/livez")
    assert (health.status_code, health.json()["reasons"]) == (200, [])
    assert health.json()["notes"] == [f"batch workers that hung and have not come back: 1 of at most {SPARE}"]
    assert hasty.metric("sfsc_lost_workers_total", cause="hung") == 1.0
    assert hasty.metric("sfsc_hanging_workers") == 1.0
    assert hasty.post_image("/embed", picture(1), width="0.5").status_code == 200
    stuck.go.set()
    until(lambda: hasty.http.get("/livez").json()["notes"] == [])
    assert hasty.metric("sfsc_hanging_workers") == 0.0
    assert computed(hasty, "0.5") == before + 1


def test_when_too_many_workers_hang_livez_turns_red_and_everybody_is_still_answered(hasty: Live) -> None:
    stuck = Stuck(hasty, "0.5")
    for hanging in range(1, SPARE + 1):
        assert hasty.post_image("/embed", picture(1), width="0.5").json()["code"] == "inference_hung"
        assert hasty.http.get("/livez").status_code == (503 if hanging == SPARE else 200)
    health = hasty.http.get("/livez").json()
    assert health["reasons"] == [f"batch workers that hung and have not come back: {SPARE} of at most {SPARE}"]
    assert hasty.post_image("/embed", picture(1), width="0.25").status_code == 200
    assert hasty.post_image("/embed", picture(1), width="0.5").json()["code"] == "inference_hung"
    refused = hasty.post_image("/embed", picture(1), width="0.25")
    assert (refused.status_code, refused.json()["code"]) == (503, "no_worker")
    stuck.go.set()
    until(lambda: hasty.post_image("/embed", picture(1), width="0.25").status_code == 200)
    assert hasty.http.get("/livez").status_code == 200


def test_many_clients_at_once_get_each_their_own_answer(weak: Live, callers: ThreadPoolExecutor) -> None:
    alone = [
        weak.post_image("/embed", picture(n), width="0.5").json()["results"][0]["embedding"] for n in range(24)
    ]

    def ask(n: int) -> list[float]:
        with httpx.Client(base_url=weak.url, trust_env=False) as http:
            answer = http.post("/embed", params={"width": "0.5"}, content=picture(n), headers=JPEG)
        vector: list[float] = answer.json()["results"][0]["embedding"]
        return vector

    together = list(callers.map(ask, range(24)))
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_memory_of_waiting_bodies_is_bounded(settings: Settings) -> None:
    """Nine bodies of the largest size cannot be held at once where eight may."""
    small = settings.model_copy(update={"max_body_bytes": 100_000})
    with running(small) as live:
        host, port = live.url.removeprefix("http://").split(":")
        head = (
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        )
        half_sent = [socket.create_connection((host, int(port))) for _ in range(9)]
        try:
            for connection in half_sent:
                connection.sendall(head + b" " * 99_999)
            answered, _, _ = select.select(half_sent, [], [], PATIENCE_S)
            heard = answered[0].recv(65_536)
            assert heard.startswith(b"HTTP/1.1 429 ")
            assert b"queue_full" in heard
        finally:
            for connection in half_sent:
                connection.close()
        end = time.monotonic() + PATIENCE_S
        while live.post_image("/embed", picture(1)).status_code != 200:
            assert time.monotonic() < end, "what was held is given back"
            time.sleep(0.05)


def bare_call(live: Live, method: str, path: str, body: bytes, kind: str) -> bytes:
    """The status line of a call that leaves nothing of its own behind, as a client library does."""
    host, port = live.url.removeprefix("http://").split(":")
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(head.encode() + body)
        return connection.recv(65_536).split(b"\r\n")[0]


def refused_calls(live: Live) -> list[bytes]:
    """Of every way that a large body can be refused after it was read."""
    junk = b"\xff\xd8" + bytes(2_000_000)
    encoded = base64.b64encode(junk).decode()
    many, one = json.dumps({"image": [encoded] * 3}), json.dumps({"image": encoded, "width": "0.3"})
    return [
        bare_call(live, "POST", "/embed", junk, "image/jpeg"),
        bare_call(live, "POST", "/search", junk, "image/jpeg"),
        bare_call(live, "PUT", "/items/x", junk, "image/jpeg"),
        bare_call(live, "POST", "/embed?width=0.3", picture(1, size=400, format="BMP"), "image/bmp"),
        bare_call(live, "POST", "/embed", many.encode(), "application/json"),
        bare_call(live, "POST", "/search", one.encode(), "application/json"),
    ]


def test_a_refused_body_is_not_kept_by_the_exception_that_refused_it(weak: Live) -> None:
    """A cycle of exception, traceback and frames lives until the collector looks at it, which may be long."""

    def large_garbage() -> list[object]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return [
                one
                for one in gc.garbage
                for held in gc.get_referents(one)
                if isinstance(held, bytes | bytearray | str) and len(held) > 100_000
            ]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()

    refused_calls(weak)
    gc.collect()
    gc.disable()
    try:
        assert {line.split()[1] for line in refused_calls(weak)} == {b"422"}
        until(lambda: weak.metric("sfsc_open_requests") == 1.0)
        assert large_garbage() == []
    finally:
        gc.enable()


def test_a_body_that_stops_coming_is_given_up(weak: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.middleware.STALLED_S", 0.1)
    host, port = weak.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(
            b"PUT /items/x HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nabc"
        )
        assert connection.recv(65_536).startswith(b"HTTP/1.1 408 ")
