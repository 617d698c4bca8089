"""The option `crop` on every route that takes an image, in every form of a request."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running

BOX = {"x": 16, "y": 8, "w": 32, "h": 40}
IMAGE = draw_image(31, format="PNG")
Send = Callable[[Live, str, str, dict[str, Any]], httpx.Response]


def as_text(box: dict[str, Any]) -> str:
    return ",".join(str(value) for value in box.values())


def raw(live: Live, method: str, path: str, box: dict[str, Any]) -> httpx.Response:
    params = {"crop": as_text(box), "width": "0.5"}
    return live.http.request(method, path, content=IMAGE, params=params, headers=JPEG)


def multipart(live: Live, method: str, path: str, box: dict[str, Any]) -> httpx.Response:
    fields = {"crop": as_text(box), "width": "0.5"}
    return live.http.request(method, path, files={"image": ("a.png", IMAGE)}, data=fields)


def as_json(live: Live, method: str, path: str, box: dict[str, Any]) -> httpx.Response:
    document = {"image": base64.b64encode(IMAGE).decode(), "crop": box, "width": "0.5"}
    return live.http.request(method, path, json=document)


FORMS = {"raw": raw, "multipart": multipart, "JSON": as_json}


def cut_out(box: dict[str, Any]) -> bytes:
    """The crop as an image of its own."""
    x, y, w, h = (box[name] for name in "xywh")
    upright = Image.open(io.BytesIO(IMAGE))
    if "rotation" in box:
        upright = upright.rotate(box["rotation"], Image.Resampling.BILINEAR, center=(x + w / 2, y + h / 2))
    buffer = io.BytesIO()
    upright.crop((x, y, x + w, y + h)).save(buffer, "PNG")
    return buffer.getvalue()


def embedding(live: Live, image: bytes) -> list[float]:
    vector: list[float] = live.post_image("/embed", image, width="0.5").json()["results"][0]["embedding"]
    return vector


@pytest.fixture(scope="module")
def own(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings = Settings(
        bundle=live.service.settings.bundle, data=tmp_path_factory.mktemp("own"), port=0, threads=2, slo_ms=1000.0
    )
    with running(settings) as made:
        yield made


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("box", [BOX, BOX | {"rotation": 12.5}], ids=["straight", "turned"])
def test_a_crop_counts_as_an_image_of_its_own(own: Live, form: str, box: dict[str, Any]) -> None:
    expected = embedding(own, cut_out(box))
    send = FORMS[form]
    found = send(own, "POST", "/embed", box).json()["results"][0]["embedding"]
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.abs(np.subtract(embedding(own, IMAGE), expected)).max() > 0.1, "the whole image is another"
    assert send(own, "PUT", "/items/cut", box).status_code == 200
    item = own.http.get("/items/cut", params={"vectors": True}).json()
    np.testing.assert_allclose(item["embedding"], expected, atol=0.02)
    assert own.http.get("/items/cut/image").content == IMAGE, "the whole image is stored"
    hit = send(own, "POST", "/search", box).json()["hits"][0]
    assert (hit["id"], hit["score"]) == ("cut", pytest.approx(1.0, abs=1e-4))


def test_each_image_of_a_bulk_call_has_a_crop_of_its_own(own: Live) -> None:
    boxes = [BOX, BOX | {"x": 0}]
    files = [("image", (f"bulk-{n}", IMAGE)) for n in range(2)]
    form = own.http.post("/items", files=files, data={"crop": [as_text(box) for box in boxes], "width": "0.5"})
    lines = [
        {"id": f"line-{n}", "image": base64.b64encode(IMAGE).decode(), "crop": box, "width": "0.5"}
        for n, box in enumerate(boxes)
    ]
    body = "\n".join(map(json.dumps, lines))
    ndjson = own.http.post("/items", content=body, headers={"Content-Type": "application/x-ndjson"})
    for kind, response in (("bulk", form), ("line", ndjson)):
        assert response.json()["stored"] == 2, response.text
        for n, box in enumerate(boxes):
            item = own.http.get(f"/items/{kind}-{n}", params={"vectors": True}).json()
            np.testing.assert_allclose(item["embedding"], embedding(own, cut_out(box)), atol=0.02)
    short = own.http.post("/items", files=files, data={"crop": [as_text(BOX)]})
    assert (short.status_code, short.json()["parameter"]) == (422, "crop")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", ["POST /embed", "POST /search", "PUT /items/x"])
def test_a_crop_outside_the_image_names_its_corners(live: Live, form: str, path: str) -> None:
    response = FORMS[form](live, *path.split(), BOX | {"w": 49})
    problem = response.json()
    assert response.status_code == 422
    assert (problem["code"], problem["parameter"]) == ("crop_outside", "crop")
    assert "crop must lie in the upright image of 64×64 pixels" in problem["detail"]
    assert "(16, 8) to (65, 48)" in problem["detail"]


@pytest.mark.parametrize(
    "text",
    ["", "1,2,3", "1,2,3,4,5,6", "a,b,c,d", "1,2,0,4", "1,2,3,0.5", "nan,0,5,5", "0,0,inf,5", "0,0,5,5,361", "{}"],
)
def test_a_crop_that_is_none_is_refused(live: Live, text: str) -> None:
    response = live.post_image("/embed", IMAGE, crop=text)
    assert (response.status_code, response.json()["parameter"]) == (422, "crop"), response.text


@pytest.mark.parametrize("crop", [[1, 2, 3, 4], {"x": 1}, BOX | {"a": 1}, BOX | {"x": True}, BOX | {"w": None}, 5])
def test_a_member_that_is_no_crop_is_refused(live: Live, crop: Any) -> None:
    document = {"image": base64.b64encode(IMAGE).decode(), "crop": crop}
    response = live.http.post("/embed", json=document)
    assert (response.status_code, response.json()["parameter"]) == (422, "crop"), response.text


def test_a_crop_without_an_image_is_refused(live: Live) -> None:
    problem = live.http.post("/search", json={"id": "item-1", "crop": BOX}).json()
    assert problem["detail"] == "crop: must not be set with id, because nothing is embedded"
