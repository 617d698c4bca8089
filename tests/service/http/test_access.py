"""Every route of the route table needs the scope that it declares, over a real socket; none can be forgotten."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from sfsc_bundle.folder import Bundle
from sfsc_service.errors import StartError
from sfsc_service.http.access import HEALTH_PATHS, Access, access_of
from sfsc_service.http.app import create_app
from sfsc_service.http.keys import file_line, make_key
from sfsc_service.settings import Settings
from tests.service.live import Live, running

SCOPES = ("read", "write", "admin")
NEEDED = {
    "POST /embed": "read",
    "POST /search": "read",
    "POST /search/duplicates": "read",
    "POST /v1/embeddings": "read",
    "GET /v1/models": "read",
    "GET /items": "read",
    "DELETE /items": "write",
    "GET /items:count": "read",
    "GET /items/{id}": "read",
    "GET /items/{id}/image": "read",
    "GET /samples": "read",
    "GET /samples/{name}": "read",
    "GET /widths": "read",
    "GET /quality": "read",
    "POST /quality": "admin",
    "DELETE /quality": "admin",
    "GET /align": "read",
    "POST /align": "admin",
    "DELETE /align": "admin",
    "GET /maintenance": "admin",
    "POST /maintenance/check": "admin",
    "POST /maintenance/backup": "admin",
    "POST /maintenance/compact": "admin",
    "POST /maintenance/reembed": "admin",
    "DELETE /maintenance": "admin",
    "POST /items": "write",
    "PUT /items/{id}": "write",
    "PATCH /items/{id}": "write",
    "DELETE /items/{id}": "write",
    "GET /collections": "read",
    "GET /collections/{collection}": "read",
    "PUT /collections/{collection}": "admin",
    "DELETE /collections/{collection}": "admin",
    "GET /metrics": "metrics",
    "GET /livez": "health",
    "GET /readyz": "health",
}
NEEDED |= {
    call.replace(" /", " /collections/{collection}/"): needed
    for call, needed in NEEDED.items()
    if "/search" in call or "/items" in call
}
"""What the API's routes need; those of a gallery are there for every collection, too. All others are pages and
documents, which are files of the package."""
UNROUTED = ("/nowhere", "/x//embed", "/embed/", "/items/", "/%65mbed", "/metrics/", "/%6detrics", "/livez/x")


@pytest.fixture(scope="module")
def keys() -> dict[str, tuple[str, str]]:
    """Scope → a key that has this scope alone, and its line."""
    made = {}
    for scope in SCOPES:
        key, entry = make_key([scope])
        made[scope] = key, file_line(f"only-{scope}", entry)
    return made


@pytest.fixture(scope="module")
def guarded(
    tiny: Bundle, tmp_path_factory: pytest.TempPathFactory, keys: dict[str, tuple[str, str]]
) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "keys.toml"
    file.write_text("\n".join(line for _, line in keys.values()))
    with running(Settings(bundle=tiny.folder, data=folder / "data", port=0, threads=1, keys=file)) as made:
        yield made


def calls(app: FastAPI) -> list[tuple[str, str, Access]]:
    """Method, path and access of every route of the table, parameters filled in; a GET answers HEAD, too."""
    found = [
        (method, re.sub(r"\{\w+\}", "x", route.path), access_of(route))
        for route in app.routes
        if isinstance(route, Route)
        for method in sorted((route.methods or set()) | ({"HEAD"} if "GET" in (route.methods or ()) else set()))
    ]
    assert len(found) > len(NEEDED) + 20, "the page's files are routes, too"
    return found


def ask(live: Live, method: str, path: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return live.http.request(method, path, headers=headers)


def test_the_routes_of_the_api_declare_what_they_need(settings: Settings) -> None:
    app = create_app(settings)
    declared = {
        f"{method} {route.path}": access_of(route)
        for route in app.routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert declared == NEEDED
    others = {access_of(route) for route in app.routes if getattr(route, "path", "") not in _paths(NEEDED)}
    assert others == {"open"}


def _paths(calls: dict[str, str]) -> set[str]:
    return {call.split()[1] for call in calls}


def test_every_route_is_closed_without_its_scope_and_open_with_it(
    guarded: Live, keys: dict[str, tuple[str, str]]
) -> None:
    for method, path, access in calls(guarded.app):
        call = f"{method} {path}"
        if access in ("open", "health"):
            assert ask(guarded, method, path).status_code in (200, 404), call
            continue
        scope = "admin" if access == "metrics" else access
        missing, unknown = ask(guarded, method, path), ask(guarded, method, path, "sfsc_guessed")
        assert (missing.status_code, unknown.status_code) == (401, 401), call
        assert missing.headers["www-authenticate"] == "Bearer", call
        for other in SCOPES:
            status = ask(guarded, method, path, keys[other][0]).status_code
            assert status not in (401, 500), call
            closed = other != scope or method == "PATCH"  # which needs two, as the test below says
            assert (status == 403) == closed, f"{call} with {other}"


def test_what_no_route_answers_is_closed_too(guarded: Live, keys: dict[str, tuple[str, str]]) -> None:
    for path in UNROUTED:
        for method in ("GET", "POST", "DELETE", "TRACE"):
            assert ask(guarded, method, path).status_code == 401, path
            assert ask(guarded, method, path, keys["read"][0]).status_code in (404, 405), path
    assert ask(guarded, "TRACE", "/items/x").status_code == 401
    assert ask(guarded, "PUT", "/items", keys["read"][0]).status_code == 405


def test_a_request_that_is_refused_stores_and_deletes_nothing(
    guarded: Live, keys: dict[str, tuple[str, str]]
) -> None:
    vector = {"vector": [1.0] + [0.0] * 15, "width": "0.25", "space": guarded.service.manifest.space}
    write = {"X-API-Key": keys["write"][0]}
    assert guarded.http.put("/items/kept", json=vector, headers=write).status_code == 200
    read = {"X-API-Key": keys["read"][0]}
    assert guarded.http.put("/items/new", json=vector, headers=read).status_code == 403
    assert guarded.http.delete("/items/kept", headers=read).status_code == 403
    assert guarded.http.delete("/items/kept").status_code == 401
    items = guarded.http.get("/items", headers=read).json()["items"]
    assert [item["id"] for item in items] == ["kept"]
    assert guarded.http.delete("/items/kept", headers=write).status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer {}"},
        {"Authorization": "bearer  {}"},
        {"X-API-Key": "{}"},
        {"X-API-Key": "{}", "Authorization": "Basic dXNlcjpwYXNz"},
    ],
)
def test_a_key_travels_in_either_header(
    guarded: Live, keys: dict[str, tuple[str, str]], headers: dict[str, str]
) -> None:
    filled = {name: value.format(keys["read"][0]) for name, value in headers.items()}
    assert guarded.http.get("/items", headers=filled).status_code == 200


@pytest.mark.parametrize("value", [b"Bearer \xff\xfe", b"Bearer", b"sfsc_x", b"\x80" * 9000])
def test_no_header_is_an_error_of_the_service(guarded: Live, value: bytes) -> None:
    for name in (b"Authorization", b"X-API-Key"):
        assert guarded.http.get("/items", headers=[(name, value)]).status_code == 401


def test_refusals_are_counted_and_name_no_key(guarded: Live, keys: dict[str, tuple[str, str]]) -> None:
    problem = ask(guarded, "DELETE", "/items/x", keys["read"][0]).json()
    assert problem["code"] == "scope_missing"
    assert problem["detail"] == "the key only-read must have the scope write, found read"
    text = ask(guarded, "GET", "/metrics", keys["admin"][0]).text
    assert re.search(r'sfsc_problems_total\{code="scope_missing"\} [1-9]', text)
    assert all(key not in text for key, _ in keys.values())


def test_the_log_names_who_was_refused(
    guarded: Live, keys: dict[str, tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ask(guarded, "DELETE", "/items/x", keys["read"][0])
    ask(guarded, "GET", "/items", "sfsc_wrong")
    text = caplog.text
    assert "DELETE '/items/x' is answered with 403 to only-read at 127.0.0.1" in text
    assert "GET '/items' is answered with 401 to anybody at 127.0.0.1" in text


def test_what_a_change_answers_is_for_those_who_may_read(guarded: Live, keys: dict[str, tuple[str, str]]) -> None:
    refused = guarded.http.patch(
        "/items/x", json={"metadata": {}}, headers={"Authorization": f"Bearer {keys['write'][0]}"}
    )
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert "must have the scope read, because the response is the item" in refused.json()["detail"]


def test_metrics_may_be_open(tiny: Bundle, tmp_path: Path, keys: dict[str, tuple[str, str]]) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(keys["read"][1])
    settings = Settings(
        bundle=tiny.folder, data=tmp_path / "data", port=0, threads=1, keys=file, open_metrics=True
    )
    with running(settings) as live:
        assert live.http.get("/metrics").status_code == 200
        assert live.http.get("/items").status_code == 401


def test_a_file_without_keys_lets_nobody_in(tiny: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.touch()
    settings = Settings(bundle=tiny.folder, data=tmp_path / "data", port=0, threads=1, keys=file)
    with running(settings) as live:
        assert live.http.get("/items").status_code == 401


def undeclared(app: FastAPI) -> None:
    app.add_api_route("/new", lambda: "forgotten")


def mounted(app: FastAPI) -> None:
    app.routes.append(Mount("/new", PlainTextResponse("forgotten")))


@pytest.mark.parametrize("forget", [undeclared, mounted])
def test_a_route_that_declares_nothing_is_refused_before_anything_is_served(settings: Settings, forget) -> None:
    app = create_app(settings)
    forget(app)

    async def ask_it() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            await client.get("/livez")

    with pytest.raises(StartError, match="/new declares no access"):
        asyncio.run(ask_it())


def test_the_document_says_which_scope_an_operation_needs(guarded: Live, live: Live) -> None:
    def scopes(document: dict) -> dict[str, object]:
        return {
            f"{method.upper()} {path}": operation.get("security")
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        }

    document = guarded.http.get("/openapi.json").json()
    for call, security in scopes(document).items():
        scope = {"metrics": "admin", "health": None}.get(NEEDED[call], NEEDED[call])
        assert security == (None if scope is None else [{"bearer": [scope]}, {"header": [scope]}]), call
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    assert set(scopes(live.http.get("/openapi.json").json()).values()) == {None}, "without keys none is needed"


def test_the_paths_of_health_are_those_of_the_routes_that_need_nothing() -> None:
    assert {route.partition(" ")[2] for route, needed in NEEDED.items() if needed == "health"} == HEALTH_PATHS
