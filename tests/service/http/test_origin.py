"""Whose requests are heard: the Host that they name and the page that sends them, over a real socket."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from sfsc_bundle.folder import Bundle
from sfsc_service.errors import Problem
from sfsc_service.http.app import create_app
from sfsc_service.http.origin import check_page
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running

ROOT = Path(__file__).parents[3]
SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def named(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service with a name of its own and one foreign page that may call; it holds the item `kept`."""
    settings = Settings(
        bundle=tiny.folder,
        data=tmp_path_factory.mktemp("named"),
        port=0,
        threads=1,
        hosts="Vision.example, [fd00::7]",
        cors_origins=SHOP,
    )
    with running(settings) as live:
        assert live.put_image("/items/kept", draw_image(1)).status_code == 200
        yield live


CALLS = ("GET /items", "GET /items/kept/image", "POST /search", "PUT /items/kept", "DELETE /items/kept", "GET /")


def send(live: Live, call: str, **headers: str) -> httpx.Response:
    method, path = call.split()
    content = draw_image(2) if method in ("POST", "PUT") else None
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return live.http.request(method, path, content=content, headers=JPEG | given)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "10.1.2.3",
        "[fd00::8]:8000",
        "0.0.0.0",
        "a.b.",
        "a b",
        "<x>",
        "user@localhost",
        "localhost@evil",
    ],
)
def test_a_foreign_name_is_refused(named: Live, call: str, host: str) -> None:
    refused = send(named, call, Host=host)
    assert (refused.status_code, refused.json()["code"]) == (421, "foreign_host")
    assert "SFSC_HOSTS" in refused.json()["detail"]
    assert named.http.get("/items/kept").status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1:1",
        "127.8.9.1",
        "[::1]:8000",
        "sfsc:8000",
        "vision.example",
        "Vision.Example.:443",
        "[fd00::7]",
    ],
)
def test_its_own_names_are_served(named: Live, host: str) -> None:
    assert send(named, "GET /items", Host=host).status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /widths HTTP/1.1\r\n", b"400"),
        (b"GET /widths HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", b"400"),
        (b"GET /widths HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", b"400"),
        (b"GET /widths HTTP/1.0\r\n", b"200"),
    ],
)
def test_host_is_sent_once(named: Live, head: bytes, status: bytes) -> None:
    host, port = named.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head + b"Connection: close\r\n\r\n")
        assert connection.recv(65_536).split()[1] == status


def test_health_answers_under_any_name(named: Live) -> None:
    for path in ("/livez", "/readyz"):
        assert named.http.get(path, headers={"Host": "balancer.example"}).status_code == 200


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://shop.example.evil.example"},
        {"Origin": "https://shop.example:8443"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
    ],
)
def test_a_foreign_page_is_refused(named: Live, call: str, headers: dict[str, str]) -> None:
    refused = send(named, call, **headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in refused.headers
    assert named.http.get("/items/kept/image").content == draw_image(1)


@pytest.mark.parametrize(
    ("scheme", "origin", "is_own"),
    [
        ("https", b"https://vision.example", True),
        ("https", b"http://vision.example", False),
        ("http", b"http://vision.example", True),
        ("http", b"https://vision.example", True),
        ("http", b"ftp://vision.example", False),
    ],
)
def test_a_page_over_plain_http_is_none_of_a_service_over_https(scheme: str, origin: bytes, is_own: bool) -> None:
    with contextlib.nullcontext() if is_own else pytest.raises(Problem, match="Origin"):
        check_page(
            {"scheme": scheme, "method": "POST"}, {b"host": b"vision.example", b"origin": origin}, (), link=False
        )


def test_its_own_pages_and_programs_are_served(named: Live) -> None:
    own = named.url.removeprefix("http://")
    for headers in (
        {},
        {"Origin": f"http://{own}", "Sec_Fetch_Site": "same-origin"},
        {"Origin": "http://localhost:8000", "Host": "localhost:8000"},
        {"Origin": "https://vision.example", "Host": "vision.example"},
        {"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate"},
    ):
        assert send(named, "POST /search", **headers).status_code == 200, headers


def test_a_link_leads_to_the_pages_and_no_further(named: Live) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    for path in ("/", "/docs"):
        assert send(named, f"GET {path}", **link).status_code == 200
    for path in ("/items", "/items/kept/image", "/widths", "/metrics"):
        assert send(named, f"GET {path}", **link).status_code == 403


def test_a_page_that_is_named_may_call_and_read(named: Live) -> None:
    sent = "authorization,x-request-id,traceparent,if-none-match"
    wanted = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": sent}
    allowed = named.http.request(
        "OPTIONS", "/search", headers={"Origin": SHOP} | {k.replace("_", "-"): v for k, v in wanted.items()}
    )
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == SHOP
    assert allowed.headers["x-request-id"]
    assert "Authorization" in allowed.headers["access-control-allow-headers"]
    answer = send(named, "POST /search", Origin=SHOP, Sec_Fetch_Site="cross-site")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SHOP)
    problem = named.http.post("/search?width=7", content=draw_image(1), headers=JPEG | {"Origin": SHOP})
    assert (problem.status_code, problem.headers["access-control-allow-origin"]) == (422, SHOP)


def test_without_the_setting_no_page_of_another_origin_is_told_anything(live: Live) -> None:
    asked = {"Origin": SHOP, "Access-Control-Request-Method": "PUT"}
    preflight = live.http.request("OPTIONS", "/items/x", headers=asked)
    assert preflight.status_code == 403
    assert not [name for name in preflight.headers if name.startswith("access-control")]


def test_no_other_page_may_show_what_is_answered(live: Live) -> None:
    for path in ("/items/item-0/image", "/items", "/", "/nowhere"):
        assert live.http.get(path).headers["cross-origin-resource-policy"] == "same-origin"


def test_prometheus_may_scrape_by_the_address_that_it_was_given(settings: Settings) -> None:
    """Its job asks the DNS for addresses and sends them as Host; only the one that it has reached is served."""
    job = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())["scrape_configs"][0]
    lookup, *others = job["dns_sd_configs"]
    assert lookup["type"] == "A"
    assert all({**other, "names": lookup["names"]} == lookup for other in others)

    async def scrape(host: str, reached: str) -> int:
        app = create_app(settings)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:
            url = f"http://{reached}:{lookup['port']}/metrics"
            return (await client.get(url, headers={"Host": f"{host}:{lookup['port']}"})).status_code

    assert asyncio.run(scrape("172.18.0.2", "172.18.0.2")) == 200
    assert asyncio.run(scrape("172.18.0.2", "::ffff:172.18.0.2".join("[]"))) == 200
    assert asyncio.run(scrape("172.18.0.3", "172.18.0.2")) == 421
