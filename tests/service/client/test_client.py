"""Both clients against a real service."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfsc_bundle.errors import ImageError
from sfsc_bundle.folder import Bundle
from sfsc_service.client import ServiceError, answers
from sfsc_service.http import response_schemas
from sfsc_service.settings import Settings
from tests.service.client.clients import KINDS, opened
from tests.service.images import draw_image
from tests.service.live import Live, running


@pytest.fixture(scope="module")
def house(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    data = tmp_path_factory.mktemp("house")
    with running(Settings(bundle=tiny.folder, data=data, port=0, threads=2, slo_ms=1000.0)) as made:
        yield made


@pytest.fixture(params=KINDS)
def client(house: Live, request: pytest.FixtureRequest) -> Iterator[Any]:
    with opened(request.param, house.url) as made:
        yield made


@pytest.fixture(params=KINDS)
def device(house: Live, tiny: Bundle, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client that embeds by itself."""
    with opened(request.param, house.url, embed_with=tiny.folder, width=0.25) as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_of_a_collection_works_in_it_and_sees_no_other(house: Live, client: Any, kind: str) -> None:
    assert client.create_collection("bikes") == {"name": "bikes", "items": 0, "widths": {}, "approximate": None}
    with opened(kind, house.url, collection="bikes") as bikes:
        bikes.put("only", draw_image(1), width="1.0")
        assert [result["status"] for result in bikes.put_many([{"id": "b", "image": draw_image(2)}])] == [200]
        assert bikes.search(id="only", include_self=True, k=1)["hits"][0]["image"] == (
            "collections/bikes/items/only/image"
        )
        assert [len(one["hits"]) for one in bikes.search_many([{"id": "only"}])] == [1]
        assert bikes.patch("only", {"n": 1})["metadata"] == bikes.get("only")["metadata"] == {"n": 1}
        assert bikes.image("only") == draw_image(1)
        assert [item["id"] for item in bikes.items()] == ["b", "only"]
        assert bikes.count(filter={"n": 1}) == len(list(bikes.duplicates(min_score=-1))) == 1
        assert bikes.embed(draw_image(1), width="0.25")["results"][0]["width"] == "0.25"
        assert bikes.ready()
        assert bikes.delete_many(["b"])["removed"] == 1
        assert "bikes" in [one["name"] for one in bikes.collections()]
    with pytest.raises(ServiceError) as missing:
        client.get("only")
    assert missing.value.code == "item_not_found"
    assert client.collection("bikes")["items"] == 1
    client.delete_collection("bikes")
    for name, code in (("bikes", "collection_not_found"), ("..", "collection_not_found")):
        with opened(kind, house.url, collection=name) as gone, pytest.raises(ServiceError) as refused:
            gone.get("only")
        assert refused.value.code == code


def test_the_whole_round(client: Any) -> None:
    assert client.ready()
    assert [width["width"] for width in client.widths()["widths"]] == ["0.25", "0.5", "0.75", "1.0"]
    assert client.put("a/1", draw_image(1), metadata={"n": 1}, width="0.25")["width"] == "0.25"
    vector = client.embed(draw_image(2), width="0.5")["results"][0]["embedding"]
    client.put("a/2", vector=vector, width="0.5", space="tiny-space", metadata={"n": 2})
    assert client.get("a/1")["metadata"] == {"n": 1}
    assert client.image("a/1") == draw_image(1)
    assert [hit["id"] for hit in client.search(draw_image(2), k=1, width="1.0")["hits"]] == ["a/2"]
    assert [hit["id"] for hit in client.search(id="a/1", filter={"n": {"$lt": 3}})["hits"]] == ["a/2"]
    hits = {"k": 1, "offset": 1, "min_score": -1, "exclude": ["x"], "vectors": True, "encoding": "base64"}
    assert [hit["group"] for hit in client.search(draw_image(2), group_by="n", k=1)["hits"]] == [2]
    paged = client.search(draw_image(2), **hits)
    assert isinstance(paged["hits"][0]["embedding"], str)
    assert [hit["id"] for hit in client.search(vector=vector, width="0.5", space="tiny-space", k=1)["hits"]] == [
        "a/2"
    ]
    only = client.search(draw_image(2), filter={"n": 1})["hits"]
    assert [hit["id"] for hit in only] == ["a/1"]
    assert client.patch("a/1", {"n": None, "colour": "red"})["metadata"] == {"colour": "red"}
    client.delete("a/1")
    with pytest.raises(ServiceError) as caught:
        client.get("a/1")
    assert (caught.value.code, caught.value.status) == ("item_not_found", 404)
    assert "a/1" in caught.value.detail


