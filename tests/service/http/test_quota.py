"""Quotas: the bucket under a clock of the test's, and a key's quota over a real socket."""

import base64
import json
from collections.abc import Iterator

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.http.keys import file_line, make_key
from sfsc_service.http.quota import TokenBucket
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_what_a_second_brings() -> None:
    clock = Clock()
    bucket = TokenBucket(4.0, clock)
    for _ in range(4):
        assert bucket.wait_s() == 0.0
        bucket.take()
    assert bucket.wait_s() == 0.25
    clock.now = 0.25
    assert bucket.wait_s() == 0.0
    clock.now = 100.0
    for _ in range(4):
        assert bucket.wait_s() == 0.0
        bucket.take()
    assert bucket.wait_s() > 0.0


def test_a_rate_below_one_admits_the_first_at_once() -> None:
    clock = Clock()
    bucket = TokenBucket(0.1, clock)
    assert bucket.wait_s() == 0.0
    bucket.take()
    assert bucket.wait_s() == pytest.approx(10.0)


def test_what_was_taken_ahead_is_waited_for_so_that_the_average_holds() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, clock)
    admitted = 0
    while clock.now < 100.0:
        if bucket.wait_s() == 0.0:
            bucket.take(64)
            admitted += 64
        clock.now += 0.05
    assert admitted == pytest.approx(10.0 * 100.0, abs=64 + 10)


@pytest.fixture(scope="module")
def limited(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, dict[str, str]]]:
    """A service, and by what is limited the key that has so little of it that no test waits for more."""
    folder = tmp_path_factory.mktemp("limited")
    keys, lines = {}, []
    for name, quota in {
        "requests": {"requests_per_s": 0.01},
        "images": {"images_per_s": 0.01},
        "lines": {"images_per_s": 0.01},
        "ndjson": {"images_per_s": 0.01},
        "openai": {"images_per_s": 0.01},
        "nothing": {},
    }.items():
        keys[name], entry = make_key(["read", "write"], **quota)
        lines.append(file_line(name, entry))
    (folder / "keys.toml").write_text("\n".join(lines))
    settings = Settings(
        bundle=tiny.folder, data=folder / "data", port=0, threads=1, keys=folder / "keys.toml", slo_ms=2000.0
    )
    with running(settings) as live:
        yield live, {name: f"Bearer {key}" for name, key in keys.items()}


def test_requests_above_the_quota_are_told_when_to_come_back(limited: tuple[Live, dict[str, str]]) -> None:
    live, keys = limited
    headers = {"Authorization": keys["requests"]}
    assert live.http.get("/widths", headers=headers).status_code == 200
    refused = live.http.get("/widths", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert refused.json()["detail"] == "the key requests may use 0.01 requests a second"
    assert 90 <= int(refused.headers["retry-after"]) <= 101
    assert live.http.get("/widths", headers={"Authorization": keys["nothing"]}).status_code == 200


def test_images_count_whatever_route_takes_them(limited: tuple[Live, dict[str, str]]) -> None:
    live, keys = limited
    headers = {"Authorization": keys["images"]}
    vector = {"vector": [1.0] + [0.0] * 15, "width": "0.25", "space": live.service.manifest.space}
    for _ in range(3):  # a vector is no image
        assert live.http.put("/items/v", json=vector, headers=headers).status_code == 200
    assert live.http.put("/items/x", content=draw_image(1), headers=headers | JPEG).status_code == 200
    refused = live.http.get("/widths", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")


def test_the_images_of_a_bulk_call_count_each(limited: tuple[Live, dict[str, str]]) -> None:
    live, keys = limited
    files = [("image", (f"{n}.jpg", draw_image(n), "image/jpeg")) for n in range(3)]
    headers = {"Authorization": keys["lines"]}
    assert live.http.post("/items", files=files, headers=headers).json()["stored"] == 3
    wait = int(live.http.get("/widths", headers=headers).headers["retry-after"])
    assert 280 <= wait <= 301, "three images at one in a hundred seconds"


def test_images_in_base64_count_too(limited: tuple[Live, dict[str, str]]) -> None:
    live, keys = limited
    encoded = base64.b64encode(draw_image(1)).decode()
    lines = "\n".join(json.dumps({"id": str(n), "image": encoded}) for n in range(2))
    headers = {"Authorization": keys["ndjson"], "Content-Type": "application/x-ndjson"}
    assert live.http.post("/items", content=lines, headers=headers).json()["stored"] == 2
    uri = f"data:image/jpeg;base64,{encoded}"
    document = {"model": f"{live.service.manifest.name}@0.25", "input": [uri, uri]}
    answer = live.http.post("/v1/embeddings", json=document, headers={"Authorization": keys["openai"]})
    assert answer.status_code == 200
    for key in ("ndjson", "openai"):
        refused = live.http.get("/widths", headers={"Authorization": keys[key]})
        assert 180 <= int(refused.headers["retry-after"]) <= 201, "two images at one in a hundred seconds"
