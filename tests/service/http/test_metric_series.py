"""Whatever callers invent, the number of time series stays: a label never takes a caller's own word."""

from pathlib import Path

import httpx
import pytest

from sfsc_service.settings import Settings
from tests.service.live import Live, running
from tests.tiny_bundle import make_tiny_bundle

INVENTED = 40


def series(live: Live) -> set[str]:
    """Names and labels of all of the service's time series, those of /metrics itself among them."""
    live.http.get("/metrics")
    lines = live.http.get("/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0] for line in lines if line.startswith("sfsc_")}


def test_invented_widths_of_a_compatible_space_share_one_series(settings: Settings, tmp_path: Path) -> None:
    """An older bundle of the space may have had any widths, so none can be refused."""
    make_tiny_bundle(tmp_path / "bundle", space="new-space", compatible_with=["old-space"])
    with running(settings.model_copy(update={"bundle": tmp_path / "bundle"})) as live:

        def search_and_put(number: int) -> tuple[httpx.Response, httpx.Response]:
            vector = {"vector": [1.0] * 16, "width": f"0.{1000 + number}", "space": "old-space"}
            return live.http.post("/search", json=vector), live.http.put(f"/items/{number}", json=vector)

        search_and_put(0)
        before = series(live)
        for number in range(1, INVENTED):
            assert [response.status_code for response in search_and_put(number)] == [200, 200]
        assert series(live) == before
        assert live.metric("sfsc_searches_total", width="other") == INVENTED
        assert live.metric("sfsc_gallery_items", collection="default", width="other") == INVENTED
        widths = live.http.get("/widths").json()["gallery"]["widths"]
        assert len(widths) == INVENTED, "what the gallery holds is told in full elsewhere"


@pytest.mark.parametrize("methods", [("PROPFIND", "MKCOL", "LOCK", "COPY"), ("GET",) * 4, ("POST",) * 4])
def test_uncommon_methods_and_invented_paths_ids_and_options_make_no_series(
    live: Live, methods: tuple[str, ...]
) -> None:
    def ask(number: int) -> None:
        for path in (f"/x{number}", f"/items/x{number}", f"/samples/x{number}", f"/embed?x{number}=1"):
            assert live.http.request(methods[number], path).status_code in (404, 405, 422)

    ask(0)
    before = series(live)
    for number in range(1, len(methods)):
        ask(number)
    assert series(live) == before