def test_several_images_in_one_call(client: Any) -> None:
    together = client.embed([draw_image(1), draw_image(2)], width="0.5")["results"]
    alone = [client.embed(draw_image(n), width="0.5")["results"][0] for n in (1, 2)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one["embedding"], other["embedding"], atol=1e-6)


def test_bulk_goes_in_several_calls_and_comes_out_page_by_page(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfsc_service.client.routes.CALL_ITEMS", 7)
    items = [
        {"id": f"b{n:02}", "image": draw_image(n), "width": "0.25", "metadata": {"set": "b"}} for n in range(20)
    ]
    outcomes = list(client.put_many([*items, {"id": "b99", "image": b"nothing"}]))
    assert [(outcome["id"], outcome["status"]) for outcome in outcomes] == [
        *((item["id"], 200) for item in items),
        ("b99", 422),
    ]
    listed = client.items(limit=6, filter={"set": "b"})
    assert [item["id"] for item in listed] == [item["id"] for item in items]
    assert client.count(filter={"set": "b"}) == 20
    assert client.delete_matching({"set": "b"}, limit=15) == {"removed": 15, "remaining": 5, "missing": []}
    assert client.delete_many(["b15", "b16", "b00"]) == {"removed": 2, "remaining": 0, "missing": ["b00"]}
    assert client.count(filter={"set": "b"}) == 3
    assert client.count() == client.widths()["gallery"]["items"]


def test_many_searches_go_in_several_calls(client: Any, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfsc_service.client.routes.CALL_ITEMS", 3)
    for n in range(4):
        client.put(f"many/{n}", draw_image(120 + n), width="0.25", metadata={"set": "many"})
    for made in (client, device):
        queries = [{"image": draw_image(120 + n)} for n in range(4)] + [{"id": "many/0"}, {"id": "nobody"}]
        results = list(made.search_many(queries, k=1, filter={"set": "many"}))
        assert [result["status"] for result in results] == [200] * 5 + [404]
        assert [result["hits"][0]["id"] for result in results[:4]] == [f"many/{n}" for n in range(4)]
        assert results[4]["hits"][0]["id"] != "many/0"


def test_pairs_come_page_by_page(client: Any) -> None:
    for n in range(4):
        client.put(f"pairs/{n}", draw_image(130), width="0.25", metadata={"set": "pairs"})
    pairs = list(client.duplicates(0.999, filter={"set": "pairs"}, limit=2))
    assert len(pairs) == 6
    assert [item["id"] for item in pairs[0]["items"]] == ["pairs/0", "pairs/1"]


def test_a_bulk_call_is_prepared_while_the_one_before_is_answered(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfsc_service.client.routes.CALL_ITEMS", 2)
    read: list[int] = []

    def items() -> Iterator[dict[str, Any]]:
        for n in range(8):
            read.append(n)
            yield {"id": f"ahead/{n}", "image": draw_image(n), "width": "0.25"}

    results = client.put_many(items())
    assert read == [], "nothing is read before it is asked for"
    assert next(iter(results))["id"] == "ahead/0"
    assert read == [0, 1, 2, 3], "two calls of two, no more"
    assert [result["id"] for result in results] == [f"ahead/{n}" for n in range(1, 8)]


def test_an_item_without_its_file_ends_the_iteration(client: Any) -> None:
    with pytest.raises(FileNotFoundError):
        list(client.put_many([{"id": "f/1", "image": draw_image(1)}, {"id": "f/2", "image": "missing.png"}]))
    assert client.ready()


def test_an_option_that_is_none_is_not_given(client: Any, device: Any) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("width", "latency_ms", "gflops", "deadline_ms", "min_quality", "crop")
    )
    data = draw_image(1)
    assert client.put("none/1", data, metadata=None, space=None, **nothing)["id"] == "none/1"
    assert client.get("none/1")["metadata"] == {}
    assert client.embed(data, encoding=None, **nothing)["dim"] == client.embed([data], **nothing)["dim"] == 16
    assert client.search(data, **nothing)["hits"]
    assert client.search(id="none/1", width=None)["hits"]
    (bulk,) = client.put_many([{"id": "none/2", "image": data, "vector": None, "width": None}], min_quality=None)
    assert bulk["status"] == 200
    assert device.embed(data, **nothing)["results"][0]["width"] == "0.25"


def test_errors_carry_code_detail_and_status(client: Any) -> None:
    with pytest.raises(ServiceError) as caught:
        client.embed(draw_image(1), width="0.3")
    assert (caught.value.code, caught.value.status) == ("unknown_width", 422)
    assert "0.25, 0.5, 0.75, 1.0" in caught.value.detail


@pytest.mark.parametrize("id", [".", "..", "\udcff"])
def test_an_id_that_no_item_can_have_is_refused_by_the_service(client: Any, id: str) -> None:
    for call in (client.get, client.image, client.delete):
        with pytest.raises(ServiceError, match="id: must") as caught:
            call(id)
        assert (caught.value.code, caught.value.status) == ("invalid_parameter", 422)


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_that_is_not_there(kind: str) -> None:
    with opened(kind, "http://127.0.0.1:9") as nobody:
        assert not nobody.ready()
        with pytest.raises(ServiceError) as caught:
            nobody.widths()
        assert (caught.value.code, caught.value.status) == ("unreachable", 0)
        assert "http://127.0.0.1:9" in caught.value.detail


def test_a_path_and_an_image_of_pillows_are_as_good_as_bytes(client: Any, tmp_path: Path) -> None:
    data = draw_image(5, format="PNG")
    (tmp_path / "5.png").write_bytes(data)
    ways = [data, tmp_path / "5.png", str(tmp_path / "5.png"), Image.open(io.BytesIO(data))]
    vectors = [client.embed(way, width="0.5")["results"][0]["embedding"] for way in ways]
    assert vectors == vectors[:1] * 4
    together = client.embed(ways, width="0.5")["results"]
    np.testing.assert_allclose([one["embedding"] for one in together], vectors, atol=1e-6)
    client.put("p/1", ways[1], width="1.0")
    assert client.image("p/1") == data
    with pytest.raises(FileNotFoundError):
        client.embed(tmp_path / "missing.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_an_image_of_pillows_of_any_mode_is_sent(client: Any, mode: str) -> None:
    source = Image.open(io.BytesIO(draw_image(5))).convert("L" if mode in ("I;16", "LA") else "RGB")
    assert client.embed(source.convert(mode), width="0.5")["dim"] == 16


def test_an_image_of_pillows_keeps_its_orientation(client: Any) -> None:
    image = Image.open(io.BytesIO(draw_image(5, format="PNG")))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    turned = Image.open(io.BytesIO(buffer.getvalue()))
    found, expected, upright = (
        client.embed(one, width="0.5")["results"][0]["embedding"] for one in (turned, buffer.getvalue(), image)
    )
    assert found == expected != upright


def test_a_device_sends_the_vector_that_the_service_would_have_computed(device: Any, client: Any) -> None:
    there = client.embed(draw_image(107), width="0.25")
    here = device.embed(draw_image(107))
    assert {**here, "timing_ms": {}, "results": []} == {**there, "timing_ms": {}, "results": []}
    np.testing.assert_allclose(here["results"][0]["embedding"], there["results"][0]["embedding"], atol=1e-6)
    assert isinstance(device.embed(draw_image(107), encoding="base64")["results"][0]["embedding"], str)
    assert device.put("d/7", draw_image(107), metadata={"from": "device"})["width"] == "0.25"
    (bulk,) = device.put_many([{"id": "d/8", "image": draw_image(108), "metadata": {"from": "bulk"}}])
    assert (bulk["status"], bulk["width"]) == (200, "0.25")
    item = client.get("d/8")
    assert (item["metadata"], item["image"]) == ({"from": "bulk"}, None), "the image stays on the device"
    assert device.search(draw_image(107), k=1)["hits"][0]["id"] == "d/7"
    assert device.search(id="d/8", k=1, include_self=True)["hits"][0]["id"] == "d/8"
    assert device.search(draw_image(107), k=1, exclude=["d/7"])["hits"][0]["id"] != "d/7"


def test_a_crop_is_embedded_alike_by_every_call(client: Any, device: Any) -> None:
    whole = Image.open(io.BytesIO(draw_image(110, format="PNG")))
    data, crop = draw_image(110, format="PNG"), (8, 4, 32, 40, 5)
    part = client.embed(data, width="0.25", crop=crop)["results"][0]["embedding"]
    assert part != client.embed(data, width="0.25")["results"][0]["embedding"]
    others = [
        client.embed([whole, data], width="0.25", crop=crop)["results"][1]["embedding"],
        device.embed(data, crop=crop)["results"][0]["embedding"],
    ]
    for n, made in enumerate((client, device)):
        own = {} if made is device else {"width": "0.25"}
        made.put(f"crop/{n}", data, crop=crop, **own)
        (bulk,) = made.put_many([{"id": f"crop/bulk-{n}", "image": data, "crop": crop, **own}])
        assert bulk["status"] == 200
        others += [client.get(f"crop/{kind}{n}", vectors=True)["embedding"] for kind in ("", "bulk-")]
        hit = made.search(data, crop=crop, k=1, **own)["hits"][0]
        assert hit["score"] == pytest.approx(1.0, abs=1e-4)
    for other in others:
        np.testing.assert_allclose(other, part, atol=1e-5)
    assert client.image("crop/0") == data, "the whole image"


def test_a_device_refuses_what_it_cannot_follow(device: Any) -> None:
    with pytest.raises(ValueError, match="latency_ms: must not be set"):
        device.search(draw_image(107), latency_ms=5)
    with pytest.raises(ImageError):
        device.embed(b"nothing")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"embed_with": "models/x"}, "must be set together"),
        ({"width": 0.25}, "must be set together"),
        ({"embed_with": "BUNDLE", "width": 0.3}, "0.25, 0.5, 0.75, 1.0"),
    ],
)
def test_a_device_needs_a_bundle_and_one_of_its_widths(tiny: Bundle, options: dict[str, Any], said: str) -> None:
    given = {name: tiny.folder if value == "BUNDLE" else value for name, value in options.items()}
    with pytest.raises(ValueError, match=said), opened("blocking", "http://127.0.0.1:9", **given):
        pass


@pytest.mark.parametrize(
    ("answer", "schema"),
    [
        (answers.CollectionAnswer, response_schemas.CollectionResponse),
        (answers.WidthAnswer, response_schemas.ChosenWidth),
        (answers.EmbeddingAnswer, response_schemas.EmbedResult),
        (answers.EmbedAnswer, response_schemas.EmbedResponse),
        (answers.HitAnswer, response_schemas.HitResult),
        (answers.SearchAnswer, response_schemas.SearchResponse),
        (answers.SearchResultAnswer, response_schemas.SearchResult),
        (answers.PairAnswer, response_schemas.DuplicatePair),
        (answers.PairItemAnswer, response_schemas.PairItem),
        (answers.PutAnswer, response_schemas.PutResponse),
        (answers.WidthsAnswer, response_schemas.WidthsResponse),
        (answers.ItemAnswer, response_schemas.ItemResponse),
        (answers.BulkItemAnswer, response_schemas.BulkResult),
    ],
)
def test_answers_are_typed_as_the_service_documents_them(answer: Any, schema: Any) -> None:
    assert answer.__required_keys__ == set(schema.model_fields)
