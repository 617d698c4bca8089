"""Whatever is sent, the response is a 4xx problem that names the parameter, and the service goes on working."""

import base64
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service.images import draw_image, half_a_jpeg, huge_png
from tests.service.live import Live

ROUTES = [("POST", "/embed"), ("POST", "/search"), ("PUT", "/items/bad")]
FORMS = ["raw", "multipart", "json"]
VECTOR = {"width": "0.5", "space": "tiny-space"}
DEEP = 100_000


@pytest.fixture(autouse=True)
def goes_on_working(live: Live) -> Iterator[None]:
    """After every bad request a good one is answered, and nothing has been stored."""
    yield
    assert live.http.get("/livez").status_code == 200
    hit = live.post_image("/search", draw_image(2), width="1.0", k=1).json()["hits"][0]
    assert hit["id"] == "item-2"
    assert live.http.get("/items/bad").status_code == 404


def refused(response: httpx.Response, parameter: str | None, *statuses: int) -> None:
    assert response.status_code in (statuses or (422,)), response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:sfsc:problem:{problem['code']}"
    assert problem["title"]
    assert problem["parameter"] == parameter
    assert parameter is None or parameter in problem["detail"]
    assert len(problem["detail"]) < 1000
    assert "Traceback" not in response.text


def send(live: Live, method: str, path: str, form: str, image: bytes, **options: Any) -> httpx.Response:
    if form == "raw":
        headers = {"Content-Type": "image/png"}
        return live.http.request(method, path, content=image, params=options, headers=headers)
    if form == "multipart":
        return live.http.request(method, path, files={"image": ("x", image)}, data=options)
    return live.http.request(method, path, json={"image": base64.b64encode(image).decode(), **options})


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("form", FORMS)
class TestImages:
    """The same bad images on every route that takes one, in every form."""

    @pytest.mark.parametrize(
        ("image", "code", "status"),
        [
            (b"", "image_not_recognised", 422),
            (b"hello, I am no image", "image_not_recognised", 422),
            (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "image_not_recognised", 422),
            (half_a_jpeg(), "image_damaged", 422),
            (huge_png(), "image_too_many_pixels", 413),
            (draw_image(1) + b"\0" * 200_000, "image_too_large", 413),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_not_recognised", 422),
        ],
        ids=["empty", "text", "broken header", "half a JPEG", "200 megapixels", "too many bytes", "SVG"],
    )
    def test_bad_images(
        self, live: Live, method: str, path: str, form: str, image: bytes, code: str, status: int
    ) -> None:
        response = send(live, method, path, form, image)
        refused(response, "image", status)
        assert response.json()["code"] == code

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("width", "0.3"), ("width", "wide"), ("width", "-1"), ("width", "nan"), ("width", "1e-3"),
            ("width", ""), ("latency_ms", "0"), ("latency_ms", "-5"), ("latency_ms", "nan"), ("latency_ms", "inf"),
            ("latency_ms", "soon"), ("gflops", "-1"), ("gflops", "NaN"), ("deadline_ms", "0"),
            ("deadline_ms", "1e99"), ("min_quality", "101"), ("min_quality", "-1"), ("min_quality", "best"),
            ("surprise", "1"), ("__proto__", "1"),
        ],
    )  # fmt: skip
    def test_bad_options(self, live: Live, method: str, path: str, form: str, name: str, value: str) -> None:
        refused(send(live, method, path, form, draw_image(1), **{name: value}), name)

    def test_limits_that_contradict_each_other(self, live: Live, method: str, path: str, form: str) -> None:
        both = {"min_quality": "79", "gflops": "0.001"}
        response = send(live, method, path, form, draw_image(1), **both)
        refused(response, "min_quality")
        assert response.json()["code"] == "contradictory_limits"


