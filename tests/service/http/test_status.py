"""/widths, /livez, /readyz, /metrics, /docs and the edge around all of them."""

import re

import pytest

from sfsc_bundle.folder import Bundle
from tests.service.conftest import ITEMS, WIDTHS
from tests.service.faulty import until
from tests.service.images import draw_image
from tests.service.live import Live


def test_widths_tells_costs_quality_and_the_items_per_width(live: Live, tiny: Bundle) -> None:
    document = live.http.get("/widths").json()
    assert [width["width"] for width in document["widths"]] == list(WIDTHS)
    for told, submodel in zip(document["widths"], tiny.manifest.submodels, strict=True):
        assert (told["macs"], told["parameters"]) == (submodel.macs, submodel.parameters)
        assert told["gflops"] == pytest.approx(2e-9 * submodel.macs)
        assert told["latency_ms"] > 0
        own = document["quality"]["widths"].index(told["width"])
        assert told["predicted_mean_ap"] == pytest.approx(document["quality"]["mixed"]["mean_ap"][own], abs=0.01)
    assert document["quality"]["mean_ap"] == [list(row) for row in tiny.manifest.quality.mean_ap]
    assert document["quality"]["mixed"] == tiny.manifest.quality.mixed.model_dump(mode="json")
    assert document["gallery"] == {
        "items": ITEMS,
        "widths": dict.fromkeys(WIDTHS, ITEMS // 4),
        "approximate": None,
    }
    assert document["limits"]["max_k"] == 1024


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health(live: Live, path: str) -> None:
    response = live.http.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "ok", "reasons": [], "notes": []})


def test_metrics_count_by_width(live: Live) -> None:
    def counts() -> dict[str, float]:
        return {
            "embedded": live.metric("sfsc_embeddings_total", reason="requested", width="0.75"),
            "searched": live.metric("sfsc_searches_total", width="0.75"),
            "batches": live.metric("sfsc_compute_seconds_count", width="0.75"),
            "images": live.metric("sfsc_batch_images_sum", width="0.75"),
            "other": live.metric("sfsc_searches_total", width="0.5"),
            "http": live.metric("sfsc_http_requests_total", method="POST", route="/search", status="200"),
            "refused": live.metric("sfsc_problems_total", code="unknown_width"),
        }

    before = counts()
    for _ in range(3):
        assert live.post_image("/search", draw_image(1), width="0.75").status_code == 200
    assert live.post_image("/search", draw_image(1), width="0.3").status_code == 422
    after = counts()
    grown = {name: after[name] - before[name] for name in before}
    assert grown == {"embedded": 3, "searched": 3, "batches": 3, "images": 3, "other": 0, "http": 3, "refused": 1}


def test_every_width_has_its_series_and_the_gallery_is_counted(live: Live) -> None:
    for width in WIDTHS:
        assert live.metric("sfsc_gallery_items", collection="default", width=width) == ITEMS / 4
        assert live.metric("sfsc_compute_seconds_bucket", le="+Inf", width=width) >= 1
    assert live.metric("sfsc_ready") == 1.0


def test_unknown_addresses_make_no_series_of_their_own(live: Live) -> None:
    live.http.get("/secret-address")
    text = live.http.get("/metrics").text
    assert "secret-address" not in text
    assert 'route="unmatched",status="404"' in text


def test_docs_work_offline_and_under_the_policy(live: Live) -> None:
    page = live.http.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    own = [address for address in addresses if not address.startswith("data:")]
    assert len(own) == 3
    assert not re.search(r"<script>|<style>|https?://|\son\w+=", page.text)
    for address in own:
        response = live.http.get(f"/{address}")
        assert response.status_code == 200
        assert response.headers["x-content-type-options"] == "nosniff"
    assert "javascript" in live.http.get("/docs/swagger-ui-bundle.js").headers["content-type"]
    assert live.http.get("/docs/..%2F..%2Fcli.py").status_code == 404


@pytest.mark.parametrize("path", ["/embed", "/nowhere", "/widths", "/items/item-1/image"])
def test_every_response_has_the_headers_that_keep_browsers_safe(live: Live, path: str) -> None:
    headers = live.http.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src" in headers["content-security-policy"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/embed"), ("DELETE", "/search"), ("POST", "/items/x")])
def test_a_wrong_method_is_refused_with_the_right_ones(live: Live, method: str, path: str) -> None:
    response = live.http.request(method, path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.json()["detail"].startswith("method: must be one of ")
    assert response.headers["allow"]


def test_an_unknown_address(live: Live) -> None:
    response = live.http.post("/nowhere", content=b"x")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert response.json()["detail"].startswith("path: must be one that /docs lists, found '/")
    assert live.http.get("/items/").status_code == 404


def test_metrics_have_the_sizes_of_the_store(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    until(lambda: live.metric("sfsc_store_rows", state="live") >= ITEMS)
    assert live.metric("sfsc_store_vector_files") >= 1
    assert live.metric("sfsc_store_free_bytes") > 0
    assert live.metric("sfsc_store_log_bytes") >= 0
    assert live.metric("sfsc_store_columns_failed") == 0
    monkeypatch.setattr(live.service.gallery._store._filters, "_failed", True)
    until(lambda: live.metric("sfsc_store_columns_failed") == 1)
    assert live.metric("sfsc_store_seconds_count", work="commit") >= ITEMS
