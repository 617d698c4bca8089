"""/items: put, get, list, image, delete; on a service of the module's own."""

import asyncio
import base64
import hashlib
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
def writable(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service to write to; every test uses ids of its own."""
    data = tmp_path_factory.mktemp("writable")
    with running(Settings(bundle=tiny.folder, data=data, port=0, threads=2, slo_ms=1000.0)) as made:
        yield made


def put(live: Live, form: str, id: str, image: bytes, options: dict[str, Any]) -> dict[str, Any]:
    path = f"/items/{quote(id, safe='')}"
    if form == "json":
        response = live.http.put(path, json={"image": base64.b64encode(image).decode(), **options})
    else:
        text = {name: json.dumps(value) if name == "metadata" else value for name, value in options.items()}
        if form == "raw":
            response = live.put_image(path, image, **text)
        else:
            response = live.http.put(path, files={"image": ("any.bin", image)}, data=text)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


@pytest.mark.parametrize("form", ["raw", "multipart", "json"])
def test_what_went_in_comes_back(writable: Live, form: str) -> None:
    named, metadata = f"form {form}", {"colour": "red", "tags": ["a", {"b": None}], "π": 3.5}
    stored = put(writable, form, named, draw_image(3), {"width": "0.5", "metadata": metadata})
    assert stored == {
        "id": named,
        "width": "0.5",
        "reason": "requested",
        "budget_met": True,
        "created": True,
        "timing_ms": stored["timing_ms"],
    }
    link = f"items/{quote(named, safe='')}/image"
    assert writable.http.get(f"/items/{quote(named, safe='')}").json() == {
        "id": named,
        "space": "tiny-space",
        "width": "0.5",
        "metadata": metadata,
        "image": link,
        "image_sha256": hashlib.sha256(draw_image(3)).hexdigest(),
    }
    shown = writable.http.get(f"/{link}")
    assert shown.content == draw_image(3)
    assert shown.headers["content-type"] == "image/jpeg"
    assert shown.headers["x-content-type-options"] == "nosniff"


def test_a_put_replaces(writable: Live) -> None:
    assert put(writable, "raw", "twice", draw_image(1), {"metadata": {"n": 1}})["created"] is True
    assert put(writable, "raw", "twice", draw_image(2, format="PNG"), {"width": "0.25"})["created"] is False
    item = writable.http.get("/items/twice").json()
    assert (item["width"], item["metadata"]) == ("0.25", {})
    assert writable.http.get("/items/twice/image").headers["content-type"] == "image/png"


def test_the_type_of_an_image_is_what_its_bytes_are(writable: Live) -> None:
    response = writable.http.put("/items/liar", content=draw_image(1), headers={"Content-Type": "image/svg+xml"})
    assert response.status_code == 200
    assert writable.http.get("/items/liar/image").headers["content-type"] == "image/jpeg"


def test_a_jpeg_with_further_images_behind_it_is_shown_as_a_jpeg(writable: Live) -> None:
    frames = [Image.open(io.BytesIO(draw_image(n))) for n in (1, 2)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "MPO", save_all=True, append_images=frames[1:])
    put(writable, "raw", "mpo", buffer.getvalue(), {})
    assert writable.http.get("/items/mpo/image").headers["content-type"] == "image/jpeg"


def test_an_image_has_a_tag_by_which_it_is_not_sent_again(writable: Live) -> None:
    put(writable, "raw", "tagged", draw_image(1), {})
    tag = writable.http.get("/items/tagged/image").headers["etag"]
    again = writable.http.get("/items/tagged/image", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    put(writable, "raw", "tagged", draw_image(2), {})
    assert writable.http.get("/items/tagged/image", headers={"If-None-Match": tag}).status_code == 200


def test_tag_and_bytes_of_an_image_are_of_one_version(writable: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps new bytes under an old tag would never see the old image again, nor the next one."""
    put(writable, "raw", "replaced", draw_image(1), {})
    gallery = writable.service.gallery
    image = gallery.image

    async def replaced_first(id: str) -> Any:
        await asyncio.to_thread(put, writable, "raw", "replaced", draw_image(2), {})
        return await image(id)

    monkeypatch.setattr(gallery, "image", replaced_first)
    found = writable.http.get("/items/replaced/image")
    assert found.headers["etag"] == f'"{hashlib.sha256(found.content).hexdigest()}"'


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_vector_of_an_edge_device_goes_in_and_is_found(writable: Live, encoding: str) -> None:
    result = writable.post_image("/embed", draw_image(40), width="0.25", encoding=encoding).json()["results"][0]
    given = {"vector": result["embedding"], "width": "0.25", "space": "tiny-space", "metadata": {"from": "edge"}}
    stored = writable.http.put(f"/items/edge-{encoding}", json=given)
    assert stored.status_code == 200, stored.text
    item = writable.http.get(f"/items/edge-{encoding}", params={"vectors": "true", "encoding": encoding}).json()
    assert item["image"] is None
    assert item["embedding"] == result["embedding"]
    hits = writable.post_image("/search", draw_image(40), width="1.0", filter='{"from": "edge"}').json()["hits"]
    assert f"edge-{encoding}" in {hit["id"] for hit in hits}
    assert {hit["image"] for hit in hits} == {None}
    missing = writable.http.get(f"/items/edge-{encoding}/image")
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
def test_ids_are_the_callers_strings(writable: Live, id: str) -> None:
    put(writable, "raw", id, draw_image(7), {"metadata": {"set": "ids", "id": id}, "width": "0.5"})
    hits = writable.post_image(
        "/search", draw_image(7), width="0.5", k=50, filter=json.dumps({"set": "ids", "$id": id})
    ).json()["hits"]
    assert [hit["id"] for hit in hits] == [id]
    assert writable.http.get(f"/{hits[0]['image']}").content == draw_image(7)
    path = f"/items/{quote(id, safe='')}"
    assert writable.http.get(path).json()["id"] == id
    assert writable.http.delete(path).status_code == 204
    assert writable.http.get(path).status_code == 404


@pytest.mark.parametrize("encoded", ["%00", "a%0Ab", "%FF", "%ED%A0%80", "x" * 257, "x" * 10_000, "%2E", "%2E%2E"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_ids_that_break_a_rule(writable: Live, encoded: str, method: str) -> None:
    # httpx would tidy dots away before they are sent, so the address goes in as raw bytes.
    request = writable.http.build_request(method, "/items/x", content=draw_image(1) if method == "PUT" else None)
    request.url = request.url.copy_with(raw_path=f"/items/{encoded}".encode())
    request.headers["Content-Type"] = "image/jpeg"
    response = writable.http.send(request)
    assert response.status_code == 422, response.text
    assert response.json()["parameter"] == "id"


def test_pages_list_every_item_once_in_order(writable: Live) -> None:
    for n in range(7):
        put(writable, "raw", f"page-{n}", draw_image(n), {"metadata": {"set": "pages"}, "width": "0.25"})
    wanted = {"limit": "3", "filter": '{"set": "pages"}', "vectors": "true"}
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = writable.http.get("/items", params=wanted | ({"cursor": cursor} if cursor else {})).json()
        seen += page["items"]
        cursor, pages = page["next"], pages + 1
    assert [item["id"] for item in seen] == [f"page-{n}" for n in range(7)]
    assert pages == 3
    assert all(np.linalg.norm(item["embedding"]) == pytest.approx(1.0, abs=1e-5) for item in seen)


def test_what_is_deleted_is_gone_and_not_found_any_more(writable: Live) -> None:
    put(writable, "raw", "short", draw_image(60), {"width": "1.0"})
    assert writable.post_image("/search", draw_image(60), width="1.0", k=1).json()["hits"][0]["id"] == "short"
    assert writable.http.delete("/items/short").status_code == 204
    assert writable.http.delete("/items/short").status_code == 404
    hits = writable.post_image("/search", draw_image(60), width="1.0", k=1000).json()["hits"]
    assert "short" not in {hit["id"] for hit in hits}


def test_items_are_counted_and_removed_by_a_filter(writable: Live) -> None:
    for n in range(5):
        put(writable, "raw", f"many-{n}", draw_image(n), {"metadata": {"many": n}, "width": "0.25"})
    wanted = {"filter": '{"many": {"$gte": 1}}'}
    assert writable.http.get("/items:count", params=wanted).json() == {"count": 4}
    everything = writable.http.get("/items:count").json()["count"]
    for limit, removed, remaining in ((3, 3, 1), (3, 1, 0), (3, 0, 0)):
        answer = writable.http.delete("/items", params=wanted | {"limit": limit}).json()
        assert answer == {"removed": removed, "remaining": remaining, "missing": []}
    assert writable.http.get("/items:count").json()["count"] == everything - 4
    assert writable.http.get("/items/many-0").status_code == 200


@pytest.mark.parametrize(
    ("params", "parameter"),
    [
        ({}, "filter"),
        ({"filter": "{}"}, "filter"),
        ({"filter": '{"a": 1}', "limit": "10001"}, "limit"),
        ({"filter": '{"a": 1}', "ids": '["a"]'}, "ids"),
        ({"ids": "a"}, "ids"),
        ({"ids": '["a", ""]'}, "ids"),
    ],
)
def test_a_removal_of_many_needs_a_filter_or_ids_and_is_bounded(
    writable: Live, params: dict[str, str], parameter: str
) -> None:
    response = writable.http.delete("/items", params=params)
    assert (response.status_code, response.json()["parameter"]) == (422, parameter)


def test_items_are_removed_by_their_ids(writable: Live) -> None:
    for n in range(4):
        put(writable, "raw", f"listed/{n}", draw_image(n), {"width": "0.25"})
    by_body = writable.http.request(
        "DELETE", "/items", json={"ids": ["listed/0", "nobody", "listed/0", "listed/1"]}
    )
    assert by_body.json() == {"removed": 2, "remaining": 0, "missing": ["nobody"]}
    by_query = writable.http.delete("/items", params={"ids": '["listed/2"]'})
    assert by_query.json() == {"removed": 1, "remaining": 0, "missing": []}
    too_many = writable.http.request("DELETE", "/items", json={"ids": ["listed/3"] * 1001})
    assert (too_many.status_code, too_many.json()["parameter"]) == (422, "ids")
    assert [writable.http.get(f"/items/listed%2F{n}").status_code for n in range(4)] == [404, 404, 404, 200]


@pytest.mark.parametrize("kind", ["application/merge-patch+json", "application/json; charset=utf-8"])
def test_a_patch_changes_the_metadata_alone(writable: Live, kind: str) -> None:
    put(writable, "raw", "patched", draw_image(4), {"metadata": {"n": 1, "place": {"city": "Bern"}, "old": 0}})
    before = writable.http.get("/items/patched?vectors=true").json()
    body = '{"metadata": {"n": 9007199254740993, "place": {"floor": 2}, "old": null}}'
    response = writable.http.patch("/items/patched", content=body, headers={"Content-Type": kind})
    expected = {"n": 9007199254740993, "place": {"city": "Bern", "floor": 2}}
    after = writable.http.get("/items/patched?vectors=true").json()
    assert after == {**before, "metadata": expected}
    assert response.json() == {name: value for name, value in after.items() if name != "embedding"}
    assert writable.http.get("/items/patched/image").content == draw_image(4)
    (found,) = writable.http.get("/items", params={"filter": '{"place.floor": 2}'}).json()["items"]
    assert found["id"] == "patched"


@pytest.mark.parametrize(
    ("id", "kind", "body", "status", "code"),
    [
        ("nobody", "application/json", '{"metadata": {}}', 404, "item_not_found"),
        ("kept", "text/plain", '{"metadata": {}}', 415, "unsupported_media_type"),
        ("kept", "application/json", "[]", 400, "invalid_json"),
        ("kept", "application/json", "{}", 422, "invalid_parameter"),
        ("kept", "application/json", '{"metadata": {}, "width": "0.5"}', 422, "invalid_parameter"),
        ("kept", "application/json", '{"metadata": null}', 422, "invalid_parameter"),
        ("kept", "application/json", f'{{"metadata": {{"a": "{"x" * 16_400}"}}}}', 422, "metadata_invalid"),
        ("kept", "application/json", '{"metadata": {"n": 9223372036854775808}}', 422, "metadata_invalid"),
    ],
)
def test_a_patch_that_is_refused_changes_nothing(
    writable: Live, id: str, kind: str, body: str, status: int, code: str
) -> None:
    put(writable, "raw", "kept", draw_image(4), {"metadata": {"n": 1}})
    response = writable.http.patch(f"/items/{id}", content=body, headers={"Content-Type": kind})
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert writable.http.get("/items/kept").json()["metadata"] == {"n": 1}


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
def test_a_broken_rule_names_its_parameter(writable: Live, given: dict[str, Any], parameter: str) -> None:
    response = writable.http.put("/items/wrong", json=given)
    assert response.status_code == 422, response.text
    assert response.json()["parameter"] == parameter
    assert writable.http.get("/items/wrong").status_code == 404