@pytest.mark.parametrize(("method", "path"), ROUTES)
class TestBodies:
    """Bodies that cannot be read at all."""

    @pytest.mark.parametrize(
        ("body", "parameter"),
        [
            (b"", "body"),
            (b"{", "body"),
            (b"null", "body"),
            (b"[]", "body"),
            (b'"image"', "body"),
            (b"\xff\xfe{}", "body"),
            (b'{"image": NaN', "body"),
            (b"[" * DEEP, "body"),
            (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "body"),
            (b'{"NaN":' * DEEP + b"1" + b"}" * DEEP, "body"),
        ],
        ids=[
            "empty",
            "cut off",
            "null",
            "list",
            "string",
            "UTF-16",
            "NaN cut off",
            "deep list",
            "deep",
            "deep NaN",
        ],
    )
    def test_bad_json(self, live: Live, method: str, path: str, body: bytes, parameter: str) -> None:
        response = live.http.request(method, path, content=body, headers={"Content-Type": "application/json"})
        refused(response, parameter, 400)

    @pytest.mark.parametrize("depth", [20, 200, 1000])
    @pytest.mark.parametrize("name", ["image", "width", "latency_ms", "surprise"])
    def test_deep_values(self, live: Live, method: str, path: str, depth: int, name: str) -> None:
        body = f'{{"{name}": {"[" * depth}{"]" * depth}}}'.encode()
        response = live.http.request(method, path, content=body, headers={"Content-Type": "application/json"})
        refused(response, name)

    @pytest.mark.parametrize(
        "kind", [None, "text/plain", "application/x-www-form-urlencoded", "video/mp4", "image", "§"]
    )
    def test_bodies_of_no_known_type(self, live: Live, method: str, path: str, kind: str | None) -> None:
        headers = {} if kind is None else {"Content-Type": kind.encode("latin-1")}
        refused(live.http.request(method, path, content=draw_image(1), headers=headers), "Content-Type", 415)

    @pytest.mark.parametrize(
        "kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x"]
    )
    def test_bad_multipart(self, live: Live, method: str, path: str, kind: str) -> None:
        response = live.http.request(method, path, content=b"--x\r\nno header\r\n", headers={"Content-Type": kind})
        refused(response, None, 400)

    def test_two_images_where_one_is_wanted(self, live: Live, method: str, path: str) -> None:
        files = [("image", (str(n), draw_image(n))) for n in range(5)]
        refused(live.http.request(method, path, files=files), "image")

    def test_a_file_where_text_is_wanted(self, live: Live, method: str, path: str) -> None:
        files = {"image": ("a", draw_image(1)), "width": ("b", b"0.5")}
        refused(live.http.request(method, path, files=files), "width")

    @pytest.mark.parametrize("announced", [True, False])
    def test_a_body_that_is_too_large_is_refused_announced_or_not(
        self, live: Live, method: str, path: str, announced: bool
    ) -> None:
        body = b"x" * 1_100_000
        content: Any = body if announced else iter([body[:600_000], body[600_000:]])
        response = live.http.request(method, path, content=content, headers={"Content-Type": "application/json"})
        refused(response, "body", 413)

    @pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"], ids=["sends at once", "asks first"])
    def test_a_body_announced_too_large_is_refused_before_it_is_sent(
        self, live: Live, method: str, path: str, expect: str
    ) -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n{expect}"
        response = say(live, f"{head}Content-Length: {10**12}\r\n\r\n".encode(), end=False)
        assert b"connection: close" in response.lower()
        assert response.startswith(b"HTTP/1.1 413 ")
        assert b"body_too_large" in response


