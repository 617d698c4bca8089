"""POST /items: many at once, each with its own outcome."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.settings import Settings
from tests.service.images import draw_image, half_a_jpeg
from tests.service.live import Live, running

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def writable(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service to write to, with small limits."""
    settings = Settings(
        bundle=tiny.folder,
        data=tmp_path_factory.mktemp("writable"),
        port=0,
        threads=2,
        max_items=150,
        max_image_bytes=50_000,
        max_body_bytes=2_000_000,
    )
    with running(settings) as made:
        yield made


def lines(*items: Any) -> bytes:
    return b"\n".join(json.dumps(item).encode() for item in items)


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def post(live: Live, **request: Any) -> dict[str, Any]:
    response = live.http.post("/items", **request)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def test_ndjson_stores_each_line_as_it_says(writable: Live) -> None:
    items = [
        {"id": f"line-{n}", "image": encoded(draw_image(n)), "width": ["0.25", "1.0"][n % 2], "metadata": {"n": n}}
        for n in range(100)
    ]
    document = post(writable, content=lines(*items), headers=NDJSON)
    assert (document["stored"], document["failed"]) == (100, 0)
    assert [result["id"] for result in document["results"]] == [item["id"] for item in items]
    assert [result["width"] for result in document["results"]] == [item["width"] for item in items]
    for n in (0, 63, 64, 99):
        found = writable.post_image("/search", draw_image(n), width="0.5", k=1).json()["hits"][0]
        assert (found["id"], found["metadata"]) == (f"line-{n}", {"n": n})


def test_one_bad_line_is_one_bad_outcome(writable: Live) -> None:
    vector = writable.post_image("/embed", draw_image(70), width="0.25").json()["results"][0]["embedding"]
    good = {"id": "good", "image": encoded(draw_image(71)), "width": "0.25"}
    given = {"id": "vector", "vector": vector, "width": "0.25", "space": "tiny-space"}
    bad = [
        (b"{", 400, "invalid_json"),
        (b"[1]", 400, "invalid_json"),
        (lines({"image": encoded(draw_image(1))}), 422, "invalid_parameter"),
        (lines({**good, "id": "x" * 300}), 422, "invalid_parameter"),
        (lines({**good, "width": "0.3"}), 422, "unknown_width"),
        (lines({**good, "surprise": 1}), 422, "invalid_parameter"),
        (lines({"id": "none"}), 422, "invalid_parameter"),
        (lines({"id": "half", "image": encoded(half_a_jpeg())}), 422, "image_damaged"),
        (lines({"id": "text", "image": encoded(b"hello")}), 422, "image_not_recognised"),
        (lines({"id": "large", "image": encoded(b"\xff" * 60_000)}), 413, "image_too_large"),
        (lines({"id": "v", "vector": [0.0] * 16, "width": "0.25", "space": "tiny-space"}), 422, "vector_invalid"),
        (lines({**given, "id": "m", "metadata": {"a": "x" * 20_000}}), 422, "metadata_invalid"),
    ]  # fmt: skip
    body = b"\n\n".join([lines(good), *(line for line, _, _ in bad), lines(given)])
    document = post(writable, content=body, headers=NDJSON)
    outcomes = [(result["status"], result.get("code")) for result in document["results"]]
    assert outcomes == [(200, None), *((status, code) for _, status, code in bad), (200, None)]
    assert (document["stored"], document["failed"]) == (2, len(bad))
    for one in ("good", "vector"):
        assert writable.http.get(f"/items/{one}").status_code == 200
    for one in ("half", "text", "large", "v", "m", "none"):
        assert writable.http.get(f"/items/{one}").status_code == 404


@pytest.mark.parametrize("path", ["/items", "/search"])
def test_half_a_character_in_a_line_costs_the_others_nothing(writable: Live, path: str) -> None:
    bad = ['{"id": "\\ud800", "deadline_ms": NaN}', '{"id": "a", "metadata": {"\\ud800": NaN}}']
    response = writable.http.post(path, content="\n".join([*bad, "{}"]), headers=NDJSON)
    assert response.status_code == 200, response.text
    assert [one["status"] for one in response.json()["results"]] == [400, 400, 422]


def test_the_last_of_several_items_with_one_id_stays(writable: Live) -> None:
    body = lines(*({"id": "same", "image": encoded(draw_image(n)), "metadata": {"n": n}} for n in range(3)))
    document = post(writable, content=body, headers=NDJSON)
    assert document["stored"] == 3
    assert writable.http.get("/items/same").json()["metadata"] == {"n": 2}


