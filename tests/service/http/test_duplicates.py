"""POST /search/duplicates over a real socket."""

from itertools import combinations
from typing import Any

import pytest

from tests.service.conftest import ITEMS
from tests.service.live import Live


def test_pairs_come_in_pages(live: Live) -> None:
    hits = {
        f"item-{n}": live.http.post("/search", json={"id": f"item-{n}", "k": ITEMS}).json()["hits"]
        for n in range(ITEMS)
    }
    scores = {(name, hit["id"]): hit["score"] for name, found in hits.items() for hit in found}
    least = sorted(scores.values())[len(scores) // 2]
    expected = {pair: scores[pair] for pair in combinations(sorted(hits), 2) if scores[pair] >= least}
    got: dict[tuple[str, str], float] = {}
    options: dict[str, Any] = {"min_score": least, "limit": 5}
    while True:
        page = live.http.post("/search/duplicates", json=options).json()
        assert len(page["pairs"]) <= 5
        assert (page["exact"], page["truncated"]) == (True, False)
        for pair in page["pairs"]:
            first, second = pair["items"]
            assert (first["id"], second["id"]) not in got
            got[first["id"], second["id"]] = pair["score"]
            for item in (first, second):
                whole = live.http.get(f"/items/{item['id']}").json()
                assert item == {name: whole[name] for name in ("id", "width", "metadata", "image")}
        if page["next"] is None:
            break
        options["cursor"] = page["next"]
    assert got == expected


def test_a_filter_holds_for_both_items(live: Live) -> None:
    params = {"min_score": "-1", "filter": '{"n": {"$lt": 3}}', "limit": "1000"}
    pairs = live.http.post("/search/duplicates", params=params).json()["pairs"]
    ids = [[item["id"] for item in pair["items"]] for pair in pairs]
    assert ids == [["item-0", "item-1"], ["item-0", "item-2"], ["item-1", "item-2"]]


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({}, "min_score"),
        ({"min_score": 2}, "min_score"),
        ({"min_score": 0.5, "limit": 1001}, "limit"),
        ({"min_score": 0.5, "cursor": "x"}, "cursor"),
        ({"min_score": 0.5, "filter": {}}, "filter"),
        ({"min_score": 0.5, "k": 5}, "k"),
    ],
)
def test_a_broken_rule_names_its_parameter(live: Live, given: dict[str, Any], parameter: str) -> None:
    response = live.http.post("/search/duplicates", json=given)
    assert (response.status_code, response.json()["parameter"]) == (422, parameter), response.text