@pytest.mark.parametrize(("method", "path"), [("POST", "/search"), ("PUT", "/items/bad")])
class TestVectors:
    """Vectors where vectors are taken."""

    @pytest.mark.parametrize(
        "vector",
        [[], [1.0], [1.0] * 15, [1.0] * 17, [0.0] * 16, [1.0] * 9000, "", "AAAA", "not base64", "A" * 200_000, 5,
         {}, [[1.0] * 16], ["a"] * 16, [None] * 16, [True] * 15,
         [True] * 16, ["1"] * 16],
    )  # fmt: skip
    def test_bad_vectors(self, live: Live, method: str, path: str, vector: Any) -> None:
        refused(live.http.request(method, path, json={"vector": vector, **VECTOR}), "vector")

    @pytest.mark.parametrize(
        ("number", "parameter", "status"),
        [
            ("NaN", "vector", 422),
            ("Infinity", "vector", 422),
            ("-Infinity", "vector", 422),
            ("1e999", "body", 400),
        ],
    )
    def test_numbers_that_are_not_finite(
        self, live: Live, method: str, path: str, number: str, parameter: str, status: int
    ) -> None:
        body = f'{{"width": "0.5", "space": "tiny-space", "vector": [{", ".join([number] * 16)}]}}'
        response = live.http.request(method, path, content=body, headers={"Content-Type": "application/json"})
        refused(response, parameter, status)

    def test_nan_in_base64(self, live: Live, method: str, path: str) -> None:
        nan = base64.b64encode(b"\0\0\xc0\x7f" * 16).decode()
        refused(live.http.request(method, path, json={"vector": nan, **VECTOR}), "vector")

    @pytest.mark.parametrize("space", ["", "other", "x" * 1000, 5, None])
    def test_bad_spaces(self, live: Live, method: str, path: str, space: Any) -> None:
        body = {"vector": [1.0] * 16, "width": "0.5", "space": space}
        refused(live.http.request(method, path, json=body), "space")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", 0), ("k", -1), ("k", 1025), ("k", 10**30), ("k", "many"), ("k", 1.5), ("k", [1]), ("k", True),
        ("k", None), ("exact", "perhaps"), ("exact", 7), ("id", ""), ("id", "x" * 10_000), ("id", 5), ("id", "\0"),
        ("filter", []), ("filter", "x"), ("filter", {"$and": 1}), ("filter", {}), ("filter", {"$near": {}}),
        ("filter", {"a": {"b": 1}}), ("filter", {"$and": []}), ("filter", {"$nor": [{"a": 1}]}),
        ("filter", json.loads('{"$and":[' * 50 + '{"a":1}' + "]}" * 50)),
    ],
)  # fmt: skip
def test_bad_search_options(live: Live, name: str, value: Any) -> None:
    body = {"id": "item-1", name: value} if name != "id" else {"id": value}
    refused(live.http.post("/search", json=body), name)


@pytest.mark.parametrize(
    "metadata",
    [[], "x", 5, {"a": "x" * 17_000}, json.loads('{"a":' * 200 + "1" + "}" * 200)],
    ids=lambda _: "metadata",
)
def test_bad_metadata(live: Live, metadata: Any) -> None:
    body = {"image": base64.b64encode(draw_image(1)).decode(), "metadata": metadata}
    refused(live.http.put("/items/bad", json=body), "metadata")


@pytest.mark.parametrize("name", ["filter", "metadata", "vector"])
@pytest.mark.parametrize("text", ["[", "{", "[1,", "[[[[["])
def test_options_that_should_be_json_and_are_not(live: Live, name: str, text: str) -> None:
    path, method = ("/items/bad", "PUT") if name == "metadata" else ("/search", "POST")
    if name == "vector" and not text.startswith("["):
        text = "[" + text
    response = live.http.request(method, path, files={name: (None, text)})
    refused(response, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "0"), ("limit", "1001"), ("limit", "x"), ("cursor", "!"), ("cursor", "x" * 3000), ("filter", "{"),
     ("filter", "[]"), ("vectors", "maybe"), ("encoding", "hex"), ("surprise", "1")],
)  # fmt: skip
def test_bad_pages(live: Live, name: str, value: str) -> None:
    refused(live.http.get("/items", params={name: value}), name)


def test_an_option_given_twice_in_the_address(live: Live) -> None:
    refused(
        live.http.post(
            "/embed?width=0.5&width=0.25", content=draw_image(1), headers={"Content-Type": "image/jpeg"}
        ),
        "width",
    )


@pytest.mark.parametrize("nonsense", [b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0\1\2\r\n\r\n"])
def test_bytes_that_are_not_http(live: Live, nonsense: bytes) -> None:
    assert say(live, nonsense, end=True).startswith(b"HTTP/1.1 400 ")


def say(live: Live, text: bytes, *, end: bool) -> bytes:
    """What a raw socket hears; `end` says that nothing more will be sent."""
    host, port = live.url.removeprefix("http://").split(":")
    heard = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(text)
        if end:
            connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            heard += part
    return heard


@pytest.mark.parametrize(
    "path",
    [
        "/align",
        "/quality",
        "/maintenance/backup",
        "/maintenance/check",
        "/maintenance/compact",
        "/maintenance/reembed",
    ],
)
def test_options_in_a_body_that_nothing_reads_are_refused(live: Live, path: str) -> None:
    """They would have no effect, and nobody would know."""
    refused(live.http.post(path, json={"name": "monday"}), "body")
    refused(live.http.post(path, content=iter([b'{"name": "monday"}'])), "body")
    assert live.http.get("/maintenance").json()["task"] is None
