"""A log line for every write: who, from where, what, which item, and what became of it."""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.client.arrow import arrow_body
from sfsc_service.http import bulk_results
from sfsc_service.http.arrow_items import ARROW
from sfsc_service.http.keys import file_line, make_key
from sfsc_service.settings import Settings
from sfsc_service.store.protocol import Item, Outcome
from tests.service.command import serving, until_ready
from tests.service.faulty import until
from tests.service.images import draw_image
from tests.service.live import JPEG, Live, running
from tests.service.raw import connect, request_head

LOGGER = "sfsc_service.http.audit"


@pytest.fixture(scope="module")
def audited(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Its client is the key `camera-1`, behind a proxy that says so for some calls."""
    folder = tmp_path_factory.mktemp("audited")
    key, entry = make_key(["read", "write"])
    (folder / "keys.toml").write_text(file_line("camera-1", entry))
    settings = Settings(
        bundle=tiny.folder,
        data=folder / "data",
        port=0,
        threads=1,
        keys=folder / "keys.toml",
        trusted_proxies="127.0.0.0/8,10.9.0.0/16",
    )
    with running(settings) as live:
        live.http.headers["X-API-Key"] = key
        yield live


def audit(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == LOGGER]


def test_single_writes(audited: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    for _ in range(2):
        audited.put_image("/items/a%2Fb", draw_image(1))
    audited.put_image("/items/bad", b"no image")
    audited.http.patch("/items/a%2Fb", json={"metadata": {"n": 1}})
    audited.http.delete("/items/a%2Fb")
    audited.http.delete("/items/a%2Fb")
    audited.put_image("/items/c", draw_image(1))
    audited.http.request("DELETE", "/items", json={"ids": ["c", "nobody"]})
    audited.http.get("/items")
    audited.post_image("/search", draw_image(1))
    who = "camera-1 at 127.0.0.1"
    assert audit(caplog) == [
        f"{who}: put item 'a/b': created",
        f"{who}: put item 'a/b': replaced",
        f"{who}: put item 'bad': image_not_recognised",
        f"{who}: patch item 'a/b': replaced",
        f"{who}: delete item 'a/b': removed",
        f"{who}: delete item 'a/b': item_not_found",
        f"{who}: put item 'c': created",
        f"{who}: delete item 'c': removed",
    ]


def test_every_item_of_a_bulk_call(audited: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    files = [("image", (name, data, "image/jpeg")) for name, data in (("x", draw_image(1)), ("y", b"no image"))]
    assert audited.http.post("/items", files=files).status_code == 200
    assert audit(caplog) == [
        "camera-1 at 127.0.0.1: put item 'x': created",
        "camera-1 at 127.0.0.1: put item 'y': image_not_recognised",
    ]


def test_items_of_a_bulk_call_whose_client_leaves_while_they_are_stored(
    audited: Live, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    gallery = audited.service.gallery
    commit, stored = gallery.commit, threading.Event()

    async def slow(items: Sequence[Item]) -> list[Outcome | Exception]:
        outcomes = await commit(items)
        stored.set()
        await asyncio.sleep(60)
        return outcomes

    monkeypatch.setattr(gallery, "commit", slow)
    form = httpx.Request(
        "POST",
        f"{audited.url}/items",
        headers=audited.http.headers,
        files=[("image", (name, draw_image(1), "image/jpeg")) for name in ("p", "q")],
    )
    head = b"".join(name + b": " + value + b"\r\n" for name, value in form.headers.raw)
    host, port = audited.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(b"POST /items HTTP/1.1\r\n" + head + b"\r\n" + form.read())
        assert stored.wait(30)
    until(lambda: len(audit(caplog)) == 2)
    assert audit(caplog) == [f"camera-1 at 127.0.0.1: put item '{name}': outcome_unknown" for name in ("p", "q")]
    assert audited.http.get("/items/q").status_code == 200


@pytest.mark.parametrize("kind", ["application/x-ndjson", ARROW])
def test_what_became_of_items_is_logged_where_the_client_leaves_before_all_is_written(
    audited: Live, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    begun = threading.Event()

    async def slow(_seconds: float) -> None:
        begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(bulk_results, "asyncio", SimpleNamespace(sleep=slow))
    manifest = audited.service.manifest
    ids = [f"{len(kind)}-{n}" for n in range(bulk_results.AT_ONCE + 2)]
    vectors = np.eye(len(ids), manifest.dimension, dtype=np.float32) + 0.1
    if kind == ARROW:
        body = arrow_body(ids, vectors, [{}] * len(ids))
    else:
        body = "\n".join(
            json.dumps({"id": one, "vector": vector.tolist()}) for one, vector in zip(ids, vectors, strict=True)
        ).encode()
    options = f"width=1.0&space={manifest.space}"
    head = request_head(
        "POST",
        f"/items?{options}",
        Content_Type=kind,
        Content_Length=len(body),
        X_API_Key=audited.http.headers["X-API-Key"],
    )
    with connect(audited) as client:
        client.sendall(head + body)
        assert begun.wait(30)
    until(lambda: len(audit(caplog)) == len(ids))
    assert audit(caplog) == [f"camera-1 at 127.0.0.1: put item '{one}': created" for one in ids]


@pytest.mark.parametrize(
    ("forwarded", "seen"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7, 10.9.1.1", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("fe80::1%x: put item 'forged': created", "fe80::1"),
        ("admin at 203.0.113.7: delete item 'x': removed", "an unknown address"),
    ],
)
def test_a_trusted_proxy_says_whom_it_calls_for(
    audited: Live, caplog: pytest.LogCaptureFixture, forwarded: str, seen: str
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    audited.http.delete("/items/none", headers={"X-Forwarded-For": forwarded})
    assert audit(caplog) == [f"camera-1 at {seen}: delete item 'none': item_not_found"]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_a_proxy_of_ipv4_is_known_where_the_service_listens_on_ipv6(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    changes = {"host": "::", "allow_open": True, "trusted_proxies": "127.0.0.0/8"}
    with running(settings.model_copy(update=changes)) as live:
        url = f"http://127.0.0.1:{live.url.rpartition(':')[2]}/items/none"
        for headers in ({}, {"X-Forwarded-For": "203.0.113.7"}):
            live.http.delete(url, headers=headers)
    ends = "delete item 'none': item_not_found"
    assert audit(caplog) == [f"anybody at 127.0.0.1: {ends}", f"anybody at 203.0.113.7: {ends}"]


def test_nobody_else_is_believed(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    live.http.delete("/items/none", headers={"X-Forwarded-For": "203.0.113.7"})
    assert audit(caplog) == ["anybody at 127.0.0.1: delete item 'none': item_not_found"]


def test_the_command_writes_every_line_whatever_their_number(tiny: Bundle, tmp_path: Path) -> None:
    words = ("serve", tiny.folder, "--data", tmp_path / "data", "--port", 0, "--threads", 1)
    with serving(*words) as (process, url):
        until_ready(url)
        with httpx.Client(base_url=url, trust_env=False) as http:
            for n in range(40):
                http.put(f"/items/{n}", content=draw_image(1), headers=JPEG).raise_for_status()
        process.terminate()
        _, log = process.communicate(timeout=60)
    for n in range(40):
        assert f": put item '{n}': created" in log
