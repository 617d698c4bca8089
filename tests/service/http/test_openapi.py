"""The service keeps what its own OpenAPI document says: schemathesis against the real socket."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from sfsc_bundle.folder import Bundle
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import Live, running


def no_failure_of_the_service(
    _context: schemathesis.CheckContext, response: Any, _case: schemathesis.Case
) -> None:
    """A deadline that cannot be kept is the one thing that a caller may ask for and get a 5xx for."""
    if response.status_code >= 500:
        assert response.json()["code"] in ("deadline_unreachable", "deadline_passed"), response.text


CHECKS = [
    no_failure_of_the_service,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]

OPERATIONS = [
    "POST /embed",
    "POST /search",
    "POST /search/duplicates",
    "PUT /items/{id}",
    "PATCH /items/{id}",
    "GET /items/{id}",
    "DELETE /items/{id}",
    "GET /items/{id}/image",
    "GET /items",
    "DELETE /items",
    "GET /items:count",
    "POST /items",
    "POST /v1/embeddings",
    "GET /v1/models",
    "GET /collections",
    "GET /collections/{collection}",
    "PUT /collections/{collection}",
    "DELETE /collections/{collection}",
    "GET /samples",
    "GET /samples/{name}",
    "GET /widths",
    "GET /quality",
    "POST /quality",
    "DELETE /quality",
    "GET /align",
    "POST /align",
    "DELETE /align",
    "GET /maintenance",
    "POST /maintenance/check",
    "POST /maintenance/backup",
    "POST /maintenance/compact",
    "POST /maintenance/reembed",
    "DELETE /maintenance",
    "GET /livez",
    "GET /readyz",
    "GET /metrics",
]

IN_COLLECTIONS = [
    one.replace(" /", " /collections/{collection}/") for one in OPERATIONS if "/search" in one or "/items" in one
]
"""The same endpoints for every collection, described alike."""


@pytest.fixture(scope="module")
def writable(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service that anybody may fill and empty."""
    data = tmp_path_factory.mktemp("writable")
    with running(Settings(bundle=tiny.folder, data=data, port=0, threads=2, slo_ms=1000.0)) as made:
        for n in range(3):
            made.put_image(f"/items/{n}", draw_image(n))
        yield made


@pytest.fixture(scope="module")
def document(writable: Live) -> schemathesis.BaseSchema:
    """What the service says of itself."""
    schema: schemathesis.BaseSchema = schemathesis.openapi.from_url(f"{writable.url}/openapi.json")
    return schema


def test_no_operation_is_left_out(document: schemathesis.BaseSchema) -> None:
    named = {f"{one.ok().method.upper()} {one.ok().path}" for one in document.get_all_operations()}
    assert named == {*OPERATIONS, *IN_COLLECTIONS}


def test_routes_in_a_collection_are_described_as_those_without_one(live: Live) -> None:
    paths = live.http.get("/openapi.json").json()["paths"]
    for operation in IN_COLLECTIONS:
        method, path = operation.split()
        found = paths[path][method.lower()]
        wanted = paths[path.removeprefix("/collections/{collection}")][method.lower()]
        name = next(one for one in found["parameters"] if one["name"] == "collection")
        assert (name["in"], name["required"]) == ("path", True)
        found["parameters"].remove(name)
        assert found["responses"].keys() == wanted["responses"].keys() | {"404", "422"}
        for member in ("tags", "summary", "requestBody"):
            assert found.get(member) == wanted.get(member)
        assert found["parameters"] == wanted.get("parameters", [])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_response_is_as_documented(document: schemathesis.BaseSchema, operation: str) -> None:
    method, path = operation.split()
    described = document[path][method]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=described.as_strategy())
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    check()


TAKE_NOTHING = {"POST /maintenance/check", "POST /maintenance/compact"}  # so that nothing in them can be wrong


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if ("items" in one or "POST" in one) and one not in TAKE_NOTHING]
)
def test_what_is_not_as_documented_is_refused_as_documented(
    document: schemathesis.BaseSchema, operation: str
) -> None:
    method, path = operation.split()
    described = document[path][method]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=described.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    check()


def test_calls_go_below_the_prefix_of_the_document(live: Live) -> None:
    """A proxy may serve everything below a prefix and strip it."""
    (server,) = live.http.get("/openapi.json").json()["servers"]
    assert urljoin("https://proxy/vision/openapi.json", server["url"]) == "https://proxy/vision/"
