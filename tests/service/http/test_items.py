"""/items: put, get, list, image, delete; on a service of the module's own."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from sfsc_bundle.folder import Bundle
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import Live, running


@pytest.fixture(scope="module")
def shop(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service to write to; every test uses ids of its own."""
    data = tmp_path_factory.mktemp("shop")
    with running(Settings(bundle=tiny.folder, data=data, port=0, threads=2, slo_ms=1000.0)) as made:
        yield made


def put(live: Live, form: str, id: str, image: bytes, options: dict[str, Any]) -> dict[str, Any]:
    path = f"/items/{quote(id, safe='')}"
    if form == "json":
        answer = live.http.put(path, json={"image": base64.b64encode(image).decode(), **options})
    else:
        text = {name: json.dumps(value) if name == "metadata" else value for name, value in options.items()}
        if form == "raw":
            answer = live.put_image(path, image, **text)
        else:
            answer = live.http.put(path, files={"image": ("any.bin", image)}, data=text)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize("form", ["raw", "multipart", "json"])
def test_what_went_in_comes_back(shop: Live, form: str) -> None:
    named, metadata = f"form {form}", {"colour": "red", "tags": ["a", {"b": None}], "π": 3.5}
    stored = put(shop, form, named, draw_image(3), {"width": "0.5", "metadata": metadata})
    assert stored == {
        "id": named,
        "width": "0.5",
        "reason": "requested",
        "budget_met": True,
        "created": True,
        "timing_ms": stored["timing_ms"],
    }
    link = f"items/{quote(named, safe='')}/image"
    assert shop.http.get(f"/items/{quote(named, safe='')}").json() == {
        "id": named,
        "space": "tiny-space",
        "width": "0.5",
        "metadata": metadata,
        "image": link,
    }
    shown = shop.http.get(f"/{link}")
    assert shown.content == draw_image(3)
    assert shown.headers["content-type"] == "image/jpeg"
    assert shown.headers["x-content-type-options"] == "nosniff"


def test_a_put_replaces(shop: Live) -> None:
    assert put(shop, "raw", "twice", draw_image(1), {"metadata": {"n": 1}})["created"] is True
    assert put(shop, "raw", "twice", draw_image(2, format="PNG"), {"width": "0.25"})["created"] is False
    item = shop.http.get("/items/twice").json()
    assert (item["width"], item["metadata"]) == ("0.25", {})
    assert shop.http.get("/items/twice/image").headers["content-type"] == "image/png"


def test_the_type_of_an_image_is_what_its_bytes_are(shop: Live) -> None:
    answer = shop.http.put("/items/liar", content=draw_image(1), headers={"Content-Type": "image/svg+xml"})
    assert answer.status_code == 200
    assert shop.http.get("/items/liar/image").headers["content-type"] == "image/jpeg"


def test_a_jpeg_with_further_images_behind_it_is_shown_as_a_jpeg(shop: Live) -> None:
    frames = [Image.open(io.BytesIO(draw_image(n))) for n in (1, 2)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "MPO", save_all=True, append_images=frames[1:])
    put(shop, "raw", "mpo", buffer.getvalue(), {})
    assert shop.http.get("/items/mpo/image").headers["content-type"] == "image/jpeg"


