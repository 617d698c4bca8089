"""Why an item has its width is stored with it."""

import pytest

from sfsc_service.settings import Settings
from tests.service.images import draw_image
from tests.service.live import running


def test_the_reason_of_its_width_is_stored_with_an_item(settings: Settings) -> None:
    with running(settings) as live:
        for name, budget in (("requested", {"width": "0.5"}), ("budget", {"gflops": 100.0})):
            assert live.put_image(f"/items/{name}", draw_image(1), **budget).status_code == 200
        space, dimension = live.service.manifest.space, live.service.manifest.dimension
        vector = {"vector": [1.0, *[0.0] * (dimension - 1)], "width": "0.5", "space": space}
        assert live.http.put("/items/vector", json=vector).status_code == 200
        names = ["requested", "budget", "vector"]
        stored = live.service.gallery._store.get(names)
        assert [item and item.reason for item in stored] == names
        before = stored[0]
        assert live.put_image("/items/requested", draw_image(2), width="1.0").status_code == 200
        (after,) = live.service.gallery._store.get(["requested"])
        assert before is not None
        assert after is not None
        assert (after.created, after.width) == (before.created, "1.0")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_damaged_items_are_named_by_the_health_of_a_service_that_is_alive(settings: Settings, path: str) -> None:
    with running(settings) as live:
        live.service.stores.default._damage.add({1: "a", 2: "b"}, "vectors")  # type: ignore[attr-defined]
        health = live.http.get(path)
        assert health.status_code == 200
        assert health.json()["notes"] == [
            "damaged items: 'a', 'b'; they are not served; upsert them again or delete them"
        ]
