"""The gallery page of a service that asks for a key."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from sfsc_service.http.keys import file_line, make_key
from sfsc_service.settings import Settings
from tests.service.live import Live, running
from tests.system.page.gallery_page import HITS, GalleryPage, fill, shot

pytestmark = pytest.mark.browser

SAMPLE = shot(0, 99)


@pytest.fixture(scope="module")
def guarded(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, str]]:
    """A service with a gallery, and a key that may read."""
    folder = tmp_path_factory.mktemp("guarded")
    (reader, may_read), (owner, may_all) = make_key(["read"]), make_key(["read", "write", "admin"])
    (folder / "keys.toml").write_text(f"{file_line('visitor', may_read)}\n{file_line('owner', may_all)}\n")
    own = settings.model_copy(update={"data": folder / "data", "keys": folder / "keys.toml"})
    with running(own) as live:
        live.http.headers["X-API-Key"] = owner
        fill(live)
        yield live, reader


def locked_tab(browser: Browser, live: Live) -> Iterator[GalleryPage]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        tab = GalleryPage(context.new_page(), live)
        tab.page.goto(live.url)
        expect(tab.page.locator("#key")).to_be_visible()
        yield tab


@pytest.fixture
def locked(browser: Browser, guarded: tuple[Live, str]) -> Iterator[GalleryPage]:
    """A tab that waits for a key."""
    yield from locked_tab(browser, guarded[0])


def give(tab: GalleryPage, key: str) -> None:
    tab.page.locator("#key-input").fill(key)
    tab.page.locator("#key-input").press("Enter")


def test_the_page_asks_for_a_key_and_then_works_with_its_images(
    locked: GalleryPage, guarded: tuple[Live, str]
) -> None:
    expect(locked.page.locator("#key-reason")).to_have_text("A key is needed")
    give(locked, "sfsc_wrong")
    expect(locked.page.locator("#key-reason")).to_have_text("The key is not known")
    give(locked, guarded[1])
    locked.page.wait_for_selector("html[data-interactive]")
    locked.shows(locked.ask(SAMPLE, width="0.25"))
    expect(locked.page.locator("#output .card img")).to_have_count(HITS)
    for image in locked.page.locator("#output .card img, #samples img").all():
        expect(image).not_to_have_js_property("naturalWidth", 0)
    assert guarded[1] not in locked.page.content()
    kept = locked.page.evaluate("[Object.values(localStorage), document.cookie, Object.values(sessionStorage)]")
    assert kept == [[], "", [guarded[1]]]


def test_the_key_is_kept_for_the_tab_and_not_for_another(locked: GalleryPage, guarded: tuple[Live, str]) -> None:
    give(locked, guarded[1])
    locked.page.wait_for_selector("html[data-interactive]")
    locked.page.reload()
    locked.page.wait_for_selector("html[data-interactive]")
    expect(locked.page.locator("#key")).to_be_hidden()
    another = locked.page.context.new_page()
    another.goto(guarded[0].url)
    expect(another.locator("#key")).to_be_visible()


def test_who_gives_no_key_is_told_so_and_not_asked_again(locked: GalleryPage) -> None:
    locked.page.locator("#key-no").click()
    expect(locked.page.locator("#problem")).to_contain_text("A key is needed")
    expect(locked.page.locator("#key")).to_be_hidden()


def test_what_the_key_does_not_allow_is_said(locked: GalleryPage, guarded: tuple[Live, str]) -> None:
    give(locked, guarded[1])
    locked.page.wait_for_selector("html[data-interactive]")
    locked.page.locator("#traffic").scroll_into_view_if_needed()
    expect(locked.page.locator("#traffic-now")).to_contain_text("must have the scope admin, found read")
