"""POST /embed in each of its forms."""

import base64
import json
import re
from typing import Any

import httpx
import numpy as np
import pytest

from sfsc_bundle.crop import Crop
from sfsc_bundle.folder import Bundle
from sfsc_bundle.preprocess import preprocess
from sfsc_bundle.runner import make_runner
from sfsc_service.engine.embedder import Arrival, EmbeddedImage
from sfsc_service.engine.policy import Budget
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
        response = live.post_image("/embed", image, **options)
    elif form == "multipart":
        response = live.http.post("/embed", files={"image": ("a.jpg", image)}, data=options)
    elif form == "multipart and query":
        response = live.http.post("/embed", files={"image": ("a.jpg", image)}, params=options)
    else:
        response = live.http.post("/embed", json={"image": base64.b64encode(image).decode(), **options})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    document: dict[str, Any] = response.json()
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
        response = live.http.post("/embed", files=files, data={"width": "0.25"})
    else:
        encoded = [base64.b64encode(image).decode() for image in images]
        response = live.http.post("/embed", json={"image": encoded, "width": "0.25"})
    vectors = [result["embedding"] for result in response.json()["results"]]
    np.testing.assert_allclose(vectors, expected(tiny, "0.25", 3, 1, 2), atol=1e-6)


def test_a_bad_image_among_several_is_named_by_its_place(live: Live) -> None:
    files = [("image", ("a.jpg", draw_image(1))), ("image", ("b.jpg", b"no image"))]
    problem = live.http.post("/embed", files=files).json()
    assert (problem["code"], problem["parameter"]) == ("image_not_recognised", "image")
    assert problem["detail"].startswith("image[1]: ")


def test_requests_with_several_images_let_single_images_go_first(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, bulk = live.service.embedder.embed, []

    async def noting(data: bytes, budget: Budget, arrival: Arrival, crop: Crop | None = None) -> EmbeddedImage:
        bulk.append(arrival.bulk)
        return await embed(data, budget, arrival, crop=crop)

    monkeypatch.setattr(live.service.embedder, "embed", noting)
    for images in (1, 2):
        files = [("image", (str(n), draw_image(n))) for n in range(images)]
        assert live.http.post("/embed", files=files).status_code == 200
    assert bulk == [False, True, True]


def test_without_a_budget_the_service_chooses(live: Live) -> None:
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
    response = live.post_image("/embed", draw_image(1), deadline_ms=0.000001)
    assert response.status_code == 503
    assert response.json()["code"] == "deadline_unreachable"
    assert int(response.headers["retry-after"]) >= 1


def test_an_option_that_is_given_twice_is_refused(live: Live) -> None:
    response = live.http.post("/embed?width=0.5", json={"image": "", "width": "0.25"})
    assert response.status_code == 422
    assert response.json()["parameter"] == "width"
    assert "given more than once" in json.loads(response.content)["detail"]


def server_timing(response: httpx.Response) -> dict[str, str]:
    """The header's metrics by name: `dur` as a number, `desc` as text."""
    parts = (
        re.fullmatch(r'([a-z]+);(?:dur=([0-9.]+)|desc="([0-9a-z. ]+)")', part)
        for part in response.headers["server-timing"].split(", ")
    )
    return {part[1]: part[2] or part[3] for part in parts if part}


def test_every_computing_route_tells_its_times_in_a_header(live: Live) -> None:
    image = draw_image(1)
    embed = live.post_image("/embed", image, width="0.25")
    search = live.post_image("/search", image, latency_ms=60_000)
    assert server_timing(embed).keys() == {"preprocess", "queue", "compute", "total", "width", "reason"}
    assert server_timing(search).keys() == {"preprocess", "queue", "compute", "search", "total", "width", "reason"}
    for response in (embed, search):
        told = server_timing(response)
        for name, ms in response.json()["timing_ms"].items():
            assert float(told[name]) == ms
    assert (server_timing(embed)["width"], server_timing(embed)["reason"]) == ("0.25", "requested")
    assert (server_timing(search)["width"], server_timing(search)["reason"]) == ("1.0", "budget")
    by_id = live.http.post("/search", json={"id": "item-0"})
    assert server_timing(by_id).keys() == {"search", "total"}
