"""The bound on JSON documents, over HTTP: images of any size pass, everything else counts."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import Live, running

IMAGES = [draw_image(n, size=200) for n in range(2)]
TEXTS = [base64.b64encode(image).decode() for image in IMAGES]
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def strict(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Takes documents of 2 KB, so that every image has to be cut out."""
    data = tmp_path_factory.mktemp("strict")
    with running(Settings(bundle=tiny.folder, data=data, port=0, threads=2, max_json_bytes=2048)) as made:
        yield made


def vectors(response: httpx.Response) -> list[list[float]]:
    assert response.status_code == 200, response.text
    return [one["embedding"] for one in response.json()["results"]]


def test_images_of_a_large_document_are_those_that_were_sent(strict: Live) -> None:
    expected = [vectors(strict.post_image("/embed", image, width="0.5"))[0] for image in IMAGES]
    assert len(TEXTS[0]) > 3000
    escaped = json.dumps({"image": TEXTS, "width": 0.5}).replace("/", "\\/")
    for body in (json.dumps({"width": "0.5", "image": TEXTS}), escaped):
        headers = {"Content-Type": "application/json"}
        assert vectors(strict.http.post("/embed", content=body, headers=headers)) == expected
    openai = {"model": "tiny@0.5", "input": [f"data:image/jpeg;base64,{text}" for text in TEXTS]}
    found = strict.http.post("/v1/embeddings", json=openai).json()
    assert [one["embedding"] for one in found["data"]] == expected
    lines = "\n".join(json.dumps({"id": f"n{n}", "image": text, "width": 0.5}) for n, text in enumerate(TEXTS))
    assert strict.http.post("/items", content=lines, headers=NDJSON).json()["stored"] == 2
    item = strict.http.get("/items/n1", params={"vectors": "true"}).json()
    assert item["embedding"] == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", "/embed", {"image": TEXTS[0], "surprise": TEXTS[1]}),
        ("POST", "/search", {"image": TEXTS[0], "filter": {"a": "x" * 3000}}),
        ("PUT", "/items/x", {"image": TEXTS[0], "metadata": {"image": "x" * 3000}}),
        ("PUT", "/items/x", {"vector": [0.1234567890123] * 300, "width": "0.5", "space": "tiny-space"}),
        ("POST", "/v1/embeddings", {"model": "tiny@0.5", "input": TEXTS[0], "user": "x" * 3000}),
    ],
)
def test_what_is_no_image_counts(strict: Live, method: str, path: str, document: dict[str, Any]) -> None:
    response = strict.http.request(method, path, json=document)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert "2560 bytes apart from its images" in response.json()["detail"], "2,048, and 16 numbers of a vector"


def test_an_ndjson_line_that_is_too_large_fails_alone(strict: Live) -> None:
    lines = [{"id": "a", "image": TEXTS[0], "metadata": {"a": "x" * 3000}}, {"id": "b", "image": TEXTS[1]}]
    body = "\n".join(json.dumps(line) for line in lines)
    results = strict.http.post("/items", content=body, headers=NDJSON).json()["results"]
    assert [result["status"] for result in results] == [413, 200]


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"model": "tiny@0.5"}, "input: is missing"),
        ({"model": "tiny@0.5", "input": {"a": 1}}, "input"),
        ({"model": "tiny@0.5", "input": None}, "input"),
        ({"model": "tiny@0.5", "input": [[1, 2, 3]]}, "input"),
        ({"model": "tiny@0.5", "input": [1] * 600}, "input"),
        ({"model": "tiny@0.5", "input": [TEXTS[0], 5]}, "input"),
        ({"input": TEXTS[0]}, "model: is missing"),
    ],
)
def test_wrong_inputs_of_openais_clients_are_named(strict: Live, body: dict[str, Any], rule: str) -> None:
    response = strict.http.post("/v1/embeddings", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    assert rule in response.json()["detail"]


def test_the_bound_is_told(strict: Live) -> None:
    assert strict.http.get("/widths").json()["limits"]["max_json_bytes"] == 2048


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/search", "application/json"),
        ("/items", "application/x-ndjson"),
        ("/items", "multipart/form-data; boundary=B"),
    ],
)
def test_a_content_type_that_takes_long_to_parse_is_refused(live: Live, path: str, kind: str) -> None:
    answer = live.http.post(path, content=b"{}", headers={"Content-Type": f'{kind}; x="{";" * 60_000}'})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert answer.json()["detail"].startswith("Content-Type: must have at most 1024 characters, found ")