def test_options_of_the_query_hold_for_every_line_that_has_none_of_its_own(writable: Live) -> None:
    body = lines(
        {"id": "d1", "image": encoded(draw_image(1))},
        {"id": "d2", "image": encoded(draw_image(1)), "width": "0.5"},
    )
    document = post(writable, content=body, headers=NDJSON, params={"width": "0.25"})
    assert [result["width"] for result in document["results"]] == ["0.25", "0.5"]


def test_multipart_takes_ids_and_metadata_by_position(writable: Live) -> None:
    files = [("image", (f"{n}.jpg", draw_image(n))) for n in range(3)]
    fields = {"id": ["m/0", "m/1", "m/2"], "metadata": ['{"n": 0}', '{"n": 1}', "5"], "width": "0.75"}
    document = post(writable, files=files, data=fields)
    assert [(r["id"], r["status"]) for r in document["results"]] == [("m/0", 200), ("m/1", 200), ("m/2", 422)]
    assert writable.http.get("/items/m%2F1").json()["metadata"] == {"n": 1}
    assert writable.http.get("/items/m%2F1").json()["width"] == "0.75"


def test_multipart_without_ids_takes_the_file_names(writable: Live) -> None:
    files = [("image", ("first.jpg", draw_image(1))), ("image", ("second.jpg", b"nothing"))]
    document = post(writable, files=files)
    assert [(r["id"], r["status"]) for r in document["results"]] == [("first.jpg", 200), ("second.jpg", 422)]


@pytest.mark.parametrize(
    ("request_", "status", "parameter"),
    [
        ({"files": [("image", ("a.jpg", b"x"))], "data": {"id": ["1", "2"]}}, 422, "id"),
        ({"files": [("image", ("a.jpg", b"x"))], "data": {"metadata": ["{}", "{}"]}}, 422, "metadata"),
        ({"files": [("image", ("a.jpg", b"x"))], "data": {"width": "5"}}, 422, "width"),
        ({"files": [("image", ("a.jpg", b"x"))], "data": {"surprise": "5"}}, 422, "surprise"),
        ({"files": [("other", ("a.jpg", b"x"))]}, 422, "other"),
        ({"data": {"id": "1"}, "files": [("image", (None, "text"))]}, 422, "image"),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "Content-Type"),
        ({"content": b"{}"}, 415, "Content-Type"),
        ({"content": b"{}", "headers": {"Content-Type": "multipart/form-data"}}, 400, None),
        (
            {"content": b"--x\r\nno header", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            400,
            None,
        ),
        ({"content": b"--x--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 422, "image"),
        ({"content": b"x" * 2_000_001, "headers": NDJSON}, 413, "body"),
    ],
)
def test_a_call_that_cannot_be_read_is_refused_as_a_whole(
    writable: Live, request_: dict[str, Any], status: int, parameter: str | None
) -> None:
    response = writable.http.post("/items", **request_)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["parameter"] == parameter


def test_more_lines_than_allowed_end_the_call_with_an_outcome_that_says_so(writable: Live) -> None:
    body = lines(*({"id": f"many-{n}", "image": encoded(draw_image(1, size=8))} for n in range(160)))
    document = post(writable, content=body, headers=NDJSON)
    assert (document["stored"], document["failed"]) == (150, 1)
    assert document["results"][-1]["code"] == "limit_exceeded"
    assert writable.http.get("/items/many-149").status_code == 200
    assert writable.http.get("/items/many-150").status_code == 404


def test_a_line_longer_than_any_item_ends_the_call(writable: Live) -> None:
    body = lines({"id": "before", "image": encoded(draw_image(1))}) + b"\n" + b"x" * 1_500_000
    document = post(writable, content=body, headers=NDJSON)
    assert [(r["status"], r.get("code")) for r in document["results"]] == [(200, None), (413, "body_too_large")]


def test_lines_may_come_in_any_pieces(writable: Live) -> None:
    body = lines(*({"id": f"piece-{n}", "image": encoded(draw_image(n, size=16))} for n in range(5))) + b"\n\n"

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 700):
            yield body[start : start + 700]

    document = post(writable, content=pieces(), headers=NDJSON)
    assert (document["stored"], document["failed"]) == (5, 0)


def test_an_empty_body_stores_nothing(writable: Live) -> None:
    assert post(writable, content=b"\n", headers=NDJSON)["results"] == []
