"""The gallery on the page: browse it, add to it, delete from it, and search with what it holds."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from sfsc_service.settings import Settings
from tests.service.live import running
from tests.system.page.gallery_page import GalleryPage, dragging, fill, shot

pytestmark = pytest.mark.browser

PAGE = 24
OWN = shot(3, 70)
HOSTILE_NAME = "<img src=x onerror=document.title=1>.png"


def ids(tab: GalleryPage) -> list[str]:
    return [item["id"] for item in tab.live.http.get("/items").json()["items"]]


def settled(tab: GalleryPage, expected: list[str]) -> None:
    tab.page.wait_for_function(
        "(ids) => JSON.stringify([...document.querySelectorAll('#output [data-id]')].map((one) => one.dataset.id))"
        " === JSON.stringify(ids)",
        arg=expected,
    )


def test_the_gallery_is_browsed_page_by_page(tab: GalleryPage) -> None:
    everything = ids(tab)
    assert PAGE < len(everything) < 2 * PAGE
    tab.open("view=gallery")
    settled(tab, everything[:PAGE])
    tab.page.get_by_role("button", name="Next").click()
    settled(tab, everything[PAGE:])
    expect(tab.page.get_by_role("button", name="Next")).to_be_disabled()
    address = tab.page.url
    tab.page.get_by_role("button", name="Previous").click()
    settled(tab, everything[:PAGE])
    tab.page.go_back()
    settled(tab, everything[PAGE:])
    tab.page.goto("about:blank")
    tab.page.goto(address)
    settled(tab, everything[PAGE:])


def test_an_image_of_the_gallery_is_searched_with(tab: GalleryPage) -> None:
    tab.open("view=gallery")
    first = ids(tab)[0]
    tab.page.get_by_role("button", name=f"More like this: {first}", exact=True).click()
    tab.shows(tab.without(first, width="0.25"))
    tab.page.wait_for_function("() => document.activeElement.id === 'results'")


def test_an_item_is_deleted_after_a_question(own: GalleryPage) -> None:
    before = ids(own)
    own.open("view=gallery")
    settled(own, before[:PAGE])
    remove = own.page.locator(f'[data-id="{before[1]}"] .remove')
    remove.click()
    expect(own.page.get_by_role("alertdialog")).to_contain_text(f"Delete {before[1]}?")
    assert own.focused()["id"] == "confirm-no"
    own.page.keyboard.press("Escape")
    expect(own.page.get_by_role("alertdialog")).to_be_hidden()
    assert own.focused()["item"] == before[1]
    assert ids(own) == before
    remove.click()
    own.page.get_by_role("button", name="Delete", exact=True).last.click()
    expect(own.page.locator("#composition-count")).to_have_text(f"{len(before) - 1} images")
    assert own.focused()["item"] == before[2]
    assert ids(own) == [before[0], *before[2:]]


def test_files_are_added_with_one_identity_and_a_result_each(own: GalleryPage) -> None:
    own.open("view=gallery")
    before = len(ids(own))
    files = {"a b.png": OWN, HOSTILE_NAME: shot(3, 71), "broken.png": b"not an image"}
    with dragging(own.page, files, '[data-drop="add"]'):
        expect(own.page.locator('[data-drop="add"]')).to_have_class("over")
    dialog = own.page.get_by_role("dialog", name="Add images to the gallery")
    expect(dialog).to_contain_text("3 files")
    dialog.get_by_label("Identity").fill("mine")
    dialog.get_by_label("Embedded at width").select_option("0.75")
    dialog.get_by_role("button", name="Add").click()
    expect(dialog.get_by_role("status")).to_have_text("2 of 3 files added, 1 left out.")
    for name in ("a b.png", HOSTILE_NAME):
        expect(dialog.get_by_role("listitem").filter(has_text=name)).to_contain_text("added at width 0.75")
        item = own.live.http.get(f"/items/{name.replace(' ', '%20')}").json()
        assert (item["metadata"], item["width"]) == ({"identity": "mine"}, "0.75")
    problem = own.live.put_image("/items/x", b"not an image").json()
    expect(dialog.get_by_role("listitem").filter(has_text="broken.png")).to_contain_text(problem["detail"])
    expect(own.page.locator("#composition-count")).to_have_text(f"{before + 2} images")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    expect(own.page.locator('#output [data-id="a b.png"]')).to_be_visible()
    assert own.page.locator('img[src="x"]').count() == 0
    assert own.page.title().startswith("sfsc")
    own.forgive("status of 4")


def test_a_file_of_the_same_name_replaces_the_item_and_no_identity_is_none(own: GalleryPage) -> None:
    own.open("view=gallery")
    for verb in ("added", "replaced"):
        own.page.locator("#files").set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": OWN})
        own.page.locator("#adding-start").click()
        expect(own.page.locator("#adding-results li")).to_contain_text(verb)
        own.page.locator("#adding-cancel").click()
    assert own.live.http.get("/items/mine.png").json()["metadata"] == {}


def test_several_files_dropped_anywhere_are_to_be_added_and_nothing_is_before_it_is_said(own: GalleryPage) -> None:
    own.open()
    before = ids(own)
    with dragging(own.page, {"one.png": OWN, "two.png": OWN}, "h1"):
        pass
    expect(own.page.locator("#adding")).to_be_visible()
    own.page.keyboard.press("Escape")
    expect(own.page.locator("#adding")).to_be_hidden()
    assert ids(own) == before


def test_a_busy_service_is_asked_again_and_what_is_too_large_is_not_sent(own: GalleryPage) -> None:
    problem = {"title": "The queue is full", "detail": "queue: 2000 ms wait already", "code": "queue_full"}
    refused = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route.request.url)
        headers = {"Content-Type": "application/problem+json", "Retry-After": "1"}
        route.fulfill(status=429, headers=headers, body=json.dumps(problem))

    def small_limit(route: Route) -> None:
        document = route.fetch().json()
        document["limits"]["max_image_bytes"] = len(OWN)
        route.fulfill(json=document)

    own.page.route("**/items/mine.png?*", refuse_once)
    own.page.route("**/widths", small_limit)
    own.open("view=gallery")
    files = {"mine.png": OWN, "large.png": OWN + b"0"}
    with dragging(own.page, files, '[data-drop="add"]'):
        pass
    own.page.locator("#adding-start").click()
    expect(own.page.locator("#adding-status")).to_have_text("1 of 2 files added, 1 left out.")
    expect(own.page.locator("#adding-results .left-out")).to_contain_text("large.png")
    assert len(refused) == 1
    own.forgive("status of 429")


def test_adding_can_be_stopped(own: GalleryPage) -> None:
    held: list[Route] = []
    own.page.route("**/items/held*", lambda route: held.append(route))
    own.open("view=gallery")
    files = {"0.png": OWN, **{f"held-{n}.png": OWN for n in range(5)}}
    with dragging(own.page, files, '[data-drop="add"]'):
        pass
    own.page.locator("#adding-start").click()
    expect(own.page.locator("#adding-status")).to_have_text("1 of 6 files added.")
    own.page.keyboard.press("Escape")
    expect(own.page.locator("#adding")).to_be_visible()
    own.page.get_by_role("button", name="Stop", exact=True).first.click()
    expect(own.page.locator("#adding-status")).to_have_text("Stopped. 1 of 6 files added.")
    own.page.get_by_role("button", name="Close").click()
    expect(own.page.locator("#adding")).to_be_hidden()
    assert held
    for route in held:
        route.abort()  # a page waits for its handlers when it ends


def test_without_samples_the_page_opens_on_an_image_of_its_gallery(
    browser: Browser, settings: Settings, tmp_path: Path
) -> None:
    bare = settings.model_copy(update={"data": tmp_path / "data", "samples": None})
    with running(bare) as live, browser.new_context() as context:
        tab = GalleryPage(context.new_page(), live)
        tab.open()
        expect(tab.page.locator("#output")).to_contain_text("The gallery is empty")
        fill(live)
        first = ids(tab)[0]
        tab.shows(tab.without(first, width="0.25"))
        tab.page.reload()  # the samples were taken while the gallery was filled
        expect(tab.page.locator(".sample input")).to_have_count(12)
        identities = tab.page.locator(".sample input").evaluate_all("all => all.map((one) => one.value)")
        assert len({name.split("-")[0] for name in identities[:7]}) == 7
    assert tab.told == []


def test_a_sample_that_is_an_item_leaves_the_item_out(
    browser: Browser, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "own.png").write_bytes(shot(2, 1))
    listing = tmp_path / "gallery.json"
    listing.write_text(json.dumps({"queries": [{"file": "own.png", "item": "i2-s1", "identity": "i2"}]}))
    sampled = settings.model_copy(update={"data": tmp_path / "data", "samples": listing})
    with running(sampled) as live, browser.new_context() as context:
        tab = GalleryPage(context.new_page(), live)
        fill(live)
        tab.open().shows(tab.without("i2-s1", width="0.25"))
    assert tab.told == []


def test_an_item_without_an_image_is_searched_with_by_its_vector(own: GalleryPage) -> None:
    embedded = own.live.post_image("/embed", OWN, width="0.5").json()
    vector = {"vector": embedded["results"][0]["embedding"], "width": "0.5", "space": embedded["space"]}
    assert own.live.http.put("/items/bare", json=vector).status_code == 200
    answer = own.live.http.post("/search", params={"id": "bare", "k": 10}).json()
    own.open("item=bare")
    own.shows(answer)
    expect(own.page.locator("#answer")).to_contain_text("Searched with the stored vector")
    own.choose("view", "compare")
    expect(own.page.locator("#problem")).to_contain_text("This item has no image")
