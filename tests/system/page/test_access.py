"""The gallery page for those who do not see it, or do not use a mouse."""

from typing import Any

import pytest

pytest.importorskip("axe_playwright_python", reason="the dev extra is not installed")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.service.live import Live, running
from tests.system.page.gallery_page import HITS, TOP, WIDTHS, GalleryPage, shot

pytestmark = pytest.mark.browser

SAMPLE = shot(0, 99)
OTHER = shot(1, 99)


def test_everything_by_keyboard_alone(tab: GalleryPage) -> None:
    press = tab.page.keyboard.press
    tab.open().shows(tab.ask(SAMPLE, width="0.25"))
    stops = list(tab.tab_stops())
    assert [stop for stop in stops if not stop["visible"]] == []
    names = [stop["name"] or stop["id"] or stop["text"] for stop in stops if stop["kind"] != "again"]
    controls = ["file", "sample", "mode", "width", "details", "k", "view", "metric"]
    assert [name for name in names if name in controls] == controls
    assert sum(stop["kind"] == "again" for stop in stops) == HITS
    tab.page.locator('input[name="sample"]:checked').focus()
    press("ArrowRight")
    tab.shows(tab.ask(OTHER, width="0.25"))
    press("Tab")
    press("Tab")
    press("ArrowDown")
    tab.shows(tab.ask(OTHER, width="0.5"))
    expect(tab.page.locator("#announcer")).to_contain_text(f"{HITS} hits at width 0.5")
    press("Tab")  # past the filter
    press("Tab")
    press("Space")
    expect(tab.page.locator(".card .facts").first).to_be_visible()
    press("Tab")
    press("Tab")
    press("ArrowRight")
    expect(tab.page.locator(".width-row .card[data-id]")).to_have_count(TOP * len(WIDTHS))


def violations(tab: GalleryPage) -> list[str]:
    """What axe-core finds once nothing is under way or fading, as sentences."""
    tab.page.wait_for_function("""() => {
        const output = document.querySelector("#output");
        return !output.hasAttribute("aria-busy") && getComputedStyle(output).opacity === "1";
    }""")
    found: list[dict[str, Any]] = Axe().run(tab.page).response["violations"]
    return [f"{one['id']} ({one['impact']}): {node['html'][:200]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", [400, 1280])
def test_axe_finds_nothing(browser: Browser, service: Live, window: int, scheme: str) -> None:
    size = {"width": window, "height": 900}
    with browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce") as context:
        tab = GalleryPage(context.new_page(), service)
        tab.open("details=1").shows(tab.ask(SAMPLE, width="0.25"))
        assert violations(tab) == []
        for mode in ("latency", "quality", "auto"):
            with tab.page.expect_response("**/search?*"):
                tab.choose("mode", mode)
            expect(tab.page.locator(f'.choice.chosen[data-mode="{mode}"]')).to_be_visible()
            assert violations(tab) == [], mode
        for view, last in (
            ("compare", ".width-row:nth-child(4) .card[data-id]"),
            ("gallery", ".browse [data-id]"),
        ):
            tab.choose("view", view)
            expect(tab.page.locator(f"#output {last}").last).to_be_visible()
            assert violations(tab) == [], view
        tab.page.locator(".remove").first.click()
        assert violations(tab) == [], "the question"
        tab.page.keyboard.press("Escape")
        tab.page.locator("#files").set_input_files([{"name": "x", "mimeType": "image/png", "buffer": b"x"}])
        assert violations(tab) == [], "the dialog that adds"
        tab.page.locator("#adding-start").click()
        expect(tab.page.locator("#adding-status")).to_contain_text("1 left out")
        assert violations(tab) == [], "the results of adding"
        tab.forgive("status of 4")
    assert tab.told == []


def test_axe_finds_nothing_on_an_empty_gallery_with_a_load(browser: Browser, settings: Any, tmp_path: Any) -> None:
    empty = settings.model_copy(update={"data": tmp_path / "data"})
    with running(empty, with_demo_load=True) as live, browser.new_context() as context:
        tab = GalleryPage(context.new_page(), live).open()
        expect(tab.page.locator("#output")).to_contain_text("The gallery is empty")
        tab.page.locator("#traffic").scroll_into_view_if_needed()
        expect(tab.page.locator("#load-slider .tick")).to_have_count(len(WIDTHS))
        assert violations(tab) == []
    assert tab.told == []
