"""What the gallery page tells of traffic, and the demo's load that visitors may change."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from sfsc_service.settings import Settings
from tests.service.live import Live, running
from tests.system.page.gallery_page import WIDTHS, GalleryPage, fill, shot

pytestmark = pytest.mark.browser

SAMPLE = shot(0, 99)


@pytest.fixture
def demo(settings: Settings, tmp_path: Path) -> Iterator[Live]:
    with running(settings.model_copy(update={"data": tmp_path / "data"}), with_demo_load=True) as live:
        fill(live)
        yield live


def set_load(tab: GalleryPage, place: int) -> None:
    tab.page.locator("#load-slider input").evaluate(
        "(input, place) => { input.value = place; input.dispatchEvent(new Event('change')); }", place
    )


def test_a_service_has_no_load_slider(tab: GalleryPage) -> None:
    tab.open().page.locator("#traffic").scroll_into_view_if_needed()
    expect(tab.page.locator("#traffic-now .badge")).to_have_count(len(WIDTHS))
    expect(tab.page.locator("#load")).to_be_hidden()


def test_searches_are_counted_by_width_while_somebody_looks(tab: GalleryPage) -> None:
    tab.open().page.locator("#traffic").scroll_into_view_if_needed()
    now = tab.page.locator("#traffic-now")
    expect(now.locator(".badge")).to_have_count(len(WIDTHS))
    before = tab.live.metric("sfsc_http_requests_total", method="GET", route="/metrics", status="200")
    for _ in range(20):
        tab.ask(SAMPLE, width="0.75")
    expect(now.get_by_role("listitem").filter(has_text="0.75")).not_to_have_text("0.75 0/s")
    expect(tab.page.locator("#traffic-chart path.area")).to_have_count(len(WIDTHS))
    tab.page.evaluate("scrollTo(0, 0)")
    tab.page.wait_for_timeout(1500)
    asked = tab.live.metric("sfsc_http_requests_total", method="GET", route="/metrics", status="200")
    tab.page.wait_for_timeout(2500)
    again = tab.live.metric("sfsc_http_requests_total", method="GET", route="/metrics", status="200")
    assert asked > before
    assert again == asked + 1, "only this test has asked"


def test_the_wait_is_the_one_for_a_network_and_the_one_for_the_index(tab: GalleryPage) -> None:
    def held_up(route: Route) -> None:
        text = route.fetch().text()
        for name, seconds in (("sfsc_queue_predicted_seconds", 0.2), ("sfsc_search_queue_predicted_seconds", 0.5)):
            text, found = re.subn(rf"^{name} .*$", f"{name} {seconds}", text, flags=re.MULTILINE)
            assert found == 1
        route.fulfill(body=text)

    tab.page.route("**/metrics", held_up)
    tab.open().page.locator("#traffic").scroll_into_view_if_needed()
    expect(tab.page.locator(".traffic-figures")).to_contain_text("predicted wait700 ms")


def test_the_slider_makes_searches_and_stop_ends_them(browser: Browser, demo: Live) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        tab = GalleryPage(context.new_page(), demo)
        tab.open().page.locator("#traffic").scroll_into_view_if_needed()
        stop = tab.page.get_by_role("button", name="Stop", exact=True)
        expect(tab.page.locator("#load-slider .tick")).to_have_count(len(WIDTHS))
        expect(tab.page.locator("#load-slider output")).to_have_text("none")
        expect(stop).to_be_disabled()
        set_load(tab, 60)
        expect(stop).to_be_enabled()
        expect(tab.page.locator(".traffic-figures dd").first).not_to_have_text("0/s")
        assert demo.http.get("/demo/load").json()["per_s"] > 50
        stop.click()
        expect(tab.page.locator("#load-slider output")).to_have_text("none")
        state = demo.http.get("/demo/load").json()
        assert state["per_s"] == 0
        assert state["answered"] > 0
    assert tab.told == []


def test_beside_the_matrix_stands_what_networks_find_that_were_trained_apart(tab: GalleryPage) -> None:
    figures = tab.live.http.get("/separately_trained.json").json()
    tab.open()
    expected = [figures[kind][gallery] for kind in ("apart", "joined", "together") for gallery in ("own", "other")]
    expect(tab.page.locator("#apart tbody td")).to_have_text([f"{value:.1f}" for value in expected])
    expect(tab.page.locator("#apart-reading")).to_contain_text("0.3 mAP")
