"""Back, Forward and the focus on the gallery page go where people expect them to."""

import pytest
from playwright.sync_api import expect

from tests.system.page.gallery_page import HITS, WIDTHS, GalleryPage, shot

pytestmark = pytest.mark.browser

SAMPLE = shot(0, 99)
OTHER = shot(1, 99)
OWN = shot(2, 50)


def test_back_leads_to_the_hits_and_to_the_one_that_was_chosen(tab: GalleryPage) -> None:
    before = tab.ask(SAMPLE, width="0.25")
    tab.open().shows(before)
    chosen = before["hits"][2]["id"]
    tab.page.locator(f'.card[data-id="{chosen}"] button').press("Enter")
    tab.shows(tab.without(chosen, width="0.25"))
    tab.page.wait_for_function("() => document.activeElement.id === 'results'")
    tab.page.go_back()
    tab.shows(before)
    tab.page.wait_for_function("() => document.activeElement.className === 'again'")
    assert tab.focused()["item"] == chosen
    tab.page.go_forward()
    tab.shows(tab.without(chosen, width="0.25"))


def test_back_takes_back_a_view_a_width_and_a_query_but_no_setting(tab: GalleryPage) -> None:
    tab.open().shows(tab.ask(SAMPLE, width="0.25"))
    tab.choose("width", "1.0")
    tab.shows(tab.ask(SAMPLE, width="1.0"))
    tab.choose("sample", "sample sample-1")
    tab.shows(tab.ask(OTHER, width="1.0"))
    tab.choose("metric", "rank1")
    tab.page.locator("#k").select_option("5")
    tab.choose("view", "gallery")
    expect(tab.page.locator("#results-title")).to_have_text("The gallery")
    tab.page.go_back()
    tab.shows(tab.ask(OTHER, k=5, width="1.0"))
    tab.page.go_back()
    tab.shows(tab.ask(SAMPLE, width="1.0"))
    tab.page.go_back()
    tab.shows(tab.ask(SAMPLE, width="0.25"))


def test_held_arrow_keys_make_one_step(tab: GalleryPage) -> None:
    tab.open().shows(tab.ask(SAMPLE, width="0.25"))
    tab.page.locator('input[name="width"]:checked').focus()
    for _ in WIDTHS[1:]:
        tab.page.keyboard.press("ArrowDown")
    tab.shows(tab.ask(SAMPLE, width=WIDTHS[-1]))
    tab.page.go_back()
    tab.shows(tab.ask(SAMPLE, width="0.25"))


def test_an_image_of_ones_own_is_there_again_after_forward_and_is_gone_after_a_reload(tab: GalleryPage) -> None:
    tab.open().shows(tab.ask(SAMPLE, width="0.25"))
    tab.page.locator("#file").set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": OWN})
    tab.shows(tab.ask(OWN, width="0.25"))
    tab.page.go_back()
    tab.shows(tab.ask(SAMPLE, width="0.25"))
    tab.page.go_forward()
    tab.shows(tab.ask(OWN, width="0.25"))
    tab.page.reload()
    tab.shows(tab.ask(SAMPLE, width="0.25"))


def test_the_skip_link_moves_the_focus_and_leaves_the_view(tab: GalleryPage) -> None:
    tab.open("sample=sample-1&width=0.5").shows(tab.ask(OTHER, width="0.5"))
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_function("() => document.activeElement.id === 'results'")
    assert tab.page.url.endswith("#sample=sample-1&width=0.5")


def test_a_choice_leaves_the_focus_where_it_is(tab: GalleryPage) -> None:
    tab.open().shows(tab.ask(SAMPLE, width="0.25"))
    tab.page.locator("#k").focus()
    tab.page.locator("#k").select_option("5")
    tab.shows(tab.ask(SAMPLE, k=5, width="0.25"))
    assert tab.focused()["id"] == "k"
    assert len(tab.shown_ids()) == 5 < HITS
