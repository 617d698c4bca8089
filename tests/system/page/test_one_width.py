"""The gallery page of a bundle that has one width, where there is nothing to choose or to compare."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from sfsc_service.settings import Settings
from tests.service.live import Live, running
from tests.system.page.conftest import opened
from tests.system.page.gallery_page import GalleryPage, fill, shot
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.browser

SAMPLE = shot(0, 99)
SEVERAL = re.compile(r"widths|networks|narrow|full network|another width|mixed|at most|at least", re.IGNORECASE)


@pytest.fixture(scope="module")
def single(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("single")
    bundle = make_tiny_bundle(folder / "one", widths=["1.0"]).folder
    with running(settings.model_copy(update={"bundle": bundle, "data": folder / "data"})) as live:
        fill(live, widths=["1.0"])
        yield live


@pytest.fixture
def one(browser: Browser, single: Live) -> Iterator[GalleryPage]:
    yield from opened(browser, single)


@pytest.mark.parametrize("view", ["", "mode=latency&view=compare"])
def test_nothing_is_said_of_several_widths(one: GalleryPage, view: str) -> None:
    one.open(view).shows(one.ask(SAMPLE, width="1.0"))
    expect(one.page.locator("#answer .sentence")).to_have_text("Embedded at width 1.0.")
    expect(one.page.locator("#matrix-reading")).to_contain_text(
        re.compile(r"The network scores \d+\.\d of 100 points of mAP\.")
    )
    expect(one.page.locator("#matrix-source")).to_contain_text(
        "sfsc quality --measure measures it on the images of this gallery."
    )
    assert SEVERAL.findall(one.page.locator("body").inner_text()) == []
    expect(one.page.locator("input[type=range]:visible")).to_have_count(0)
    expect(one.page.locator(".meter:first-child .row")).to_have_count(1)
    expect(one.page.locator("#output .badge:visible")).to_have_count(0)


def test_images_are_added_without_a_choice_of_width(one: GalleryPage) -> None:
    one.open("view=gallery")
    one.page.locator("#files").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": SAMPLE})
    expect(one.page.locator("#adding")).to_be_visible()
    expect(one.page.locator("#adding-width")).to_be_hidden()