def test_an_image_has_a_tag_by_which_it_is_not_sent_again(shop: Live) -> None:
    put(shop, "raw", "tagged", draw_image(1), {})
    tag = shop.http.get("/items/tagged/image").headers["etag"]
    again = shop.http.get("/items/tagged/image", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    put(shop, "raw", "tagged", draw_image(2), {})
    assert shop.http.get("/items/tagged/image", headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_vector_of_an_edge_device_goes_in_and_is_found(shop: Live, encoding: str) -> None:
    result = shop.post_image("/embed", draw_image(40), width="0.25", encoding=encoding).json()["results"][0]
    given = {"vector": result["embedding"], "width": "0.25", "space": "tiny-space", "metadata": {"from": "edge"}}
    stored = shop.http.put(f"/items/edge-{encoding}", json=given)
    assert stored.status_code == 200, stored.text
    item = shop.http.get(f"/items/edge-{encoding}", params={"vectors": "true", "encoding": encoding}).json()
    assert item["image"] is None
    assert item["embedding"] == result["embedding"]
    hits = shop.post_image("/search", draw_image(40), width="1.0", filter='{"match": {"from": "edge"}}').json()[
        "hits"
    ]
    assert f"edge-{encoding}" in {hit["id"] for hit in hits}
    assert {hit["image"] for hit in hits} == {None}
    missing = shop.http.get(f"/items/edge-{encoding}/image")
    assert (missing.status_code, missing.json()["code"]) == (404, "item_not_found")


IDS = [
    "a/b/c.jpg",
    "a/image",
    "image",
    "with space",
    "ünïcode/😀",
    "100%",
    "a%2Fb",
    "?&#;=+",
    "x" * 256,
    "..a",
    "a\\b",
    "'\"<>",
]


@pytest.mark.parametrize("id", IDS)
def test_ids_are_the_callers_strings(shop: Live, id: str) -> None:
    put(shop, "raw", id, draw_image(7), {"metadata": {"set": "ids", "id": id}, "width": "0.5"})
    hits = shop.post_image(
        "/search", draw_image(7), width="0.5", k=50, filter=json.dumps({"match": {"set": "ids", "id": id}})
    ).json()["hits"]
    assert [hit["id"] for hit in hits] == [id]
    assert shop.http.get(f"/{hits[0]['image']}").content == draw_image(7)
    path = f"/items/{quote(id, safe='')}"
    assert shop.http.get(path).json()["id"] == id
    assert shop.http.delete(path).status_code == 204
    assert shop.http.get(path).status_code == 404


@pytest.mark.parametrize("encoded", ["%00", "a%0Ab", "%FF", "%ED%A0%80", "x" * 257, "x" * 10_000, "%2E", "%2E%2E"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_ids_that_break_a_rule(shop: Live, encoded: str, method: str) -> None:
    # httpx would tidy dots away before they are sent, so the address goes in as raw bytes.
    request = shop.http.build_request(method, "/items/x", content=draw_image(1) if method == "PUT" else None)
    request.url = request.url.copy_with(raw_path=f"/items/{encoded}".encode())
    request.headers["Content-Type"] = "image/jpeg"
    answer = shop.http.send(request)
    assert answer.status_code == 422, answer.text
    assert answer.json()["parameter"] == "id"


def test_pages_list_every_item_once_in_order(shop: Live) -> None:
    for n in range(7):
        put(shop, "raw", f"page-{n}", draw_image(n), {"metadata": {"set": "pages"}, "width": "0.25"})
    wanted = {"limit": "3", "filter": '{"match": {"set": "pages"}}', "vectors": "true"}
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = shop.http.get("/items", params=wanted | ({"cursor": cursor} if cursor else {})).json()
        seen += page["items"]
        cursor, pages = page["next"], pages + 1
    assert [item["id"] for item in seen] == [f"page-{n}" for n in range(7)]
    assert pages == 3
    assert all(np.linalg.norm(item["embedding"]) == pytest.approx(1.0, abs=1e-5) for item in seen)


def test_what_is_deleted_is_gone_and_not_found_any_more(shop: Live) -> None:
    put(shop, "raw", "short", draw_image(60), {"width": "1.0"})
    assert shop.post_image("/search", draw_image(60), width="1.0", k=1).json()["hits"][0]["id"] == "short"
    assert shop.http.delete("/items/short").status_code == 204
    assert shop.http.delete("/items/short").status_code == 404
    hits = shop.post_image("/search", draw_image(60), width="1.0", k=1000).json()["hits"]
    assert "short" not in {hit["id"] for hit in hits}


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({}, "image"),
        ({"image": "", "vector": [1.0]}, "vector"),
        ({"vector": [1.0] * 16, "width": "0.5"}, "space"),
        ({"vector": [1.0] * 16, "space": "tiny-space"}, "width"),
        ({"image": "not base64!"}, "image"),
        ({"image": 5}, "image"),
        ({"image": "", "metadata": []}, "metadata"),
        (
            {"vector": [1.0] * 16, "width": "0.5", "space": "tiny-space", "metadata": {"a": "x" * 20_000}},
            "metadata",
        ),
        ({"image": "", "colour": "red"}, "colour"),
        ({"image": ["", ""]}, "image"),
    ],
)
def test_what_does_not_fit_is_named(shop: Live, given: dict[str, Any], parameter: str) -> None:
    answer = shop.http.put("/items/wrong", json=given)
    assert answer.status_code == 422, answer.text
    assert answer.json()["parameter"] == parameter
    assert shop.http.get("/items/wrong").status_code == 404
