"""POST /search with an image, a vector and an id, at every width, against a gallery of every width."""

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.settings import Settings
from sfsc_service.store.embedded.store import EmbeddedStore
from tests.service.conftest import ITEMS, WIDTHS
from tests.service.faulty import until
from tests.service.images import draw_image
from tests.service.live import Live, running


def parsed(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_an_image_finds_itself_whatever_widths_meet(live: Live, width: str, seed: int) -> None:
    document = parsed(live.post_image("/search", draw_image(seed), width=width, k=3))
    assert document["query"] == {"width": width, "reason": "requested", "budget_met": True}
    assert document["exact"] is True
    assert len(document["hits"]) == 3
    best = document["hits"][0]
    assert best == {
        "id": f"item-{seed}",
        "score": best["score"],
        "width": WIDTHS[seed % 4],
        "metadata": {"n": seed, "even": seed % 2 == 0},
        "image": f"items/item-{seed}/image",
    }
    assert best["score"] > 0.8
    assert set(document["timing_ms"]) == {"preprocess", "queue", "compute", "search", "total"}


def test_hits_descend_and_k_bounds_them(live: Live) -> None:
    scores = [hit["score"] for hit in parsed(live.post_image("/search", draw_image(5), k=1000))["hits"]]
    assert len(scores) == ITEMS
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("form", ["raw", "multipart", "json"])
def test_every_form_takes_a_filter(live: Live, form: str) -> None:
    wanted = {"$and": [{"even": True}, {"n": {"$gt": 2, "$lt": 6}}]}
    if form == "raw":
        response = live.post_image("/search", draw_image(1), filter=json.dumps(wanted), width="0.5")
    elif form == "multipart":
        data = {"filter": json.dumps(wanted), "width": "0.5"}
        response = live.http.post("/search", files={"image": ("a.jpg", draw_image(1))}, data=data)
    else:
        encoded = base64.b64encode(draw_image(1)).decode()
        response = live.http.post("/search", json={"image": encoded, "filter": wanted, "width": "0.5"})
    assert [hit["id"] for hit in parsed(response)["hits"]] == ["item-4"]


def embedding(live: Live, seed: int, width: str, encoding: str = "float") -> Any:
    response = live.post_image("/embed", draw_image(seed), width=width, encoding=encoding)
    return response.json()["results"][0]["embedding"]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_vector_finds_what_its_image_finds(live: Live, encoding: str) -> None:
    by_image = parsed(live.post_image("/search", draw_image(6), width="0.25"))
    given = {"vector": embedding(live, 6, "0.25", encoding), "width": "0.25", "space": "tiny-space"}
    by_vector = parsed(live.http.post("/search", json=given))
    assert by_vector["hits"] == by_image["hits"]
    assert by_vector["query"] == {"width": "0.25", "reason": "requested", "budget_met": True}


def test_a_vector_as_a_multipart_field(live: Live) -> None:
    fields = {"vector": json.dumps(embedding(live, 6, "0.25")), "width": "0.25", "space": "tiny-space"}
    files = {name: (None, value) for name, value in fields.items()}
    assert parsed(live.http.post("/search", files=files))["hits"][0]["id"] == "item-6"


def test_a_vector_need_not_be_of_unit_length(live: Live) -> None:
    vector = (7.5 * np.array(embedding(live, 6, "0.25"))).tolist()
    given = {"vector": vector, "width": "0.25", "space": "tiny-space", "k": 1}
    (hit,) = parsed(live.http.post("/search", json=given))["hits"]
    assert hit["id"] == "item-6"
    assert hit["score"] <= 1.0 + 1e-6


@pytest.mark.parametrize("form", ["json", "query"])
def test_an_item_is_its_own_hit_only_where_that_is_asked_for(live: Live, form: str) -> None:
    given = {"id": "item-7", "k": ITEMS}
    others = live.http.post("/search", json=given) if form == "json" else live.http.post("/search", params=given)
    assert sorted(hit["id"] for hit in parsed(others)["hits"]) == sorted(
        f"item-{n}" for n in range(ITEMS) if n != 7
    )
    given["include_self"] = True
    response = live.http.post("/search", json=given) if form == "json" else live.http.post("/search", params=given)
    document = parsed(response)
    assert document["query"]["width"] == WIDTHS[7 % 4]
    assert document["hits"][0]["id"] == "item-7"
    assert document["hits"][0]["score"] == pytest.approx(1.0, abs=1e-6)
    assert document["hits"][1:] == parsed(others)["hits"]


FILTERS: tuple[dict[str, Any], ...] = ({}, {"filter": {"even": True}})


@pytest.mark.parametrize("filter", FILTERS)
def test_pages_of_hits_make_up_all_of_them(live: Live, filter: dict[str, Any]) -> None:
    def hits(**options: Any) -> list[dict[str, Any]]:
        answer = parsed(live.http.post("/search", json={"id": "item-2", **filter, **options}))
        found: list[dict[str, Any]] = answer["hits"]
        return found

    everything = hits(k=ITEMS)
    assert everything == hits(k=3) + hits(k=2, offset=3) + hits(k=ITEMS, offset=5)
    assert hits(offset=ITEMS) == []
    left_out = {everything[0]["id"], everything[3]["id"], "nobody"}
    kept = [hit for hit in everything if hit["id"] not in left_out]
    assert hits(k=2, exclude=list(left_out)) == kept[:2]
    assert hits(k=ITEMS, offset=1, exclude=list(left_out)) == kept[1:]
    least = everything[2]["score"]
    assert hits(min_score=least) == everything[:3]
    assert hits(min_score=1) == []


@pytest.mark.parametrize("filter", FILTERS)
def test_hits_have_vectors_where_they_are_asked_for(live: Live, filter: dict[str, Any]) -> None:
    given = {"id": "item-2", "k": 3, **filter}
    plain = parsed(live.http.post("/search", json=given))["hits"]
    for encoding in ("float", "base64"):
        hits = parsed(live.http.post("/search", json={**given, "vectors": True, "encoding": encoding}))["hits"]
        for hit in hits:
            item = live.http.get(f"/items/{hit['id']}", params={"vectors": True, "encoding": encoding}).json()
            assert hit.pop("embedding") == item["embedding"]
        assert hits == plain


@pytest.mark.parametrize("filter", [{}, {"filter": {"n": {"$lt": 9}}}])
def test_groups_have_their_best_hits(live: Live, filter: dict[str, Any]) -> None:
    hits = parsed(live.http.post("/search", json={"id": "item-2", "k": ITEMS, **filter}))["hits"]
    for hit in hits:
        hit["group"] = hit["metadata"]["even"]
    first = hits[0]["group"]
    groups = [[hit for hit in hits if hit["group"] is even] for even in (first, not first)]
    grouped = {"id": "item-2", "group_by": "even", **filter}
    assert parsed(live.http.post("/search", json=grouped))["hits"] == [groups[0][0], groups[1][0]]
    three = parsed(live.http.post("/search", json={**grouped, "k": 1, "group_size": 3}))
    assert (three["hits"], three["exact"]) == (groups[0][:3], True)
    second = parsed(live.post_image("/search", draw_image(2), group_by="even", offset=1, group_size=2))
    assert {hit["group"] for hit in second["hits"]} == {False}, "item-2 itself is even"
    assert len(second["hits"]) == 2


def test_excluded_ids_travel_in_every_form(live: Live) -> None:
    excluded = json.dumps(["item-1", "item-2"])
    raw = live.post_image("/search", draw_image(1), exclude=excluded, k=ITEMS)
    form = live.http.post(
        "/search", files={"image": ("a.jpg", draw_image(1))}, data={"exclude": excluded, "k": ITEMS}
    )
    for response in (raw, form):
        ids = {hit["id"] for hit in parsed(response)["hits"]}
        assert ids == {f"item-{n}" for n in range(ITEMS)} - {"item-1", "item-2"}


def test_an_unknown_item_is_not_found(live: Live) -> None:
    response = live.http.post("/search", json={"id": "nobody"})
    assert (response.status_code, response.json()["code"]) == (404, "item_not_found")


def test_expected_quality_looks_at_the_gallery(live: Live, tiny: Bundle) -> None:
    """The narrowest width reaches more at full width than in this gallery of all widths in equal parts."""
    mixed = tiny.manifest.quality.mixed.mean_ap[0]
    for wanted, width in ((mixed - 0.01, "0.25"), (mixed + 0.01, "0.5")):
        assert live.post_image("/embed", draw_image(1), min_quality=wanted).json()["results"][0]["width"] == "0.25"
        assert parsed(live.post_image("/search", draw_image(1), min_quality=wanted))["query"]["width"] == width


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({}, "image"),
        ({"id": "item-1", "vector": [1.0]}, "id"),
        ({"vector": [1.0] * 16}, "width"),
        ({"vector": [1.0] * 16, "width": "0.5"}, "space"),
        ({"vector": [1.0] * 16, "width": "0.5", "space": "tiny-space", "gflops": 1}, "gflops"),
        ({"id": "item-1", "width": "0.5"}, "width"),
        ({"vector": [1.0] * 16, "width": "0.3", "space": "tiny-space"}, "width"),
        ({"vector": [1.0] * 16, "width": "0.5", "space": "another"}, "space"),
        ({"vector": [1.0] * 15, "width": "0.5", "space": "tiny-space"}, "vector"),
        ({"vector": [0.0] * 16, "width": "0.5", "space": "tiny-space"}, "vector"),
        ({"vector": "AAAA", "width": "0.5", "space": "tiny-space"}, "vector"),
        ({"id": "item-1", "k": 1025}, "k"),
        ({"id": "item-1", "k": 1001, "vectors": True}, "k"),
        ({"id": "item-1", "k": 1000, "offset": 25}, "offset"),
        ({"id": "item-1", "offset": -1}, "offset"),
        ({"id": "item-1", "group_by": "$id"}, "group_by"),
        ({"id": "item-1", "group_by": "a..b"}, "group_by"),
        ({"id": "item-1", "group_size": 2}, "group_size"),
        ({"id": "item-1", "group_by": "n", "k": 257}, "k"),
        ({"id": "item-1", "group_by": "n", "k": 100, "offset": 3, "group_size": 10}, "k"),
        ({"id": "item-1", "group_by": "n", "k": 2, "group_size": 501, "vectors": True}, "k"),
        ({"id": "item-1", "min_score": 1.1}, "min_score"),
        ({"id": "item-1", "exclude": "item-2"}, "exclude"),
        ({"id": "item-1", "exclude": [""]}, "exclude"),
        ({"id": "item-1", "exclude": ["x"] * 1001}, "exclude"),
        ({"id": "item-1", "vectors": True, "encoding": "hex"}, "encoding"),
        ({"id": "item-1", "filter": {"$or": []}}, "filter"),
        ({"id": "item-1", "filter": {"n": [1]}}, "filter"),
    ],
)
def test_a_broken_rule_names_its_parameter(live: Live, given: dict[str, Any], parameter: str) -> None:
    response = live.http.post("/search", json=given)
    assert response.status_code == 422, response.text
    assert response.json()["parameter"] == parameter
    assert parameter in response.json()["detail"]


def test_an_answer_says_whether_it_may_miss_hits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedStore.__init__, "__kwdefaults__", {**DEFAULTS, "approximate_rows": 2})
    with running(settings.model_copy(update={"search": "int8"})) as live:

        def approximate() -> dict[str, Any]:
            found: dict[str, Any] = live.http.get("/widths").json()["gallery"]["approximate"]
            return found

        assert approximate() == {"kind": "int8", "rows": 0, "recall": None}
        for n in range(3):
            live.put_image(f"/items/{n}", draw_image(n), metadata='{"n": 1}')
        until(lambda: approximate()["rows"] >= 2)
        assert approximate()["recall"] == 1.0
        for options, exact in (({}, False), ({"exact": "true"}, True), ({"filter": '{"n": 1}'}, True)):
            document = parsed(live.post_image("/search", draw_image(1), k=2, **options))
            assert document["exact"] is exact
            assert document["hits"][0]["id"] == "1"


DEFAULTS = EmbeddedStore.__init__.__kwdefaults__
