"""HTTP as monitors, proxies and client libraries use it."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from sfsc_bundle.folder import Bundle
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import Live, running

IMAGE = draw_image(1)
BASE64 = base64.b64encode(IMAGE).decode()
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def own(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service to write to, with one item."""
    with running(Settings(bundle=tiny.folder, data=tmp_path_factory.mktemp("own"), port=0, threads=2)) as made:
        assert made.put_image("/items/x", IMAGE, width="0.25").status_code == 200
        yield made


def test_head_is_answered_wherever_get_is(own: Live) -> None:
    routes = {route.path for route in own.app.routes if isinstance(route, APIRoute) and "GET" in route.methods}
    for route in routes:
        path = re.sub(r"\{\w+\}", "x", route)
        get, head = own.http.get(path), own.http.head(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers["content-type"] == get.headers["content-type"], path
    assert {"/livez", "/items/{id}", "/items/{id}/image", "/docs", "/metrics", "/"} <= routes


def test_head_is_no_way_around_get(own: Live) -> None:
    assert own.http.head("/embed").status_code == 405
    assert own.http.head("/items/none").status_code == 404
    assert own.http.head("/nowhere").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/items/x", "DELETE, GET, HEAD, PATCH, PUT"),
        ("PATCH", "/items", "DELETE, GET, HEAD, POST"),
        ("GET", "/embed", "POST"),
        ("HEAD", "/search", "POST"),
        ("POST", "/livez", "GET, HEAD"),
        ("OPTIONS", "/items/a%2Fb/image", "GET, HEAD"),
    ],
)
def test_who_asks_with_another_method_is_told_all_that_are_allowed(
    own: Live, method: str, path: str, allowed: str
) -> None:
    response = own.http.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)


def below_prefix(live: Live) -> httpx.Client:
    """A client of a proxy that takes `/vision` off every path before it goes on."""

    class Stripping(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            assert request.url.raw_path.startswith(b"/vision/"), f"{request.url} leads out of the prefix"
            request.url = request.url.copy_with(raw_path=request.url.raw_path.removeprefix(b"/vision"))
            return super().handle_request(request)

    return httpx.Client(base_url=f"{live.url}/vision/", transport=Stripping(), trust_env=False)


@pytest.mark.parametrize("page", ["", "docs"])
def test_pages_lead_nowhere_outside_of_a_proxys_prefix(own: Live, page: str) -> None:
    with below_prefix(own) as client:
        text = client.get(page).text
        links = re.findall(r'(?:src|href)="([^"#:]+)"', text)
        assert links
        for link in links:
            assert client.get(client.base_url.join(link).path.removeprefix("/vision/")).status_code == 200, link


def test_the_document_of_the_api_is_relative_to_where_it_was_read(own: Live) -> None:
    with below_prefix(own) as client:
        assert client.get("openapi.json").json()["servers"][0]["url"] == "."


@pytest.mark.parametrize("text", [f"data:image/jpeg;base64,{BASE64}", "\r\n".join(re.findall(".{1,76}", BASE64))])
def test_images_in_json_as_browsers_and_mail_programs_write_them(own: Live, text: str) -> None:
    expected = own.post_image("/embed", IMAGE, width="0.5").json()["results"][0]["embedding"]
    response = own.http.post("/embed", json={"image": text, "width": "0.5"})
    assert response.json()["results"][0]["embedding"] == expected
    line = json.dumps({"id": "line", "image": text, "width": "0.5"})
    response = own.http.post("/items", content=line, headers={"Content-Type": "application/x-ndjson"})
    assert response.json()["stored"] == 1


def test_metadata_as_a_file_part(own: Live) -> None:
    files: dict[str, Any] = {"image": ("a.jpg", IMAGE), "metadata": ("m.json", b'{"colour": "red"}')}
    assert own.http.put("/items/put", files=files).status_code == 200
    assert own.http.post("/items", files=files, data={"id": "bulk"}).json()["stored"] == 1
    for name in ("put", "bulk"):
        assert own.http.get(f"/items/{name}").json()["metadata"] == {"colour": "red"}


def test_an_id_as_a_file_part(own: Live) -> None:
    response = own.http.post("/items", files={"image": ("a.jpg", IMAGE), "id": ("id.txt", b"from a file")})
    assert response.json()["results"][0]["id"] == "from a file"


def test_other_options_as_file_parts_are_refused(own: Live) -> None:
    response = own.http.post("/items", files={"image": ("a.jpg", IMAGE), "width": ("w.txt", b"0.5")})
    assert (response.status_code, response.json()["parameter"]) == (422, "width")


@pytest.mark.parametrize("number", [2**63, 2**64, 10**29, -(2**63) - 1])
def test_integers_beyond_64_bits_are_refused(own: Live, number: int) -> None:
    metadata = f'{{"n": {number}}}'
    for response in (
        own.put_image("/items/n", IMAGE, metadata=metadata),
        own.http.put("/items/n", content=f'{{"image": "{BASE64}", "metadata": {metadata}}}', headers=JSON),
        own.http.get("/items", params={"filter": metadata}),
        own.http.post("/search", content=f'{{"id": "x", "filter": {metadata}}}', headers=JSON),
    ):
        assert response.status_code == 422, response.text
        assert "64 bits" in response.json()["detail"]


@pytest.mark.parametrize("width", ["0.25", "1.0"])
def test_no_score_is_above_one(own: Live, width: str) -> None:
    """Of an image that is searched with itself, float32 gives 1.0000002 every now and then."""
    for seed in range(20):
        image = draw_image(seed)
        own.put_image("/items/self", image, width=width)
        hit = own.post_image("/search", image, width=width, k=1).json()["hits"][0]
        assert hit["score"] <= 1.0


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "us-ascii"])
def test_json_with_a_charset(own: Live, charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    assert own.http.post("/search", content='{"id": "x"}', headers=headers).status_code == 200


def test_json_in_latin_1(own: Live) -> None:
    headers = {"Content-Type": "application/json; charset=iso-8859-1"}
    body = f'{{"image": "{BASE64}", "metadata": {{"city": "Köln"}}}}'.encode("latin-1")
    assert own.http.put("/items/latin", content=body, headers=headers).status_code == 200
    assert own.http.get("/items/latin").json()["metadata"] == {"city": "Köln"}
    lines = {"Content-Type": "application/x-ndjson; charset=latin1"}
    assert own.http.post("/items", content=b'{"id": "K\xf6ln", ' + body[1:], headers=lines).json()["stored"] == 1
    assert own.http.get("/items/K%C3%B6ln").status_code == 200


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("charset", ["utf-16", "punycode", "nonsense"])
def test_other_charsets_are_refused(own: Live, kind: str, charset: str) -> None:
    response = own.http.post("/items", content=b"{}", headers={"Content-Type": f"{kind}; charset={charset}"})
    assert response.status_code == 415
    path = "/search" if kind != "application/x-ndjson" else "/items"
    response = own.http.post(path, content=b"{}", headers={"Content-Type": f"{kind}; charset={charset}"})
    assert (response.status_code, response.json()["parameter"]) == (415, "Content-Type")
