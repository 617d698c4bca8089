"""Searching on the gallery page, as a visitor does, in a real Chromium against a real service."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from sfsc_service.settings import Settings
from tests.service.images import half_a_jpeg
from tests.service.live import Live, running
from tests.system.page.answers import with_medians
from tests.system.page.gallery_page import TOP, WIDTHS, GalleryPage, dragging, shot

pytestmark = pytest.mark.browser

SAMPLE = shot(0, 99)
OTHER = shot(1, 99)
OWN = shot(2, 50)
PAGE_FILES = Path("service/sfsc_service/page")


def test_the_first_view_is_a_search_with_the_narrowest_width(tab: GalleryPage) -> None:
    tab.open().shows(tab.ask(SAMPLE, width="0.25"))
    assert tab.page.url.endswith("#sample=sample-0")
    assert "small network" in tab.texts("h1")[0]
    assert tab.texts("#status-text") == ["ready"]


@pytest.mark.parametrize("width", WIDTHS)
def test_each_width_finds_what_the_service_answers(tab: GalleryPage, width: str) -> None:
    tab.open()
    tab.choose("width", width)
    tab.shows(tab.ask(SAMPLE, width=width))
    expect(tab.page.locator("#matrix tr.current th .badge")).to_contain_text(width)
    work = next(one for one in tab.live.http.get("/widths").json()["widths"] if one["width"] == width)
    assert tab.texts("#cost .meter .value")[0] == f"{work['gflops']:.2g} GFLOP"


def test_hits_of_a_sample_say_whether_they_are_the_same_identity(tab: GalleryPage) -> None:
    answer = tab.ask(SAMPLE, width="0.25")
    tab.open().shows(answer)
    same = [hit["metadata"]["identity"] == "i0" for hit in answer["hits"]]
    assert any(same)
    assert not all(same)
    assert tab.texts(".card .verdict") == ["same identity" if one else "different" for one in same]


def test_every_sample_can_be_chosen(tab: GalleryPage) -> None:
    tab.open()
    tab.choose("sample", "sample sample-1")
    tab.shows(tab.ask(OTHER, width="0.25"))
    assert "i1" in tab.texts("#about dd")
    assert "sample=sample-1" in tab.page.url


def test_a_filter_restricts_hits_and_gallery_until_back_takes_it_away(tab: GalleryPage) -> None:
    tab.open()
    wanted = {"identity": {"$ne": "i0"}}
    box = tab.page.get_by_role("textbox", name="Filter by metadata")
    box.fill(json.dumps(wanted))
    box.press("Enter")
    answer = tab.ask(SAMPLE, width="0.25", filter=json.dumps(wanted))
    assert answer["hits"]
    tab.shows(answer)
    shown = re.escape(json.dumps({"identity": answer["hits"][0]["metadata"]["identity"]}, separators=(",", ":")))
    expect(box).to_have_attribute("placeholder", re.compile(f"such as {shown}$"))
    box.fill('{"identity": "nobody"}')
    box.press("Enter")
    expect(tab.page.get_by_text("No image meets the filter")).to_be_visible()
    expect(tab.page.locator("#cost")).to_be_hidden()
    tab.page.go_back()
    tab.shows(answer)
    box.fill('{"identity": [1]}')
    box.press("Enter")
    expect(tab.page.get_by_role("alert").filter(has_text="filter.identity: must be")).to_be_visible()
    expect(tab.page.get_by_role("alert").locator("code")).to_have_text(re.compile(f"^{shown}$"))
    expect(tab.page.locator("#cost")).to_be_hidden()
    tab.forgive("status of 422")
    box.fill(json.dumps({"$id": answer["hits"][0]["id"]}))
    box.press("Enter")
    expect(tab.page.locator("#answer .across")).to_have_text(re.compile("^This hit was embedded at .* width.$"))
    expect(tab.page.locator("#cost")).to_be_visible()


@pytest.mark.parametrize(("gflops", "width"), [("low", "0.25"), ("high", "1.0")])
def test_a_budget_of_work_is_kept(tab: GalleryPage, gflops: str, width: str) -> None:
    tab.open()
    tab.choose("mode", "gflops")
    tab.page.locator("#gflops input").press("Home" if gflops == "low" else "End")
    tab.shows(tab.ask(SAMPLE, width=width))
    missed = tab.page.locator("#answer .sentence.missed")
    expect(missed).to_have_count(1 if gflops == "low" else 0)
    assert "gflops=" in tab.page.url


def test_a_budget_of_time_is_sent_and_what_came_of_it_is_shown(tab: GalleryPage) -> None:
    tab.page.route("**/widths", with_medians([1.0, 2.0, 3.0, 4.0]))
    tab.open()
    with tab.page.expect_response("**/search?latency_ms=*") as found:
        tab.choose("mode", "latency")
    tab.shows(found.value.json())
    with tab.page.expect_response("**/search?latency_ms=*") as found:
        tab.page.locator("#latency_ms input").press("End")
    tab.shows(found.value.json())
    sent = float(found.value.url.split("latency_ms=")[1].split("&")[0])
    assert tab.texts("#latency_ms output") == [f"{sent:.1f} ms" if sent < 10 else f"{sent:.0f} ms"]


def test_the_service_may_choose(tab: GalleryPage) -> None:
    tab.open()
    with tab.page.expect_response("**/search?k=10") as found:
        tab.choose("mode", "auto")
    tab.shows(found.value.json())
    expect(tab.page.locator("#answer .sentence")).to_contain_text("to answer within 5000 ms")


def test_the_number_of_hits_is_chosen(tab: GalleryPage) -> None:
    tab.open()
    tab.page.locator("#k").select_option("20")
    tab.shows(tab.ask(SAMPLE, k=20, width="0.25"))
    assert "k=20" in tab.page.url


def test_a_least_quality_is_asked_of_the_service(tab: GalleryPage) -> None:
    tab.open()
    tab.choose("mode", "quality")
    tab.page.locator("#min_quality input").press("Home")
    tab.shows(tab.ask(SAMPLE, width="0.25"))
    expect(tab.page.locator("#answer .sentence")).to_contain_text("the cheapest that reaches it")
    with tab.page.expect_response("**/search?min_quality=*") as found:
        tab.page.locator("#min_quality input").press("End")
    tab.shows(found.value.json())
    expect(tab.page.locator("#answer .sentence.missed")).to_contain_text("because no width reaches that")


def test_all_widths_side_by_side(tab: GalleryPage) -> None:
    tab.open()
    tab.choose("view", "compare")
    for width in WIDTHS:
        row = tab.page.locator(f'.width-row[data-width="{width}"]')
        expect(row.locator(".card[data-id]")).to_have_count(TOP)
        answer = tab.ask(SAMPLE, k=TOP, width=width)
        shown = row.locator(".card").evaluate_all("cards => cards.map((card) => card.dataset.id)")
        assert shown == [hit["id"] for hit in answer["hits"]]
        same = sum(hit["metadata"]["identity"] == "i0" for hit in answer["hits"])
        expect(row.locator(".found")).to_have_text(f"{same} of {TOP} same identity")
        expect(row.locator(".value").first).to_contain_text("GFLOP")
        expect(row.locator(".value").last).to_contain_text("ms")
    medians = {one["width"]: one["batch_ms"]["1"] for one in tab.live.http.get("/widths").json()["widths"]}
    for width, shown in zip(WIDTHS, tab.texts(".width-row .row:nth-of-type(2) .value"), strict=True):
        assert float(shown.split()[0]) == pytest.approx(medians[width], rel=0.1, abs=0.06)


def test_the_matrix_is_the_bundles(tab: GalleryPage) -> None:
    quality = tab.live.http.get("/widths").json()["quality"]
    tab.open()
    for metric in ("rank1", "mean_ap"):
        tab.choose("metric", metric)
        expect(tab.page.locator("#matrix caption")).to_contain_text({"rank1": "rank-1", "mean_ap": "mAP"}[metric])
        assert tab.texts("#matrix .cell") == [f"{value:.1f}" for row in quality[metric] for value in row]
        mixed = zip(quality["mixed"][metric], quality["mixed"][f"{metric}_spread"], strict=True)
        assert tab.texts("#matrix td.mixed") == [f"{mean:.1f}\n± {spread:.1f}" for mean, spread in mixed]
    assert [text.split()[-1] for text in tab.texts("#matrix thead th")] == [*WIDTHS, "mixed"]


def test_what_the_gallery_is_made_of(tab: GalleryPage) -> None:
    gallery = tab.live.http.get("/widths").json()["gallery"]
    tab.open()
    assert tab.texts("#composition-count") == [f"{gallery['items']} images"]
    counts = [text.split()[-3] for text in tab.texts("#composition-legend li")]
    assert counts == [str(gallery["widths"][width]) for width in WIDTHS]
    parts = tab.page.locator("#composition-bar span").evaluate_all("all => all.map((one) => one.offsetWidth)")
    shares = [gallery["widths"][width] / gallery["items"] for width in WIDTHS]
    assert [part / sum(parts) for part in parts] == pytest.approx(shares, abs=0.02)


def test_metadata_are_shown_on_demand_and_only_ever_as_text(tab: GalleryPage) -> None:
    tab.open().shows(tab.ask(SAMPLE, width="0.25"))
    facts = tab.page.locator(".card .facts").first
    expect(facts).to_be_hidden()
    tab.page.locator("#details").check()
    expect(facts).to_be_visible()
    expect(facts).to_contain_text("<img src=x onerror")
    assert tab.page.locator('img[src="x"]').count() == 0
    assert tab.page.title().startswith("sfsc")


def test_more_like_a_hit_leaves_the_hit_itself_out(tab: GalleryPage) -> None:
    first = tab.ask(SAMPLE, width="0.25")["hits"][0]["id"]
    tab.open()
    tab.page.locator(f'.card[data-id="{first}"] button').click()
    tab.shows(tab.without(first, width="0.25"))
    assert f"item={first}" in tab.page.url
    tab.choose("view", "compare")
    expect(tab.page.locator(".width-row .card[data-id]")).to_have_count(TOP * len(WIDTHS))
    assert first not in tab.shown_ids()


def test_an_image_of_ones_own_from_a_file(tab: GalleryPage) -> None:
    tab.open()
    own = {"name": "mine.png", "mimeType": "image/png", "buffer": OWN}
    tab.page.locator("#file").set_input_files(own)
    tab.shows(tab.ask(OWN, width="0.25"))
    assert "mine.png" in tab.texts("#about dd")
    assert tab.page.locator("#preview img").evaluate("image => image.naturalWidth") == 96
    assert tab.texts(".verdict") == []
    assert "sample" not in tab.page.url


def test_an_image_of_ones_own_from_the_clipboard(tab: GalleryPage) -> None:
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.open()
    copy = """(bytes) => navigator.clipboard.write([new ClipboardItem({
      "image/png": new Blob([new Uint8Array(bytes)], { type: "image/png" }) })])"""
    tab.page.evaluate(copy, list(OWN))
    tab.page.keyboard.press("Control+V")
    tab.shows(tab.ask(OWN, width="0.25"))


def test_an_image_of_ones_own_dropped_on_the_page(tab: GalleryPage) -> None:
    tab.open()
    with dragging(tab.page, {"dropped.png": OWN}, '[data-drop="search"]'):
        expect(tab.page.locator(".dropping")).to_be_visible()
    expect(tab.page.locator(".dropping")).to_be_hidden()
    tab.shows(tab.ask(OWN, width="0.25"))
    assert "dropped.png" in tab.texts("#about dd")


@pytest.mark.parametrize("broken", [half_a_jpeg(), b"not an image at all"])
def test_a_broken_image_is_answered_with_the_services_sentence(tab: GalleryPage, broken: bytes) -> None:
    problem = tab.live.post_image("/search", broken).json()
    tab.open()
    tab.page.locator("#file").set_input_files({"name": "x.jpg", "mimeType": "image/jpeg", "buffer": broken})
    expect(tab.page.get_by_role("alert").filter(has_text=problem["detail"])).to_be_visible()
    expect(tab.page.locator("#problem strong")).to_have_text(f"{problem['title']}.")
    assert tab.page.locator(".card").count() == 0
    tab.choose("sample", "sample sample-1")
    tab.shows(tab.ask(OTHER, width="0.25"))
    expect(tab.page.locator("#problem")).to_be_hidden()
    tab.forgive("status of 4")


def test_a_view_can_be_shared_by_its_address(tab: GalleryPage, browser: Browser) -> None:
    tab.open("sample=sample-1&mode=gflops&gflops=0.05&metric=rank1&details=1")
    tab.shows(tab.ask(OTHER, width="0.75"))
    tab.page.evaluate("location.hash = '#sample=sample-0&width=1.0&nonsense=1&view=upside-down'")
    tab.shows(tab.ask(SAMPLE, width="1.0"))
    expect(tab.page.locator("#details")).not_to_be_checked()
    with browser.new_context() as context:
        again = GalleryPage(context.new_page(), tab.live)
        again.page.goto(tab.page.url)
        again.shows(tab.ask(SAMPLE, width="1.0"))
    assert again.told == []


def test_an_address_with_a_width_that_there_is_not(tab: GalleryPage) -> None:
    tab.open("width=0.33")
    expect(tab.page.locator("#problem")).to_contain_text("must be one of 0.25, 0.5, 0.75, 1.0, found 0.33")
    tab.choose("width", "0.5")
    tab.shows(tab.ask(SAMPLE, width="0.5"))
    tab.forgive("status of 422")


def test_an_empty_gallery_says_so_until_it_fills(browser: Browser, settings: Settings, tmp_path: Path) -> None:
    empty = settings.model_copy(update={"data": tmp_path / "data"})
    with running(empty) as live, browser.new_context() as context:
        tab = GalleryPage(context.new_page(), live).open()
        expect(tab.page.locator("#output")).to_contain_text("The gallery is empty")
        assert tab.texts("#composition-count") == ["0 images"]
        assert live.put_image("/items/first", OWN, width="1.0").status_code == 200
        tab.shows(tab.ask(SAMPLE, width="0.25"))
        expect(tab.page.locator("#composition-count")).to_have_text("1 image")
    assert tab.told == []


def test_a_service_that_is_not_ready_is_waited_for(tab: GalleryPage) -> None:
    reasons = ["no canary image has come back lately"]
    failing = {"status": 503, "json": {"status": "failing", "reasons": reasons}}
    tab.page.route("**/readyz", lambda route: route.fulfill(**failing))
    tab.page.route("**/widths", lambda route: route.abort())
    tab.page.goto(tab.live.url)
    expect(tab.page.get_by_role("alert").filter(has_text=reasons[0])).to_be_visible()
    assert tab.texts("#status-text") == ["not ready"]
    tab.page.unroute_all()
    tab.shows(tab.ask(SAMPLE, width="0.25"))
    expect(tab.page.locator("#banner")).to_be_hidden()
    tab.forgive("status of 503")
    tab.forgive("ERR_FAILED")


def test_a_full_queue_can_be_tried_again(tab: GalleryPage) -> None:
    problem = {"title": "The queue is full", "detail": "queue: 2000 ms wait already", "code": "queue_full"}

    def refuse(route: Route) -> None:
        headers = {"Content-Type": "application/problem+json", "Retry-After": "1"}
        route.fulfill(status=429, headers=headers, body=json.dumps(problem))

    tab.page.route("**/search?*", refuse)
    tab.open()
    expect(tab.page.locator("#problem")).to_contain_text("The queue is full. queue: 2000 ms wait already")
    tab.page.unroute_all()
    tab.page.get_by_role("button", name="Try again").click()
    tab.shows(tab.ask(SAMPLE, width="0.25"))
    tab.forgive("status of 429")


def test_a_service_that_has_gone(tab: GalleryPage) -> None:
    tab.open().shows(tab.ask(SAMPLE, width="0.25"))
    tab.page.route("**/search?*", lambda route: route.abort())
    tab.choose("width", "1.0")
    expect(tab.page.locator("#problem")).to_contain_text("The service cannot be reached.")
    tab.forgive("ERR_FAILED")


def test_the_page_is_small_and_every_module_is_fetched_ahead(service: Live) -> None:
    index = service.http.get("/").text
    files = [path for path in PAGE_FILES.rglob("*") if path.is_file()]
    for module in PAGE_FILES.glob("js/*.js"):
        assert f'"js/{module.name}"' in index
    assert sum(path.stat().st_size for path in files) < 150_000
    assert max(len(path.read_text().splitlines()) for path in files) <= 400
    policy = service.http.get("/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
