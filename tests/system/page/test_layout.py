"""Where things are on the gallery page: in wide and narrow windows, light and dark."""

from itertools import pairwise

import pytest
from playwright.sync_api import Browser, expect

from tests.service.live import Live
from tests.system.page.answers import with_medians, with_overhead
from tests.system.page.gallery_page import WIDTHS, GalleryPage, shot

pytestmark = pytest.mark.browser

SAMPLE = shot(0, 99)
AFTER_A_FRAME = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_sticks_out_and_nothing_moves(browser: Browser, service: Live, width: int, scheme: str) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        tab = GalleryPage(context.new_page(), service)
        tab.page.add_init_script(
            "window.moved = 0; const add = (one) => { if (!one.hadRecentInput) window.moved += one.value; };"
            "const watch = new PerformanceObserver((list) => list.getEntries().forEach(add));"
            "watch.observe({ type: 'layout-shift', buffered: true });"
        )
        tab.open().shows(tab.ask(SAMPLE, width="0.25"))
        assert tab.page.evaluate("window.moved") < 0.02
        tab.page.locator("#details").check()
        for view in ("hits", "compare"):
            tab.choose("view", view)
            expect(tab.page.locator(".card[data-id]").last).to_be_visible()
            assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        dark = tab.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(13, 16, 20)"
        assert dark == (scheme == "dark")
        heights = set()
        for mode in ("latency", "gflops", "auto", "width"):
            tab.choose("mode", mode)
            heights.add(tab.page.locator(".network").bounding_box()["height"])
        assert len(heights) == 1
    assert tab.told == []


def test_hits_stay_in_sight_when_a_width_is_chosen_in_a_narrow_window(phone: GalleryPage) -> None:
    phone.open().shows(phone.ask(SAMPLE, width="0.25"))
    for width in ("1.0", "0.5"):
        phone.choose("width", width)
        phone.shows(phone.ask(SAMPLE, width=width))
        expect(phone.page.locator("#output .card").first).to_be_in_viewport(ratio=0.9)
        expect(phone.page.locator(f'input[name="width"][value="{width}"]')).to_be_in_viewport()
        expect(phone.page.locator("#answer .sentence")).to_be_in_viewport()
    covered = """() => document.querySelector("#output .card").getBoundingClientRect().top
      < document.querySelector(".network").getBoundingClientRect().bottom"""
    assert not phone.page.evaluate(covered)


@pytest.mark.parametrize("medians", [[0.4, 0.41, 0.42, 0.43], [0.4, 3.0, 2.0, 9.0], [1.0, 5.0, 20.0, 80.0]])
@pytest.mark.parametrize("window", [400, 1280])
def test_the_marks_of_widths_stand_in_order_and_apart(tab: GalleryPage, window: int, medians: list[float]) -> None:
    tab.page.set_viewport_size({"width": window, "height": 900})
    tab.page.route("**/widths", with_medians(medians))
    tab.open("mode=latency").page.wait_for_selector("#output .card[data-id]")
    for slider in ("latency_ms", "gflops", "min_quality"):
        tab.choose("mode", {"latency_ms": "latency", "min_quality": "quality"}.get(slider, slider))
        labels = tab.page.locator(f"#{slider} .tick")
        expect(labels).to_have_text(list(WIDTHS))
        tab.page.evaluate(AFTER_A_FRAME)  # marks are laid out once their slider can be seen
        for _ in range(50):  # fonts and the figures of the page come after the first layout
            edges = labels.evaluate_all(
                "all => all.map((one) => one.getBoundingClientRect()).map((at) => [at.left, at.right])"
            )
            if all(left[1] < right[0] for left, right in pairwise(edges)):
                break
            tab.page.wait_for_timeout(100)
        assert all(left[1] < right[0] for left, right in pairwise(edges)), edges
        track = tab.page.locator(f"#{slider} .marks").bounding_box()
        assert track["x"] - 1 <= edges[0][0]
        assert edges[-1][1] <= track["x"] + track["width"] + 1
        feet = tab.page.locator(f"#{slider} polyline").evaluate_all(
            "lines => lines.map((line) => Number(line.getAttribute('points').split(',')[0]))"
        )
        assert feet == sorted(feet)


def test_the_slider_of_time_starts_at_what_the_narrowest_width_can_keep(tab: GalleryPage) -> None:
    tab.page.route("**/widths", with_medians([2.0 + 4e-13, 5.0, 20.0, 80.0]))
    tab.page.route("**/search?*", with_overhead(2.0))
    tab.open("mode=latency").page.wait_for_selector("#output .card[data-id]")
    slider = tab.page.locator("#latency_ms")
    slider.locator("input").press("End")
    slider.locator("input").press("Home")
    expect(slider.locator("output")).to_have_text("4.0 ms")
    expect(slider.locator(".tick.within")).to_have_text(["0.25"])


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("mode=latency&latency_ms=1", "Answer within 1.0 ms: no width can"),
        ("mode=gflops&gflops=0.00001", "At most 0.00001 GFLOP: no width can"),
        ("mode=quality&min_quality=100", "At least 100.0 mAP: no width can"),
    ],
)
def test_a_limit_that_no_width_keeps_is_said_to_be_one(tab: GalleryPage, limit: str, said: str) -> None:
    tab.page.route("**/widths", with_medians([2.0, 5.0, 20.0, 80.0]))
    tab.open(limit)
    expect(tab.page.locator(".choice.chosen .budget")).to_have_text(said)
    expect(tab.page.locator(".choice.chosen .tick.within")).to_have_count(0)
