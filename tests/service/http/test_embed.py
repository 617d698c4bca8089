"""POST /embed in each of its forms."""

import base64
import json
import re
from typing import Any

import httpx
import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import make_runner
from tests.service.conftest import WIDTHS
from tests.service.images import draw_image
from tests.service.live import Live


def expected(tiny: Bundle, width: str, *seeds: int) -> np.ndarray:
    """What the bundle itself makes of the images."""
    runner = make_runner(tiny, width)
    return runner(np.stack([preprocess(draw_image(seed), tiny.manifest.preprocessing) for seed in seeds]))


def send(live: Live, form: str, options: dict[str, Any]) -> dict[str, Any]:
    image = draw_image(1)
    if form == "raw":
        answer = live.post_image("/embed", image, **options)
    elif form == "multipart":
        answer = live.http.post("/embed", files={"image": ("a.jpg", image)}, data=options)
    elif form == "multipart and query":
        answer = live.http.post("/embed", files={"image": ("a.jpg", image)}, params=options)
    else:
        answer = live.http.post("/embed", json={"image": base64.b64encode(image).decode(), **options})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize("form", ["raw", "multipart", "multipart and query", "json"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_form_gives_what_the_bundle_gives(live: Live, tiny: Bundle, form: str, width: str) -> None:
    document = send(live, form, {"width": width})
    assert (document["model"], document["space"], document["dim"]) == ("tiny", "tiny-space", 16)
    (result,) = document["results"]
    assert (result["width"], result["reason"], result["budget_met"]) == (width, "requested", True)
    np.testing.assert_allclose(result["embedding"], expected(tiny, width, 1)[0], atol=1e-6)
    assert set(document["timing_ms"]) == {"preprocess", "queue", "compute", "total"}


@pytest.mark.parametrize("form", ["raw", "multipart", "json"])
def test_base64_is_little_endian_float32(live: Live, tiny: Bundle, form: str) -> None:
    document = send(live, form, {"width": "0.5", "encoding": "base64"})
    vector = np.frombuffer(base64.b64decode(document["results"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(vector, expected(tiny, "0.5", 1)[0], atol=1e-6)


@pytest.mark.parametrize("spelling", ["1", "1.0", "1.00"])
def test_one_width_has_several_spellings(live: Live, spelling: str) -> None:
    assert send(live, "raw", {"width": spelling})["results"][0]["width"] == "1.0"


def test_in_json_a_width_may_be_a_number(live: Live) -> None:
    assert send(live, "json", {"width": 1})["results"][0]["width"] == "1.0"
    assert send(live, "json", {"width": 0.25})["results"][0]["width"] == "0.25"


@pytest.mark.parametrize("form", ["multipart", "json"])
def test_several_images_come_back_in_order(live: Live, tiny: Bundle, form: str) -> None:
    images = [draw_image(seed) for seed in (3, 1, 2)]
    if form == "multipart":
        files = [("image", (f"{n}.jpg", image)) for n, image in enumerate(images)]
        answer = live.http.post("/embed", files=files, data={"width": "0.25"})
    else:
        encoded = [base64.b64encode(image).decode() for image in images]
        answer = live.http.post("/embed", json={"image": encoded, "width": "0.25"})
    vectors = [result["embedding"] for result in answer.json()["results"]]
    np.testing.assert_allclose(vectors, expected(tiny, "0.25", 3, 1, 2), atol=1e-6)


def test_nothing_given_is_auto(live: Live) -> None:
    (result,) = send(live, "raw", {})["results"]
    assert (result["width"], result["reason"], result["budget_met"]) == ("1.0", "budget", True)


@pytest.mark.parametrize(
    ("options", "width", "met"),
    [
        ({"gflops": "0.02"}, "0.5", True),
        ({"gflops": "0.001"}, "0.25", False),
        ({"latency_ms": "60000"}, "1.0", True),
        ({"latency_ms": "0.000001"}, "0.25", False),
        ({"min_quality": "64"}, "0.5", True),
        ({"min_quality": "99"}, "1.0", False),
        ({"deadline_ms": "60000"}, "1.0", True),
    ],
)
def test_budgets(live: Live, options: dict[str, str], width: str, met: bool) -> None:
    for form in ("raw", "json"):
        typed = {name: float(text) for name, text in options.items()} if form == "json" else options
        (result,) = send(live, form, typed)["results"]
        assert (result["width"], result["reason"], result["budget_met"]) == (width, "budget", met)


def test_an_unreachable_deadline_is_refused_on_arrival(live: Live) -> None:
    answer = live.post_image("/embed", draw_image(1), deadline_ms=0.000001)
    assert answer.status_code == 503
    assert answer.json()["code"] == "deadline_unreachable"
    assert int(answer.headers["retry-after"]) >= 1


def test_a_client_that_sends_ones_twice_is_told(live: Live) -> None:
    answer = live.http.post("/embed?width=0.5", json={"image": "", "width": "0.25"})
    assert answer.status_code == 422
    assert answer.json()["parameter"] == "width"
    assert "given more than once" in json.loads(answer.content)["detail"]


def server_timing(answer: httpx.Response) -> dict[str, str]:
    """The header's metrics by name: `dur` as a number, `desc` as text."""
    parts = (
        re.fullmatch(r'([a-z]+);(?:dur=([0-9.]+)|desc="([0-9a-z. ]+)")', part)
        for part in answer.headers["server-timing"].split(", ")
    )
    return {part[1]: part[2] or part[3] for part in parts if part}


def test_every_computing_route_tells_its_times_in_a_header(live: Live) -> None:
    image = draw_image(1)
    embed = live.post_image("/embed", image, width="0.25")
    search = live.post_image("/search", image, latency_ms=60_000)
    assert server_timing(embed).keys() == {"preprocess", "queue", "compute", "total", "width", "reason"}
    assert server_timing(search).keys() == {"preprocess", "queue", "compute", "search", "total", "width", "reason"}
    for answer in (embed, search):
        told = server_timing(answer)
        for name, ms in answer.json()["timing_ms"].items():
            assert float(told[name]) == ms
    assert (server_timing(embed)["width"], server_timing(embed)["reason"]) == ("0.25", "requested")
    assert (server_timing(search)["width"], server_timing(search)["reason"]) == ("1.0", "budget")
    by_id = live.http.post("/search", json={"id": "item-0"})
    assert server_timing(by_id).keys() == {"search", "total"}
