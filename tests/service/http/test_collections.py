"""Several galleries in one service: each has the routes of a gallery, and sees nothing of the others."""

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.errors import Problem
from sfsc_service.http.arrow_items import ARROW
from sfsc_service.settings import Settings
from tests.service.faulty import until
from tests.service.images import draw_image
from tests.service.live import Live, running

JSON_LINES = {"Content-Type": "application/x-ndjson"}
MOST = 6


@pytest.fixture(scope="module")
def both(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service with the collections `default` and `cars`; leave the items `a` and `b` of both as they are."""
    data = tmp_path_factory.mktemp("both")
    with running(
        Settings(bundle=tiny.folder, data=data, port=0, threads=2, slo_ms=1000.0, max_collections=MOST)
    ) as made:
        assert made.http.put("/collections/cars").status_code == 201
        for base, shift in (("", 0), ("/collections/cars", 2)):
            for n, name in enumerate("ab"):
                path, metadata = f"{base}/items/{name}", f'{{"n": {n + shift}}}'
                put = made.put_image(path, draw_image(n + shift), width="1.0", metadata=metadata)
                assert put.status_code == 200, put.text
        yield made


def holdings(live: Live, base: str) -> list[dict[str, Any]]:
    """Every item of a collection with its vector."""
    items: list[dict[str, Any]] = live.http.get(f"{base}/items", params={"vectors": True}).json()["items"]
    return items


def arrow(live: Live, name: str) -> bytes:
    dimension = live.service.manifest.dimension
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.eye(dimension, dtype=np.float32)[0]), dimension)
    table = pa.table({"id": [name], "vector": vectors})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def put_arrow(live: Live, base: str) -> httpx.Response:
    origin = {"width": "1.0", "space": live.service.manifest.space}
    return live.http.post(
        f"{base}/items", content=arrow(live, "w"), params=origin, headers={"Content-Type": ARROW}
    )


WRITES: dict[str, Callable[[Live, str], httpx.Response]] = {
    "PUT /items/{id}": lambda live, base: live.put_image(f"{base}/items/w", draw_image(9)),
    "POST /items": lambda live, base: live.http.post(
        f"{base}/items", files=[("image", ("w", draw_image(9), "image/jpeg"))]
    ),
    "POST /items, Arrow": put_arrow,
    "PATCH /items/{id}": lambda live, base: live.http.patch(f"{base}/items/w", json={"metadata": {"w": 1}}),
    "DELETE /items, ids": lambda live, base: live.http.request("DELETE", f"{base}/items", json={"ids": ["w"]}),
    "DELETE /items, filter": lambda live, base: live.http.request(
        "DELETE", f"{base}/items", json={"filter": {"$id": "w"}}
    ),
    "DELETE /items/{id}": lambda live, base: live.http.delete(f"{base}/items/w"),
}


@pytest.mark.parametrize(("base", "other"), [("", "/collections/cars"), ("/collections/cars", "")])
@pytest.mark.parametrize("call", WRITES)
def test_a_write_in_one_collection_leaves_the_others_as_they_are(
    both: Live, call: str, base: str, other: str
) -> None:
    for place in (base, other):
        assert both.put_image(f"{place}/items/w", draw_image(5), width="0.5").status_code == 200
    before, kept = holdings(both, base), holdings(both, other)
    assert WRITES[call](both, base).is_success
    assert holdings(both, base) != before
    assert holdings(both, other) == kept


@pytest.mark.parametrize(("base", "numbers"), [("", {0, 1}), ("/collections/cars", {2, 3})])
def test_every_read_sees_its_own_collection_alone(both: Live, base: str, numbers: set[int]) -> None:
    for place in ("", "/collections/cars"):
        both.http.request("DELETE", f"{place}/items", json={"ids": ["w"]})

    def found(hits: list[dict[str, Any]]) -> set[int]:
        return {hit["metadata"]["n"] for hit in hits}

    first, link = min(numbers), f"{base.removeprefix('/')}/items/a/image".removeprefix("/")
    numbered = {"n": {"$gte": 0}}
    (nearest,) = both.post_image(f"{base}/search", draw_image(first), k=1, width="1.0").json()["hits"]
    assert (nearest["id"], nearest["metadata"], nearest["image"]) == ("a", {"n": first}, link)
    assert both.http.get(f"/{link}").content == draw_image(first)
    assert both.http.get(f"{base}/items/a").json()["image"] == link
    searches = {"with an id": {"id": "a", "include_self": True}, "filtered": {"id": "b", "filter": numbered}}
    searches["in groups"] = {"id": "a", "include_self": True, "group_by": "n"}
    for search in searches.values():
        assert found(both.http.post(f"{base}/search", json=search).json()["hits"]) <= numbers
    lines = b"\n".join(orjson.dumps(search) for search in searches.values())
    many = both.http.post(f"{base}/search", content=lines, headers=JSON_LINES).json()["results"]
    assert [found(one["hits"]) for one in many] == [numbers, {first}, numbers]
    pairs = both.http.post(f"{base}/search/duplicates", json={"min_score": -1.0}).json()["pairs"]
    assert [found(pair["items"]) for pair in pairs] == [numbers]
    assert pairs[0]["items"][0]["image"] == link
    assert found(both.http.get(f"{base}/items").json()["items"]) == numbers
    assert both.http.get(f"{base}/items:count", params={"filter": orjson.dumps(numbered).decode()}).json() == {
        "count": 2
    }


def test_the_default_collection_has_both_addresses(both: Live) -> None:
    assert holdings(both, "/collections/default") == holdings(both, "")


def test_collections_are_made_listed_and_removed_with_all_they_hold(
    both: Live, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sfsc_service.http.audit")
    made, again = both.http.put("/collections/b-1"), both.http.put("/collections/b-1")
    empty = {"name": "b-1", "items": 0, "widths": {}, "approximate": None}
    assert (made.status_code, again.status_code, made.json(), again.json()) == (201, 200, empty, empty)
    both.put_image("/collections/b-1/items/x", draw_image(1), width="0.5")
    held = both.http.get("/collections/b-1").json()
    assert held == {"name": "b-1", "items": 1, "widths": {"0.5": 1}, "approximate": None}
    listed = both.http.get("/collections").json()["collections"]
    assert [one["name"] for one in listed] == ["b-1", "cars", "default"]
    assert held in listed
    assert both.metric("sfsc_gallery_items", collection="b-1", width="0.5") == 1.0
    assert both.http.delete("/collections/b-1").status_code == 204
    assert both.http.delete("/collections/b-1").json()["code"] == "collection_not_found"
    assert both.metric("sfsc_gallery_items", collection="b-1", width="0.5") == 0.0
    assert both.http.put("/collections/b-1").status_code == 201
    assert both.http.get("/collections/b-1/items").json()["items"] == []
    both.http.delete("/collections/b-1")
    assert [record.message.removeprefix("anybody at 127.0.0.1: ") for record in caplog.records] == [
        "create collection 'b-1': created",
        "create collection 'b-1': unchanged",
        "put item 'x' of collection 'b-1': created",
        "delete collection 'b-1': removed",
        "delete collection 'b-1': collection_not_found",
        "create collection 'b-1': created",
        "delete collection 'b-1': removed",
    ]


def test_nothing_is_made_by_a_name_that_does_not_exist(both: Live) -> None:
    base = "/collections/carz"
    calls = [
        both.http.get(base),
        both.http.delete(base),
        both.http.get(f"{base}/items"),
        both.http.get(f"{base}/items/a"),
        both.http.get(f"{base}/items:count"),
        both.post_image(f"{base}/search", draw_image(1)),
        both.http.post(f"{base}/search", content=b'{"id": "a"}', headers=JSON_LINES),
        both.http.post(f"{base}/search/duplicates", json={"min_score": 0.9}),
        *(write(both, base) for write in WRITES.values()),
    ]
    assert {(call.status_code, call.json()["code"]) for call in calls} == {(404, "collection_not_found")}
    assert calls[0].json()["detail"].endswith("found 'carz'")
    assert not (both.service.settings.data / "collections" / "carz").exists()


@pytest.mark.parametrize("name", ["a.b", "-a", "x" * 65, "%2E%2E", "a%2Fb", "%FF", "a%0A"])
def test_a_bad_name_is_refused(both: Live, name: str) -> None:
    refused = both.http.put(f"/collections/{name}")
    assert (refused.status_code, refused.json()["code"]) == (422, "collection_invalid")
    assert both.http.get(f"/collections/{name}/items").json()["code"] == "collection_not_found"


def test_the_default_collection_stays_and_the_number_is_bounded(both: Live) -> None:
    refused = both.http.delete("/collections/default")
    assert (refused.status_code, refused.json()["parameter"]) == (422, "collection")
    assert both.http.put("/collections/default").status_code == 200
    for n in range(MOST - 2):
        assert both.http.put(f"/collections/n{n}").status_code == 201
    refused = both.http.put("/collections/one-more")
    assert (refused.status_code, refused.json()["code"]) == (422, "limit_exceeded")
    for n in range(MOST - 2):
        assert both.http.delete(f"/collections/n{n}").status_code == 204


def test_a_full_queue_is_told_before_a_body_is_read_in_every_collection(both: Live) -> None:
    def full(**_: Any) -> None:
        raise Problem("queue_full", "full", retry_after_s=1.0)

    batcher = both.service.embedder.batcher
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batcher, "check_not_full", full)
        labels = {"method": "PUT", "route": "/collections/{collection}/items/{id}", "status": "429"}
        before = both.metric("sfsc_http_requests_total", **labels)
        assert both.put_image("/collections/cars/items/w", draw_image(1)).status_code == 429
        assert both.metric("sfsc_http_requests_total", **labels) == before + 1


def test_a_restart_finds_every_collection_though_fewer_may_be_made_then(settings: Settings) -> None:
    with running(settings) as live:
        live.http.put("/collections/cars")
        live.put_image("/collections/cars/items/a", draw_image(1))
        kept = holdings(live, "/collections/cars")
    with running(settings.model_copy(update={"max_collections": 1})) as live:
        assert holdings(live, "/collections/cars") == kept
        assert live.http.put("/collections/bikes").json()["code"] == "limit_exceeded"


def test_a_fault_in_any_collection_makes_the_service_unready(settings: Settings) -> None:
    with running(settings) as live:
        live.http.put("/collections/cars")
        folder: Path = live.service.settings.data / "collections" / "cars"
        folder.rename(folder.with_name("elsewhere"))
        until(lambda: live.http.get("/readyz").status_code == 503)
        (reason,) = live.http.get("/readyz").json()["reasons"]
        assert reason.startswith("collection cars: ")
        folder.with_name("elsewhere").rename(folder)
        until(lambda: live.http.get("/readyz").status_code == 200)
