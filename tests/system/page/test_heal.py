"""The page says how far the service is with embedding narrow items again, while there is something to say."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from sfsc_service.settings import Settings
from tests.service.live import running
from tests.system.page.conftest import opened
from tests.system.page.gallery_page import GalleryPage, shot

pytestmark = pytest.mark.browser

NARROW = {"gflops": "0.01"}
"""A budget that only the narrowest width meets."""

SOME = re.compile(
    r"^[1-3] narrow images? to look at, when the service is idle, for embedding again at width 1\.0\s*\.$"
)
"""How many the present pass has: it may have begun before the last one was put."""


@pytest.fixture
def healing(browser: Browser, settings: Settings, tmp_path: Path) -> Iterator[GalleryPage]:
    """A tab of a service with an empty gallery and no costs left to measure, so it heals as soon as it may."""
    with running(settings.model_copy(update={"data": tmp_path / "data", "max_batch": 1})) as live:
        yield from opened(browser, live)


def test_the_line_follows_the_service_and_goes_when_all_is_healed(healing: GalleryPage) -> None:
    line = healing.page.locator("#heal")
    with healing.live.service.embedder.activity:
        for number in range(3):
            answer = healing.live.put_image(f"/items/{number}", shot(number, 1), **NARROW)
            assert answer.json()["width"] == "0.25"
        healing.open()
        expect(line).to_have_text(SOME)
    expect(line).to_be_hidden()
    assert healing.live.service.gallery.composition() == {"1.0": 3}


def test_a_failure_is_told(healing: GalleryPage) -> None:
    def failed(route: Route) -> None:
        document = route.fetch().json()
        document["heal"] |= {"state": "failed", "unchecked": 1}
        route.fulfill(json=document)

    healing.page.route("**/widths", failed)
    healing.open()
    expect(healing.page.locator("#heal")).to_have_text(
        "1 narrow image to look at for embedding again, which has failed and is tried again, at width 1.0."
    )
