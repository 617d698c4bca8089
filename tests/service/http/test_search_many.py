"""POST /search with a search a line: each has the answer that it would have alone, in the order of the lines."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sfsc_service.gallery import bulk_load
from sfsc_service.gallery.bulk_load import BulkCall, BulkLoad, BulkWindow
from sfsc_service.http import responses
from sfsc_service.http.routes import search_many
from tests.service.conftest import ITEMS, WIDTHS
from tests.service.images import draw_image
from tests.service.live import Live

NDJSON = {"Content-Type": "application/x-ndjson"}


def results(live: Live, *lines: dict[str, Any] | bytes, **common: Any) -> list[dict[str, Any]]:
    body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    response = live.http.post("/search", content=body, params=common, headers=NDJSON)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["results"]
    return found


def image(seed: int) -> str:
    return base64.b64encode(draw_image(seed)).decode()


def vector(live: Live, seed: int) -> dict[str, Any]:
    embedded = live.post_image("/embed", draw_image(seed), width="0.25").json()
    return {"vector": embedded["results"][0]["embedding"], "width": "0.25", "space": embedded["space"]}


def test_each_line_is_answered_as_a_search_of_its_own(live: Live) -> None:
    queries: list[dict[str, Any]] = [
        {"image": image(3), "width": "0.5", "k": 2},
        vector(live, 4),
        {"id": "item-5", "k": 3, "offset": 1, "min_score": -0.5},
        {"id": "item-5", "filter": {"even": True}, "vectors": True, "encoding": "base64"},
        {"id": "item-1", "group_by": "even", "k": 2},
        *({"image": image(n), "width": WIDTHS[n % 4], "k": n} for n in range(1, 8)),
    ]
    for query, found in zip(queries, results(live, *queries), strict=True):
        alone = live.http.post("/search", json=query).json()
        assert (found.pop("status"), found["exact"]) == (200, True)
        assert found["query"] == alone["query"]
        assert [hit["id"] for hit in found["hits"]] == [hit["id"] for hit in alone["hits"]]
        assert [hit.keys() for hit in found["hits"]] == [hit.keys() for hit in alone["hits"]]


def test_more_searches_than_a_window_stay_in_order(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_many, "WINDOW", 4)
    order = [n % ITEMS for n in range(30)]
    found = results(live, *({"id": f"item-{n}"} for n in order), k=1, include_self=True)
    assert [one["hits"][0]["id"] for one in found] == [f"item-{n}" for n in order]


def test_one_bad_line_is_one_bad_outcome(live: Live) -> None:
    good = {"id": "item-1", "k": 1}
    bad: list[tuple[dict[str, Any] | bytes, int, str, str | None]] = [
        (b"{", 400, "invalid_json", "body"),
        ({}, 422, "invalid_parameter", "image"),
        ({"id": "item-1", "image": image(1)}, 422, "invalid_parameter", "id"),
        ({"id": "item-1", "k": 2000}, 422, "invalid_parameter", "k"),
        ({"id": "nobody"}, 404, "item_not_found", "id"),
        ({"id": "item-1", "filter": {"$or": []}}, 422, "filter_invalid", "filter"),
        ({"image": image(1), "width": "0.3"}, 422, "unknown_width", "width"),
        ({"image": base64.b64encode(b"nothing").decode()}, 422, "image_not_recognised", "image"),
        ({"image": image(1), "deadline_ms": 0.0001}, 503, "deadline_unreachable", "deadline_ms"),
    ]
    lines = [line for one, *_ in bad for line in (one, good)]
    found = results(live, *lines)
    assert [one["status"] for one in found[1::2]] == [200] * len(bad)
    for outcome, (_, status, code, parameter) in zip(found[::2], bad, strict=True):
        assert (outcome["status"], outcome["code"], outcome["parameter"]) == (status, code, parameter), outcome


def test_a_deadline_counts_from_the_arrival_of_the_call(live: Live) -> None:
    query = {"image": image(1), "width": "1.0", "k": 1}

    def body() -> Iterator[bytes]:
        yield json.dumps(query).encode() + b"\n"
        time.sleep(0.3)
        for deadline_ms in (250, 60_000):
            yield json.dumps({**query, "deadline_ms": deadline_ms}).encode() + b"\n"

    found = live.http.post("/search", content=body(), headers=NDJSON).json()["results"]
    assert [one["status"] for one in found] == [200, 503, 200]
    assert found[1]["code"] == "deadline_unreachable"


def test_a_call_is_bounded_in_searches_and_in_its_answer(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    most = live.service.settings.max_items
    found = results(live, *[{"id": "item-1"}] * (most + 2))
    assert [one["status"] for one in found] == [200] * most + [422]
    assert (found[-1]["code"], found[-1]["parameter"]) == ("limit_exceeded", "queries")
    monkeypatch.setattr(search_many, "WINDOW", 2)
    monkeypatch.setattr(search_many, "MAX_ANSWER_BYTES", 3000)
    statuses = [one["status"] for one in results(live, *[{"id": "item-1"}] * 12)]
    assert statuses[0] == 200
    full = statuses.index(422)
    assert set(statuses[full + 2 - full % 2 :]) == {422}, "a window ends in any order, later ones are refused"


@pytest.mark.parametrize("path", ["/search", "/items"])
def test_what_a_line_chose_is_quoted_short(live: Live, path: str) -> None:
    name = b"z" * 100_000
    bad = [
        b'{"id":"item-1","%s":1}' % name,
        b'{"id":"%s"}' % name,
        b'{"id":"item-1","filter":{"%s":{"$zz":1}}}' % name,
        b'{"id":"item-1","crop":{"%s":1}}' % name,
        b'{"id":"item-1","width":"%s"}' % name,
    ]
    response = live.http.post(path, content=b"\n".join(bad), headers=NDJSON)
    assert [one["status"] // 100 for one in response.json()["results"]] == [4] * len(bad)
    assert len(response.content) < 3000


def test_a_query_parameter_that_is_not_known_is_quoted_short(live: Live) -> None:
    refused = live.http.post("/search", params={"z" * 10_000: "1", "id": "item-1"})
    assert refused.status_code == 422
    assert len(refused.content) < 1000


def test_a_window_has_little_text(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[BulkWindow] = []

    class Noted(BulkWindow):
        def __init__(self, load: BulkLoad, call: BulkCall, images: int) -> None:
            super().__init__(load, call, images)
            windows.append(self)

    monkeypatch.setattr(bulk_load, "BulkWindow", Noted)
    line = json.dumps(vector(live, 4)).encode()
    monkeypatch.setattr(search_many, "WINDOW_TEXT_BYTES", 2 * len(line))
    assert [one["status"] for one in results(live, *[line] * 5)] == [200] * 5
    assert len(windows) == 3
    windows.clear()
    excluding = {"id": "item-1", "exclude": [f"{n}" for n in range(10)]}
    assert len(json.dumps(excluding)) < len(line)
    assert [one["status"] for one in results(live, *[excluding] * 5)] == [200] * 5
    assert len(windows) == 5, "as objects, ids are larger"
    windows.clear()
    long = {"image": image(3), "k": 1}
    assert len(json.dumps(long)) > len(line)
    assert [one["status"] for one in results(live, *[long] * 5)] == [200] * 5
    assert len(windows) == 1, "images are no text"


def test_an_answer_is_bounded_within_a_window_too(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_many, "MAX_ANSWER_BYTES", 3000)
    found = results(live, *[{"id": "item-1"}] * 12)
    answered = [one for one in found if one["status"] == 200]  # whichever of the window came first
    size = len(json.dumps(answered[0]["hits"], separators=(",", ":")))
    assert len(answered) == 3000 // size + 1
    assert [one["code"] for one in found if one not in answered] == ["limit_exceeded"] * (12 - len(answered))


def test_a_long_answer_comes_in_pieces(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"id": "item-1"}, {"id": "nobody"}, {"id": "item-2", "k": 3}] * 4
    whole = [one.get("hits") for one in results(live, *lines)]
    monkeypatch.setattr(responses, "PIECE_BYTES", 400)
    assert [one.get("hits") for one in results(live, *lines)] == whole


def test_an_empty_body_asks_nothing(live: Live) -> None:
    assert results(live) == []


@pytest.mark.parametrize(("path", "lines"), [("/search", True), ("/embed", False)])
def test_another_kind_of_body_is_refused_with_all_that_are_taken(live: Live, path: str, lines: bool) -> None:
    answer = live.http.post(path, content=b"x", headers={"Content-Type": "text/csv"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "image/*, multipart/form-data" in answer.json()["detail"]
    assert ("application/x-ndjson" in answer.json()["detail"]) == lines
