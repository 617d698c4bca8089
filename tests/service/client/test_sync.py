"""The client against a real service."""

from collections.abc import Iterator

import numpy as np
import pytest

from sfsc_bundle.folder import Bundle
from sfsc_service.client import Client, ServiceError
from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import Live, running


@pytest.fixture(scope="module")
def house(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    data = tmp_path_factory.mktemp("house")
    with running(Settings(bundle=tiny.folder, data=data, port=0, threads=2, slo_ms=1000.0)) as made:
        yield made


@pytest.fixture
def client(house: Live) -> Iterator[Client]:
    with Client(house.url) as made:
        yield made


def test_the_whole_round(client: Client) -> None:
    assert client.ready()
    assert [width["width"] for width in client.widths()["widths"]] == ["0.25", "0.5", "0.75", "1.0"]
    assert client.put("a/1", draw_image(1), metadata={"n": 1}, width="0.25")["width"] == "0.25"
    vector = client.embed(draw_image(2), width="0.5")["results"][0]["embedding"]
    client.put("a/2", vector=vector, width="0.5", space="tiny-space", metadata={"n": 2})
    assert client.get("a/1")["metadata"] == {"n": 1}
    assert client.image("a/1") == draw_image(1)
    assert [hit["id"] for hit in client.search(draw_image(2), k=1, width="1.0")["hits"]] == ["a/2"]
    assert [hit["id"] for hit in client.search(id="a/1", k=1)["hits"]] == ["a/1"]
    assert [hit["id"] for hit in client.search(vector=vector, width="0.5", space="tiny-space", k=1)["hits"]] == [
        "a/2"
    ]
    only = client.search(draw_image(2), filter={"match": {"n": 1}})["hits"]
    assert [hit["id"] for hit in only] == ["a/1"]
    client.delete("a/1")
    with pytest.raises(ServiceError) as caught:
        client.get("a/1")
    assert (caught.value.code, caught.value.status) == ("item_not_found", 404)
    assert "a/1" in caught.value.detail


def test_several_images_in_one_call(client: Client) -> None:
    together = client.embed([draw_image(1), draw_image(2)], width="0.5")["results"]
    alone = [client.embed(draw_image(n), width="0.5")["results"][0] for n in (1, 2)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one["embedding"], other["embedding"], atol=1e-6)


def test_bulk_goes_in_several_calls_and_comes_out_page_by_page(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfsc_service.client.sync.CALL_ITEMS", 7)
    items = [
        {"id": f"b{n:02}", "image": draw_image(n), "width": "0.25", "metadata": {"set": "b"}} for n in range(20)
    ]
    outcomes = list(client.put_many([*items, {"id": "b99", "image": b"nothing"}]))
    assert [(outcome["id"], outcome["status"]) for outcome in outcomes] == [
        *((item["id"], 200) for item in items),
        ("b99", 422),
    ]
    listed = client.items(limit=6, filter={"match": {"set": "b"}})
    assert [item["id"] for item in listed] == [item["id"] for item in items]


def test_errors_carry_code_detail_and_status(client: Client) -> None:
    with pytest.raises(ServiceError) as caught:
        client.embed(draw_image(1), width="0.3")
    assert (caught.value.code, caught.value.status) == ("unknown_width", 422)
    assert "0.25, 0.5, 0.75, 1.0" in caught.value.detail


def test_a_service_that_is_not_there() -> None:
    with Client("http://127.0.0.1:9") as nobody:
        assert not nobody.ready()
        with pytest.raises(ServiceError) as caught:
            nobody.widths()
        assert (caught.value.code, caught.value.status) == ("unreachable", 0)
