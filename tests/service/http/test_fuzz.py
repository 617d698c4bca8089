"""Hypothesis against every route: no input makes a 5xx, and the service goes on working."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.mutations import Mutations
from sfsc_bundle.image_formats import FormatName, available_formats
from tests.bundle.encoded_images import encoded, pattern
from tests.service.images import draw_image
from tests.service.live import Live
from tests.service.raw import connect, hear

# The service is the same for all examples on purpose: what one of them breaks, the next one meets.
lasting = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

NAMES = st.sampled_from(
    ["image", "width", "latency_ms", "gflops", "deadline_ms", "min_quality", "encoding", "k", "filter", "exact",
     "id", "vector", "space", "metadata", "limit", "cursor", "vectors", "crop",
     "input", "model", "encoding_format", "dimensions"]
) | st.text(max_size=8)  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["0.25", "tiny-space"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TEXT = st.text(max_size=40) | st.sampled_from(
    ["0.25", "1", "-1", "1e400", "{}", "[]", '{"a": {"$ne": 1}}', "true", "1,1,9,9", "0,0,9,9,5", "\0"]
)
ROUTES = st.sampled_from(
    [
        "POST /embed",
        "POST /search",
        "PUT /items/fuzz",
        "POST /items",
        "GET /items",
        "GET /items/fuzz",
        "POST /v1/embeddings",
    ]
)
REFUSED = {400, 404, 405, 413, 415, 421, 422, 429}


@pytest.fixture(autouse=True)
def nothing_left(live: Live) -> Iterator[None]:
    """Some of what is drawn is good, and stored; other tests count on the gallery as it was."""
    before = stored(live)
    yield
    for name in stored(live) - before:
        live.http.delete(f"/items/{quote(name, safe='')}")
    assert stored(live) == before


def stored(live: Live) -> set[str]:
    return {item["id"] for item in live.http.get("/items", params={"limit": 1000}).json()["items"]}


def check(live: Live, method: str, path: str, **request: Any) -> None:
    response = live.http.request(method, path, **request)
    # A deadline that cannot be met is the only thing that a client may ask for and get a 503.
    fine = response.status_code in {200, 204, *REFUSED} or response.json()["code"].startswith("deadline_")
    assert fine, response.text
    if response.status_code in REFUSED:
        problem = response.json()
        assert response.headers["content-type"] == "application/problem+json"
        assert problem["status"] == response.status_code
        assert problem["detail"]


@lasting
@given(route=ROUTES, document=st.dictionaries(NAMES, JSON, max_size=6))
def test_any_json(live: Live, route: str, document: dict[str, Any]) -> None:
    method, path = route.split()
    check(live, method, path, content=json.dumps(document), headers={"Content-Type": "application/json"})


@lasting
@given(
    route=ROUTES,
    options=st.dictionaries(NAMES, TEXT, max_size=4),
    image=st.sampled_from([draw_image(1, size=16), b"x", b""]),
)
def test_any_options_with_a_raw_image(live: Live, route: str, options: dict[str, str], image: bytes) -> None:
    method, path = route.split()
    check(live, method, path, params=options, content=image, headers={"Content-Type": "image/png"})


@lasting
@given(
    route=ROUTES,
    fields=st.dictionaries(NAMES, TEXT, max_size=4),
    images=st.lists(st.sampled_from([draw_image(1, size=16), b"x", b""]), max_size=3),
)
def test_any_multipart(live: Live, route: str, fields: dict[str, str], images: list[bytes]) -> None:
    method, path = route.split()
    files: list[tuple[str, Any]] = [("image", (f"fuzz-{n}", image)) for n, image in enumerate(images)]
    files += [(name, (None, value)) for name, value in fields.items()]
    check(live, method, path, files=files)


@lasting
@given(
    route=ROUTES,
    kind=st.sampled_from(
        [
            "application/json",
            "image/jpeg",
            "multipart/form-data; boundary=x",
            "application/x-ndjson",
            "text/plain",
            "",
        ]
    ),
    body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode),
)
def test_any_bytes(live: Live, route: str, kind: str, body: bytes) -> None:
    method, path = route.split()
    check(live, method, path, content=body, headers={"Content-Type": kind})


@lasting
@given(
    cuts=st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=4)), max_size=5),
    format=st.sampled_from(sorted(available_formats())),
)
def test_any_damage_to_an_image(live: Live, cuts: list[tuple[int, bytes]], format: FormatName) -> None:
    image = bytearray(encoded(format, pattern(24, 24)))
    for at, patch in cuts:
        image[at % len(image) : at % len(image) + len(patch)] = patch
    check(live, "POST", "/embed", content=bytes(image), headers={"Content-Type": "image/jpeg"})


@lasting
@given(id=st.text(min_size=1, max_size=300), method=st.sampled_from(["GET", "DELETE"]), image=st.booleans())
def test_any_id(live: Live, id: str, method: str, image: bool) -> None:
    encoded = quote(id, safe="", errors="replace")
    if encoded not in (".", "..") and not id.startswith("item-"):
        check(live, method, f"/items/{encoded}" + ("/image" if image else ""))


@pytest.mark.parametrize("seed", range(2))
def test_damaged_bytes_on_a_socket(live: Live, seed: int) -> None:
    """The long run is `make fuzz`."""
    mutations = Mutations(seed, [draw_image(1, size=16), b"x", b""])
    for _ in range(100):
        request = mutations.draw()
        with connect(live) as connection:
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            except OSError:  # cut off before everything was sent
                continue
            heard = hear(connection)
        statuses = {int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", heard)}
        assert statuses <= {100, 200, 204, *REFUSED} or b'"deadline_' in heard, (request, heard)


def test_and_it_still_works(live: Live) -> None:
    assert live.http.get("/readyz").status_code == 200
    assert live.post_image("/search", draw_image(3), width="0.5").json()["hits"][0]["id"] == "item-3"
    for leftover in live.http.get("/items").json()["items"]:
        if leftover["id"].startswith("fuzz"):
            live.http.delete(f"/items/{leftover['id']}")
